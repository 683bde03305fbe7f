import Synchronization

/// A frozen matrix in a block format of ggml, in the bytes of a GGUF file, decoded in tiles as products need it.
///
/// An object: it is handed on several times for each product, as `QuantizedOperand` is.
public final class BlockOperand: @unchecked Sendable {
  /// The format of all rows; one that has blocks.
  public let format: GGMLType
  /// [out, in], with `in` a multiple of the format's block size.
  public let shape: [Int]
  /// u8 [out * in / block size * block bytes]: stored rows one after another.
  public let bytes: Tensor
  /// The stored row of each row, where the file has them in another order: llama.cpp pairs the halves of each head of q
  /// and k for its rotary embedding. Products have the rows of the Hugging Face tensor.
  public let order: [Int32]?
  private let form = AtomicLazyReference<AnyObject>()

  /// A matrix of the given parts, which are not checked.
  public init(format: GGMLType, shape: [Int], bytes: Tensor, order: [Int32]?) {
    self.format = format
    self.shape = shape
    self.bytes = bytes
    self.order = order
  }

  /// See `QuantizedOperand.deviceForm`.
  package func deviceForm(_ make: () -> AnyObject) -> AnyObject {
    if let form = form.load() { return form }
    return form.storeIfNil(make())
  }

  /// Bytes of a stored row.
  public var pitch: Int { shape[1] / format.blockSize * format.blockBytes }
  /// Bytes of all rows.
  public var byteCount: Int { shape[0] * pitch }

  /// The matrix, rounded once to `dtype`, a float one.
  /// - Throws: `TensorError.outOfMemory`; what the device reports.
  public func dequantized(to dtype: DType = .f32, category: MemoryCategory = .activations) throws -> Tensor {
    let y = try Tensor(empty: shape, dtype: dtype, category: category, on: bytes.backend)
    try bytes.backend.decodeBlocks(self, ids: nil, into: y)
    return y
  }
}
