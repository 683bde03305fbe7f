import Tensors

/// How a model is read: the choices of `qlora.load`.
public struct LoadOptions: Sendable {
  /// 4-bit type of the linear layers, or nil to keep them in 16 or 32 bits.
  public var quantization: FourBitKind?
  public var blockSize: Int
  public var doubleQuantization: Bool
  /// f32 or bf16: dtype of activations and rounding of products.
  public var computeType: DType
  /// Whether only the configuration is read (`--plan`).
  public var headerOnly: Bool
  /// Replace the model by a small randomly initialised one of the same architecture (`--smoke`).
  public var smoke: Bool
  /// Directory of a tokenizer for smoke models whose own files are absent.
  public var smokeTokenizer: String?

  public init(
    quantization: FourBitKind? = nil, blockSize: Int = 64, doubleQuantization: Bool = true,
    computeType: DType = .bf16, headerOnly: Bool = false, smoke: Bool = false,
    smokeTokenizer: String? = nil
  ) {
    self.quantization = quantization
    self.blockSize = blockSize
    self.doubleQuantization = doubleQuantization
    self.computeType = computeType
    self.headerOnly = headerOnly
    self.smoke = smoke
    self.smokeTokenizer = smokeTokenizer
  }
}
