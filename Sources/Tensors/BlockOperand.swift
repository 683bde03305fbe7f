import Synchronization

/// Where the rows of a matrix in a block format lie; `Part` is what holds bytes of a file.
public enum BlockRows<Part> {
  /// One after another.
  case inOrder
  /// The same; the stored row of each row. llama.cpp pairs the halves of each head of q and k for its rotary embedding.
  case reordered([Int32])
  /// The even rows one after another, and the odd ones in this part: gate and up of gpt-oss in a GGUF file.
  case alternating(with: Part)
  /// Blocks of MXFP4 without their scales, neighbours in one byte; the scales, a byte for each block, are this part. So
  /// gpt-oss is stored in safetensors.
  case scaledApart(by: Part)

  /// The part besides the first.
  public var second: Part? {
    switch self {
    case .inOrder, .reordered: nil
    case .alternating(let part), .scaledApart(let part): part
    }
  }

  /// The same with another kind of part.
  /// - Throws: what `make` throws.
  public func map<Other>(_ make: (Part) throws -> Other) rethrows -> BlockRows<Other> {
    switch self {
    case .inOrder: .inOrder
    case .reordered(let order): .reordered(order)
    case .alternating(let part): .alternating(with: try make(part))
    case .scaledApart(let part): .scaledApart(by: try make(part))
    }
  }
}

extension BlockRows: Sendable where Part: Sendable {}

/// A frozen matrix in a block format of ggml, in the bytes of its file, decoded in tiles as products need it.
///
/// An object: it is handed on several times for each product, as `QuantizedOperand` is.
public final class BlockOperand: @unchecked Sendable {
  /// The format of all rows; one that has blocks.
  public let format: GGMLType
  /// [out, in], with `in` a multiple of the format's block size.
  public let shape: [Int]
  /// u8: the stored rows, or the first part of them.
  public let bytes: Tensor
  /// How they are stored. Products have the rows of the Hugging Face tensor.
  public let rows: BlockRows<Tensor>
  private let form = AtomicLazyReference<AnyObject>()

  /// A matrix of the given parts, which are not checked.
  public init(format: GGMLType, shape: [Int], bytes: Tensor, rows: BlockRows<Tensor> = .inOrder) {
    self.format = format
    self.shape = shape
    self.bytes = bytes
    self.rows = rows
  }

  /// See `QuantizedOperand.deviceForm`.
  package func deviceForm(_ make: () -> AnyObject) -> AnyObject {
    if let form = form.load() { return form }
    return form.storeIfNil(make())
  }

  /// Bytes of a stored row, without scales that lie apart.
  public var pitch: Int {
    let blocks = shape[1] / format.blockSize
    if case .scaledApart = rows { return blocks * (format.blockBytes - 1) }
    return blocks * format.blockBytes
  }
  /// Bytes of all rows.
  public var byteCount: Int { shape[0] * (shape[1] / format.blockSize) * format.blockBytes }

  /// The matrix, rounded once to `dtype`, a float one.
  /// - Throws: `TensorError.outOfMemory`; what the device reports.
  public func dequantized(to dtype: DType = .f32, category: MemoryCategory = .activations) throws -> Tensor {
    let y = try Tensor(empty: shape, dtype: dtype, category: category, on: bytes.backend)
    try bytes.backend.decodeBlocks(self, ids: nil, into: y)
    return y
  }

  /// Decodes one row on the host, element by element, to `in` floats; `first` are the bytes of `bytes`, `second` those
  /// of the other part, where there is one.
  func decodeRow(
    _ row: Int, _ first: UnsafeRawPointer, _ second: UnsafeRawPointer?, into out: UnsafeMutablePointer<Float>
  ) {
    let blocks = shape[1] / format.blockSize
    var (base, stored) = (first, row)
    switch rows {
    case .inOrder: break
    case .reordered(let order): stored = Int(order[row])
    case .alternating: (base, stored) = (row % 2 == 0 ? first : second ?? first, row / 2)
    case .scaledApart:
      guard let second else { return }
      return BlockDecoder.runApart(first + row * pitch, scales: second + row * blocks, blocks: blocks, into: out)
    }
    BlockDecoder.run(format, base + stored * pitch, blocks: blocks, into: out)
  }
}
