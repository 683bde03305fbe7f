import Quantization
import Tensors

/// How a model is read: the choices of `qlora.load`.
public struct LoadOptions: Sendable {
  /// 4-bit type of the linear layers, or nil to keep them in 16 or 32 bits.
  public var quantization: FourBitKind?
  /// Whether matrices that a GGUF file holds in a block format stay as they are, those of the embedding and of the
  /// output module too; others stay in the float type they are stored in. `quantization` is nil then.
  public var keepsBlocks = false
  /// Modules with a choice of their own, by name: a 4-bit type, or nil to stay in 16 or 32 bits.
  public var moduleQuantization: [String: FourBitKind?] = [:]
  /// Elements that share a scale in 4 bits, one of `FourBit.blockSizes`; nil is 64, or what a 4-bit file has.
  public var wantedBlockSize: Int?
  /// Whether the scales are stored in 8 bits, as in QLoRA (Dettmers et al. 2023); nil is true, or what a 4-bit file
  /// has.
  public var wantsDoubleQuantization: Bool?
  /// How the 8-bit codes of scales are found where weights are quantized while loading.
  public var scaleRule = ScaleRule.nearest
  /// f32 or bf16: dtype of activations and rounding of products.
  public var computeType: DType
  /// Whether only the configuration is read (`--plan`).
  public var headerOnly: Bool
  /// With `headerOnly`, reads the tokenizer too, where there is one.
  package var readsTokenizer = false
  /// Leave the weights of the layers on disk and read them as a step reaches them; see `WeightStream`. nil streams when
  /// the base does not fit the limit on memory and can be streamed.
  public var streams: Bool?
  /// Have one matrix in memory at a time, for a model that is looked at once; see `MatrixWindow`.
  var keepsOneMatrix = false
  /// Which of how many stages of layers to read, from 0; nil reads all of the model. See `Stage`.
  public var stage: (index: Int, count: Int)?
  /// Replace the model by a small randomly initialised one of the same architecture (`--smoke`).
  public var smoke: Bool
  /// Directory of a tokenizer for smoke models whose own files are absent.
  public var smokeTokenizer: String?

  /// Unquantized and computed in bf16 unless said otherwise; `load` checks the values.
  /// - Parameters:
  ///   - quantization: 4-bit type of the linear layers; nil for none.
  ///   - blockSize: elements that share a scale; nil for 64.
  ///   - doubleQuantization: whether scales are stored in 8 bits; nil for true.
  ///   - computeType: f32 or bf16.
  ///   - headerOnly: reads the configuration only.
  ///   - smoke: makes a small random model instead.
  ///   - smokeTokenizer: directory of a tokenizer for it.
  public init(
    quantization: FourBitKind? = nil, blockSize: Int? = nil, doubleQuantization: Bool? = nil,
    computeType: DType = .bf16, headerOnly: Bool = false, smoke: Bool = false,
    smokeTokenizer: String? = nil
  ) {
    self.quantization = quantization
    wantedBlockSize = blockSize
    wantsDoubleQuantization = doubleQuantization
    self.computeType = computeType
    self.headerOnly = headerOnly
    self.smoke = smoke
    self.smokeTokenizer = smokeTokenizer
  }
}

extension LoadOptions {
  /// What to compute in where nothing is said: bf16 on a device with products of bf16 values, else f32. A limit on
  /// memory does not decide: the bits of a run do not depend on it.
  public static func defaultComputeType(on backend: any Backend) -> DType {
    backend.multipliesBFloat16 ? .bf16 : .f32
  }

  /// Elements that share a scale where weights are quantized while loading.
  public var blockSize: Int { wantedBlockSize ?? 64 }
  /// Whether scales are stored in 8 bits where weights are quantized while loading.
  public var doubleQuantization: Bool { wantsDoubleQuantization ?? true }

  /// The 4-bit type a module is loaded in: its own choice, else the model's for linear layers of the layers.
  public func quantization(of module: Module) -> FourBitKind? {
    if let own = moduleQuantization[module.name] { return own }
    return module.isFourBitByDefault ? quantization : nil
  }

  /// Whether a module's weight stays in the form it is stored in.
  func keeps(_ module: Module) -> Bool {
    keepsBlocks && !module.kind.isWide && !module.isRouter && moduleQuantization[module.name] == nil
  }

  /// Bytes of a module's tensors once loaded, from shapes alone.
  func byteCount(of module: Module) -> Int {
    let count = module.outFeatures * module.inFeatures
    if module.kind.isWide { return count * DType.f32.byteCount }
    let bias = module.hasBias ? module.outFeatures * DType.f32.byteCount : 0
    guard quantization(of: module) != nil else { return count * computeType.byteCount + bias }
    let blocks = (count + blockSize - 1) / blockSize
    let scales = doubleQuantization ? blocks + 4 * ((blocks + 255) / 256) + 4 : 4 * blocks
    return (count + 1) / 2 + scales + bias
  }
}
