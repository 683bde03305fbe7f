import Formats
import Quantization
import Tensors

/// What the weights of a model become when its adapters are added into them, beside the model, which stays as it is:
/// both can be computed with and compared before anything is written.
public final class MergedWeights {
  /// What the adapters are added to, and how the sum is stored.
  public enum Target: String, Sendable, CaseIterable {
    /// The 16-bit weights that were quantized, all of them; stored in bf16.
    case original
    /// The 4-bit weights as the adapters saw them in training; stored in bf16.
    case dequantized
    /// The same, quantized again in the same form. A change that is smaller than half a step of a code is lost.
    case requantized
  }

  private struct Form {
    let module: Module
    var weight: Tensor?
    var quantized: QuantizedOperand?
    var bias: Tensor?
  }

  /// The model whose adapters they were.
  public let model: LanguageModel
  /// What they were added to.
  public let target: Target
  /// 4-bit codes of adapted matrices that differ from those before, of `codes`; 0 where there are none.
  public private(set) var changedCodes = 0
  /// 4-bit codes of adapted matrices.
  public private(set) var codes = 0
  private var forms: [Form] = []

  /// Adds the adapters matrix by matrix; one is held as f32.
  /// - Parameters:
  ///   - model: with adapters.
  ///   - target: what they are added to.
  ///   - original: the folder or file with the 16-bit weights; nil for that of the model.
  /// - Throws: `ModelError.headerOnly`, `.mergeUnties`; `.noOriginalWeights` where the file holds no wider weights, or with `requantized` for
  ///   a matrix that is not in 4 bits; `.missingTensor`, `FormatError` for files that are not of this model;
  ///   `TensorError.outOfMemory`.
  public init(_ model: LanguageModel, _ target: Target, original: String? = nil) throws {
    guard model.isLoaded else { throw ModelError.headerOnly(operation: "merge") }
    try model.checkMergeable()
    (self.model, self.target) = (model, target)
    let source = target == .original ? try OriginalWeights(model, path: original) : nil
    // What is written in bf16 is bf16 in whole, and is measured so.
    for module in model.modules where target != .requantized || module.adapter != nil {
      let isStored = module.quantized != nil || module.blocks != nil
      let weight =
        try isStored
        ? source?.weight(of: module) ?? module.denseWeight() : module.adaptedWeight(category: .activations)
      let bias = try module.bias?.converted(to: .f32, category: .weights)
      for adapter in module.adapters { try adapter.method.merge(adapter.tensors, weight: weight, bias: bias) }
      forms.append(try form(module, weight, bias))
    }
  }

  private func form(_ module: Module, _ weight: Tensor, _ bias: Tensor?) throws -> Form {
    guard target == .requantized else {
      let rounded = try weight.converted(to: .bf16, category: .weights)
      // All but matrices is computed with in f32.
      return Form(
        module: module,
        weight: module.kind.isWide ? try rounded.converted(to: .f32, category: .weights) : rounded,
        bias: try bias?.converted(to: .bf16).converted(to: .f32, category: .weights))
    }
    guard let old = module.quantized else {
      throw ModelError.noOriginalWeights(path: model.path, problem: .notQuantized(module: module.name))
    }
    let new = try FourBit.quantize(
      weight, kind: old.kind, blockSize: old.blockSize, double: old.nested != nil, rule: model.options.scaleRule,
      name: module.name)
    try old.codes.withHostBytes { before in
      try new.codes.withHostBytes { after in
        for (a, b) in zip(before, after) where a != b {
          changedCodes += (a ^ b) & 0xF0 != 0 ? 1 : 0
          changedCodes += (a ^ b) & 0x0F != 0 ? 1 : 0
        }
      }
    }
    codes += module.weightShape.reduce(1, *)
    return Form(module: module, quantized: new, bias: bias)
  }

  /// Runs `body` while the merged weights stand in the places of the model's own and its adapters are away.
  public func run<R>(_ body: () throws -> R) rethrows -> R {
    let before = forms.map { form in
      let module = form.module
      return (module, module.weight, module.quantized, module.blocks, module.bias)
    }
    let names = model.namesInUse
    model.use([])
    for form in forms {
      let module = form.module
      (module.weight, module.quantized, module.blocks) = (form.weight, form.quantized, nil)
      module.bias = form.bias
    }
    defer {
      for (module, weight, quantized, blocks, bias) in before {
        (module.weight, module.quantized, module.blocks, module.bias) = (weight, quantized, blocks, bias)
      }
      model.use(names)
    }
    return try body()
  }

