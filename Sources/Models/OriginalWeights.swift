import Formats
import Tensors

/// The wide weights that the quantized matrices of a model were made from.
struct OriginalWeights {
  let model: LanguageModel
  let source: LoadedSource

  /// - Throws: `ModelError.noOriginalWeights` where no file is known, and for a named one that no matrix needs;
  ///   `FormatError`.
  init(_ model: LanguageModel, path: String?) throws {
    self.model = model
    let place = path ?? model.path
    guard path == nil || model.modules.contains(where: { $0.storedForm != nil }) else {
      throw ModelError.noOriginalWeights(path: model.path, problem: .nothingQuantized)
    }
    guard path != nil || !model.origin.isRandom && !model.options.smoke,
      let location = try? ModelLocation(place, allowsKnownNames: false)
    else { throw ModelError.noOriginalWeights(path: place, problem: .notFromFile) }
    source = try location.weights()
  }

  /// Whether the file has what a module in few bits was made from; what is wide is not asked for.
  /// - Throws: `ModelError.noOriginalWeights`, `.missingTensor`, `FormatError`.
  func check(_ module: Module) throws {
    guard module.quantized != nil || module.blocks != nil else { return }
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
  }

  /// f32 of `Module.weightShape`. The file's pages are dropped as they are read.
  func weight(of module: Module) throws -> Tensor {
    let name = module.name + ".weight"
    let weight = try Tensor(empty: module.weightShape, category: .workspace, on: model.backend)
    if let backend = model.backend as? any RehearsalBackend, backend.isRehearsal { return weight }
    let (width, rows) = (module.inFeatures, max(1, (1 << 22) / max(1, module.inFeatures)))
    try weight.withMutableHostBytes { bytes in
      guard let base = bytes.bindMemory(to: Float.self).baseAddress else { return }
      for start in stride(from: 0, to: module.outFeatures, by: rows) {
        try source.read(name, rows: start..<min(start + rows, module.outFeatures), into: base + start * width)
        source.release(name)
      }
    }
    return weight
  }
}
