import Synchronization

/// The 4-bit data types of bitsandbytes. Raw values are the names in recipes and checkpoints.
public enum FourBitKind: String, Sendable, CaseIterable {
  /// Quantiles of a normal distribution (Dettmers et al. 2023, appendix E).
  case nf4
  /// Sign, two bits of exponent, one of mantissa.
  case fp4
  /// Uniform steps, the baseline of the QLoRA paper's comparison; no checkpoint format stores it.
  case int4

  /// Those that bitsandbytes' checkpoints hold.
  package static let stored: [FourBitKind] = [.nf4, .fp4]
}

/// A frozen matrix in 4 bits, in the memory layout of bitsandbytes (spec of `quantize_4bit`).
///
/// Element 2k of the flattened row-major [out, in] matrix is the high nibble of byte k. One absolute maximum per
/// block of `blockSize` consecutive elements; with double quantization the maxima are 8-bit codes with nested
/// maxima per 256 of them and one offset.
///
/// An object: it is handed on several times for each product, and a value would have six references counted each time.
public final class QuantizedOperand: @unchecked Sendable {
  /// The data type of the codes.
  public let kind: FourBitKind
  /// [out, in]
  public let shape: [Int]
  /// Elements per entry of `absmax`; even.
  public let blockSize: Int
  /// u8 [(out * in + 1) / 2]
  public let codes: Tensor
  /// f32 [16]
  public let codebook: Tensor
  /// f32 [blocks], or u8 [blocks] with double quantization
  public let absmax: Tensor
  /// Second level, when `absmax` is u8: f32 [ceil(blocks / 256)], the 256-entry map, the offset.
  public let nested: Nested?
  private let form = AtomicLazyReference<AnyObject>()

  /// Statistics of double quantization: a first-level maximum is map[code] * absmax + offset.
  public struct Nested: Sendable {
    /// f32 [ceil(blocks / blockSize)]
    public let absmax: Tensor
    /// f32 [256]
    public let map: Tensor
    /// What was subtracted from the first-level maxima, their mean in bitsandbytes.
    public let offset: Float
    /// First-level maxima per entry of `absmax`, a power of two.
    public let blockSize: Int

    /// Statistics as given.
    public init(absmax: Tensor, map: Tensor, offset: Float, blockSize: Int = 256) {
      self.absmax = absmax
      self.map = map
      self.offset = offset
      self.blockSize = blockSize
    }
  }

  /// A matrix of the given parts, which are not checked.
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
  }

  /// What the weight's backend keeps beside it, such as addresses for its kernels: made by `make` at the first call and
  /// then the same. No other caller, since the object has the type that backend gives it.
  package func deviceForm(_ make: () -> AnyObject) -> AnyObject {
    if let form = form.load() { return form }
    return form.storeIfNil(make())
  }

  /// out * in
  public var elementCount: Int { shape.reduce(1, *) }
  /// Bytes of codes, maxima and offset; without `codebook` and `map`.
  public var byteCount: Int {
    codes.byteCount + absmax.byteCount + (nested.map { $0.absmax.byteCount + 4 } ?? 0)
  }
}
