import Formats
import Quantization
import Tensors

extension LanguageModel {
  /// Writes the model as a Hugging Face folder: config.json, safetensors, several with an index where they are larger
  /// than `shardByteCount`, and the tokenizer and generation settings of the folder it came from. One tensor is
  /// converted at a time, 4-bit matrices through their dequantized values.
  ///
  /// Other things in an existing folder stay; see `FolderSave`. What was written is read back before it takes the place
  /// of an older model: every byte, the configuration, and the logits of a few tokens, of which rounding may
  /// change a quarter at most. All along one matrix is in memory at a time, where the base lies in a file.
  /// - Parameters:
  ///   - directory: the folder.
  ///   - dtype: of every tensor: bf16, f16 or f32.
  ///   - shardByteCount: most bytes of one file.
  /// - Throws: `ModelError.headerOnly`, `.adaptersAttached`, `.notLoaded`; `FormatError.conflict`, `.wrongKind`,
  ///   `.readsBackDifferently` and `.system`; `TokenizerError`; `TensorError.outOfMemory`.
  public func save(
    directory: String, dtype: DType = .bf16, shardByteCount: Int = ModelFolder.shardByteCount
  ) throws {
    guard isLoaded else { throw ModelError.headerOnly(operation: "save") }
    guard adapters.isEmpty || !usesAdapters else { throw ModelError.adaptersAttached(count: adapters.count) }
    let location = origin.isRandom ? nil : try ModelLocation(path, allowsKnownNames: false)
    let target = try FolderSave(path: directory, format: ModelFolder.format(of: location, tokenizer))
    // What the source said of its own tensors is not true of these.
    var saved = spec.whole
    (saved.storedType, saved.quantizationConfig) = (FourBitModelWriter.torchName(dtype), nil)
    try AtomicFile.write("\(target.stage)/\(FileName.config)", saved.toJSON().text(.pythonUnsorted) + "\n")
    try byMatrix {
      try SafetensorsShards.write(folder: target.stage, items(in: dtype), byteCount: shardByteCount)
      try ModelFolder.writeCompanions(of: location, tokenizer, into: target.stage)
      try ModelFolder.check(target.stage, describes: saved, path: directory)
      try compareLogits(target.stage, path: directory)
    }
    try target.commit()
  }

  private func items(in dtype: DType) -> [SafetensorsWriter.Item] {
    let stacks = Families.named(spec.modelType)?.tensorStacks ?? TensorStacks()
    var members: [String: [Module]] = [:]
    for module in modules {
      if let place = stacks.place(of: spec.savedName(module.name)) { members[place.name, default: []].append(module) }
    }
    return modules.flatMap { module -> [SafetensorsWriter.Item] in
      let name = spec.savedName(module.name)
      if let (stack, number) = stacks.place(of: name) {
        return number == 0 ? stacked(stack, members[stack] ?? [], dtype) : []
      }
      let weight = SafetensorsWriter.Item(
        name: name + module.weightEnding, dtype: dtype, shape: module.weightShape
      ) { try module.write(in: dtype, $0) }
      guard module.hasBias else { return [weight] }
      let bias = SafetensorsWriter.Item(name: name + ".bias", dtype: dtype, shape: module.biasShape) { sink in
        try Self.bias(of: module, in: dtype).withHostBytes { try sink($0) }
      }
      return [weight, bias]
    }
  }

  /// The tensors of the modules of all experts: [experts, in, out] and [experts, out].
  private func stacked(_ name: String, _ experts: [Module], _ dtype: DType) -> [SafetensorsWriter.Item] {
    let (out, width) = (experts[0].outFeatures, experts[0].inFeatures)
    func stack(_ name: String, _ shape: [Int], _ part: @escaping (Module) throws -> Tensor) -> SafetensorsWriter.Item {
      SafetensorsWriter.Item(name: name, dtype: dtype, shape: [experts.count] + shape) { sink in
        for expert in experts { try part(expert).withHostBytes { try sink($0) } }
      }
    }
    let weight = stack(name, [width, out]) { try $0.stored(in: dtype).transposed(0, 1).copied() }
    guard experts[0].hasBias else { return [weight] }
    return [weight, stack(name + "_bias", [out]) { try Self.bias(of: $0, in: dtype) }]
  }

  private static func bias(of module: Module, in dtype: DType) throws -> Tensor {
    guard let bias = try module.operandBias() else { throw ModelError.notLoaded(module: module.name) }
    return try bias.converted(to: dtype)
  }

  /// Ids from all over the vocabulary, to compare models with; no more than the model has positions.
  package var probe: [Int32] { (0..<min(8, spec.maxPositions)).map { Int32($0 * (spec.vocabularySize - 1) / 7) } }

  func compareLogits(_ stage: String, path: String) throws {
    // A hook may give other logits than the weights, and what it does is not for us to repeat.
    guard modules.allSatisfy(\.hooks.isEmpty) else { return }
    let own = try logits(probe).floats()
    guard own.allSatisfy(\.isFinite) else { return }
    matrixWindow?.leave()
    var options = LoadOptions(computeType: computeType)
    options.keepsOneMatrix = true
    let read = try ModelLoader(backend: backend, options: options).load(stage).logits(probe).floats()
    let (error, size) = zip(own, read).reduce((0.0, 0.0)) { sums, pair in
      let difference = Double(pair.0 - pair.1)
      return (sums.0 + difference * difference, sums.1 + Double(pair.0) * Double(pair.0))
    }
    guard error <= size / 16 else {
      throw FormatError.readsBackDifferently(path: path, what: "the logits of a few tokens")
    }
  }
}
