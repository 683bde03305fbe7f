import Formats
import Tensors

// Weights that stay in the block formats of a GGUF file (`quant = "keep"`).

extension LoadOptions {
  /// How to quantize is nothing to say of weights that stay as they are.
  func checkKeeping() throws {
    guard keepsBlocks, moduleQuantization.values.allSatisfy({ $0 == nil }) else { return }
    let given = [
      ("block", wantedBlockSize.map { String($0) }), ("double_quant", wantsDoubleQuantization.map { String($0) }),
    ]
    for (name, value) in given {
      guard let value else { continue }
      throw ModelError.badOption(
        name: name, value: value, expected: "nothing: quant = \"keep\" has the formats and scales of the file")
    }
  }
}

extension ModelLoader {
  /// A matrix as the file holds it, of which it is a view; nil for one that is not in a block format.
  func kept(_ name: String, shape: [Int], _ source: LoadedSource) throws -> BlockOperand? {
    try source.expect(name, shape: shape)
    guard let stored = try source.blocks(name) else { return nil }
    func view(_ bytes: UnsafeRawBufferPointer) throws -> Tensor {
      Tensor(storage: try backend.adopt(FileBytes(bytes, owner: source.owner)), dtype: .u8, shape: [bytes.count])
    }
    return BlockOperand(
      format: stored.type, shape: shape, bytes: try view(stored.bytes), rows: try stored.rows.map(view))
  }

  /// Says which matrices could not stay as they are.
  /// - Throws: `ModelError.nothingToKeep` where no matrix was kept.
  func requireKept(_ model: LanguageModel, _ source: LoadedSource) throws {
    guard model.modules.contains(where: { $0.blocks != nil || $0.quantized != nil }) else {
      throw ModelError.nothingToKeep(path: model.path)
    }
    let decoded = try model.modules.filter {
      guard options.keeps($0), $0.blocks == nil, $0.quantized == nil else { return false }
      return try source.blockFormat($0.weightName) != nil
    }
    guard !decoded.isEmpty else { return }
    model.notices.append(
      "\(model.path): \(Set(decoded.map(\.role)).sorted().joined(separator: ", ")) of "
        + "\(decoded.count) layers have columns in another order or rows in two tensors; they are decoded to "
        + "\(options.computeType.name)")
  }

  /// Notes the formats that loading would keep, for a model of which no weights are read.
  /// - Throws: `ModelError.badOption` where there is no file to look into, `.nothingToKeep`; `FormatError`.
  func planKept(_ model: LanguageModel, _ location: ModelLocation) throws {
    switch location {
    case .directory, .gguf: break
    case .configuration, .known:
      throw ModelError.badOption(
        name: "quant", value: "keep",
        expected: "a type: a configuration does not say in which formats weights are stored")
    }
    let source = try location.weights()
    var isKept = false
    for module in model.modules where options.keeps(module) {
      let name = module.weightName
      guard source.contains(name) else { throw ModelError.missingTensor(name: name, path: source.path) }
      try source.expect(name, shape: module.weightShape)
      let bias = module.hasBias ? module.outFeatures * DType.f32.byteCount : 0
      let count = module.outFeatures * module.inFeatures
      if let stored = try source.blocks(name) {
        module.planned = (nil, stored.type, stored.byteCount + bias)
        isKept = true
      } else if source.contains(name + ".absmax") {
        isKept = true
      } else {
        let dtype = try source.floatType(name) ?? model.computeType
        module.planned = (nil, nil, count * dtype.byteCount + bias)
      }
    }
    guard isKept else { throw ModelError.nothingToKeep(path: model.path) }
  }
}
