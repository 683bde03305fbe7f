import Numerics

/// The 4-bit data types of bitsandbytes. Raw values are the names in recipes and checkpoints.
public enum FourBitKind: String, Sendable, CaseIterable {
  case nf4
  case fp4
  /// Uniform steps, the baseline of the QLoRA paper's comparison; no checkpoint format stores it.
  case int4
}

/// A frozen matrix in 4 bits, in the memory layout of bitsandbytes (spec of `quantize_4bit`).
///
/// Element 2k of the flattened row-major [out, in] matrix is the high nibble of byte k. One absolute maximum per
/// block of `blockSize` consecutive elements; with double quantization the maxima are 8-bit codes with nested
/// maxima per 256 of them and one offset.
///
/// An object: it is handed on several times for each product, and a value would have six references counted each time.
public final class QuantizedOperand: @unchecked Sendable {
  public let kind: FourBitKind
  /// [out, in]
  public let shape: [Int]
  public let blockSize: Int
  /// u8 [(out * in + 1) / 2]
  public let codes: Tensor
  /// f32 [16]
  public let codebook: Tensor
  /// f32 [blocks], or u8 [blocks] with double quantization
  public let absmax: Tensor
  /// Second level, when `absmax` is u8: f32 [ceil(blocks / 256)], the 256-entry map, the offset.
  public let nested: Nested?
  /// The same as addresses for kernels, valid as long as this object.
  public let pointers: UnsafePointer<QuantizedWeightPointers>

  public struct Nested: Sendable {
    public let absmax: Tensor
    public let map: Tensor
    public let offset: Float
    public let blockSize: Int

    public init(absmax: Tensor, map: Tensor, offset: Float, blockSize: Int = 256) {
      self.absmax = absmax
      self.map = map
      self.offset = offset
      self.blockSize = blockSize
    }
  }

  public init(
    kind: FourBitKind, shape: [Int], blockSize: Int, codes: Tensor, codebook: Tensor, absmax: Tensor, nested: Nested?
  ) {
    self.kind = kind
    self.shape = shape
    self.blockSize = blockSize
    self.codes = codes
    self.codebook = codebook
    self.absmax = absmax
    self.nested = nested
    func floats(_ tensor: Tensor) -> UnsafePointer<Float> {
      UnsafePointer(tensor.address.assumingMemoryBound(to: Float.self))
    }
    func bytes(_ tensor: Tensor) -> UnsafePointer<UInt8> {
      UnsafePointer(tensor.address.assumingMemoryBound(to: UInt8.self))
    }
    let pointers = UnsafeMutablePointer<QuantizedWeightPointers>.allocate(capacity: 1)
    pointers.initialize(
      to: QuantizedWeightPointers(
        codes: bytes(codes), out: shape[0], in: shape.dropFirst().reduce(1, *), blockSize: blockSize,
        codebook: floats(codebook), absmax: nested == nil ? floats(absmax) : nil,
        absmaxCodes: nested == nil ? nil : bytes(absmax), nestedAbsmax: nested.map { floats($0.absmax) },
        nestedMap: nested.map { floats($0.map) }, offset: nested?.offset ?? 0,
        nestedBlockSize: nested?.blockSize ?? 256))
    self.pointers = UnsafePointer(pointers)
  }

  deinit { pointers.deallocate() }

  public var elementCount: Int { shape.reduce(1, *) }
  /// Bytes of codes and statistics.
  public var byteCount: Int {
    codes.byteCount + absmax.byteCount + (nested.map { $0.absmax.byteCount + 4 } ?? 0)
  }
}