  /// Writes the merged model as a Hugging Face folder: bf16, or the 4 bits of `requantized`.
  /// - Throws: as `LanguageModel.save(directory:)` and `saveFourBit(directory:)`.
  public func save(directory: String, shardByteCount: Int = ModelFolder.shardByteCount) throws {
    try run {
      switch target {
      case .requantized: try model.saveFourBit(directory: directory, shardByteCount: shardByteCount)
      case .original, .dequantized: try model.save(directory: directory, shardByteCount: shardByteCount)
      }
    }
  }
}

/// The wide weights that the quantized matrices of a model were made from.
private struct OriginalWeights {
  let model: LanguageModel
  let source: LoadedSource

  init(_ model: LanguageModel, path: String?) throws {
    self.model = model
    let place = path ?? model.path
    guard path != nil || !model.origin.isRandom && !model.options.smoke,
      let location = try? ModelLocation(place, allowsKnownNames: false)
    else { throw ModelError.noOriginalWeights(path: place, problem: .notFromFile) }
    source = try location.weights()
  }

  /// f32 of `Module.weightShape`.
  func weight(of module: Module) throws -> Tensor {
    let name = module.name + ".weight"
    if FourBitKind.allCases.contains(where: { source.contains("\(name).quant_state.bitsandbytes__\($0.rawValue)") }) {
      throw ModelError.noOriginalWeights(path: source.path, problem: .storedQuantized(module: module.name))
    }
    guard source.contains(name) else { throw ModelError.missingTensor(name: name, path: source.path) }
    // A GGUF file's blocks were rounded from other weights; those of gpt-oss in safetensors are what was published.
    var isPublished = false
    let rows = try source.blocks(name)?.rows
    if case .scaledApart? = rows { isPublished = module.blocks == nil }
    if try source.blockFormat(name) != nil, !isPublished {
      throw ModelError.noOriginalWeights(path: source.path, problem: .kept(module: module.name))
    }
    try source.expect(name, shape: module.weightShape)
    let weight = try Tensor(empty: module.weightShape, category: .workspace, on: model.backend)
    try weight.withMutableHostBytes { bytes in
      guard let base = bytes.bindMemory(to: Float.self).baseAddress else { return }
      try source.read(name, into: base)
    }
    source.release(name)
    return weight
  }
}

extension LanguageModel {
  /// Writes a model whose layers are in 4 bits as transformers and bitsandbytes store it, with the tokenizer and generation
  /// settings that it came with. Reads it back as `save(directory:)` does.
  /// - Throws: `ModelError.headerOnly`, `.adaptersAttached`, `.noOriginalWeights` for a layer that is not in 4 bits;
  ///   `FormatError`, `TokenizerError`, `TensorError.outOfMemory`.
  public func saveFourBit(directory: String, shardByteCount: Int = ModelFolder.shardByteCount) throws {
    guard isLoaded else { throw ModelError.headerOnly(operation: "save") }
    guard adapters.isEmpty || !usesAdapters else { throw ModelError.adaptersAttached(count: adapters.count) }
    if let wide = modules.first(where: { FourBitModelWriter.isQuantized($0) != ($0.quantized != nil) }) {
      throw ModelError.noOriginalWeights(path: path, problem: .notQuantized(module: wide.name))
    }
    guard let form = modules.lazy.compactMap(\.quantized).first else {
      throw ModelError.noOriginalWeights(path: path, problem: .nothingQuantized)
    }
    let location = origin.isRandom ? nil : try ModelLocation(path, allowsKnownNames: false)
    let target = try FolderSave(path: directory, format: ModelFolder.format(of: location, tokenizer))
    let type = modules[0].weight?.dtype ?? .bf16
    let writer = FourBitModelWriter(
      modules: modules, savedName: { self.spec.savedName($0) }, kind: form.kind, blockSize: form.blockSize,
      isDouble: form.nested != nil, modelType: type, denseType: { _ in type }, shardByteCount: shardByteCount)
    try writer.write(
      into: target.stage,
      content: { module in
        if let quantized = module.quantized { return .quantized(quantized) }
        guard let weight = module.weight else { throw ModelError.notLoaded(module: module.name) }
        return .dense(weight)
      },
      bias: { module in
        guard let bias = module.bias else { throw ModelError.notLoaded(module: module.name) }
        return bias
      }, progress: { _, _ in }, written: { _ in })
    var saved = spec.whole
    saved.storedType = FourBitModelWriter.torchName(type)
    saved.quantizationConfig = writer.configuration
    try AtomicFile.write("\(target.stage)/\(ModelFolder.configName)", saved.toJSON().text(.pythonUnsorted) + "\n")
    try ModelFolder.writeCompanions(of: location, tokenizer, into: target.stage)
    try ModelFolder.check(target.stage, describes: saved, path: directory)
    try compareLogits(target.stage, path: directory)
    try target.commit()
  }
}
