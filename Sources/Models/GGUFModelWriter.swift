import Formats
import Glibc
import Tensors
import Tokenizers

extension LanguageModel {
  /// Writes the model as a GGUF file that llama.cpp and this engine read: weights, architecture, tokenizer and chat
  /// template. One matrix is held at a time, as f32.
  ///
  /// What the header says is read before a weight is encoded: it must describe this model and its tokenizer. Then every
  /// weight is read back, before the file takes the place of an older one.
  /// - Parameters:
  ///   - path: of the file; ends with `.gguf`.
  ///   - mixture: the formats of its tensors.
  ///   - merging: adds the adapters into the weights that are written; the model keeps them.
  ///   - progress: gets how many tensors are written and how many there are.
  /// - Returns: what is to be said about the file, a sentence each.
  /// - Throws: `ModelError.headerOnly`, `.adaptersAttached`, `.mergeUnties`, `.notInGGUF`, `.nonFiniteWeight`,
  ///   `.badOption` for another end of `path`; `FormatError.readsBackDifferently`, `.system`; `TokenizerError`;
  ///   `TensorError.outOfMemory`.
  @discardableResult
  public func saveGGUF(
    _ path: String, _ mixture: GGUFMixture, merging: Bool = false, progress: (Int, Int) throws -> Void = { _, _ in }
  ) throws -> [String] {
    guard isLoaded else { throw ModelError.headerOnly(operation: "save_gguf") }
    guard path.hasSuffix(".gguf") else {
      throw ModelError.badOption(name: "path", value: path, expected: "a name that ends with .gguf")
    }
    guard merging || adapters.isEmpty || !usesAdapters else { throw ModelError.adaptersAttached(count: adapters.count) }
    if merging { try checkMergeable() }
    return try GGUFModelWriter(
      model: self, written: try spec.inGGUF(), mixture: mixture, merges: merging, path: path
    ).write(progress)
  }
}

private struct GGUFModelWriter {
  let model: LanguageModel
  /// Its decoder as the file says it.
  let written: DecoderSpec
  let mixture: GGUFMixture
  let merges: Bool
  let path: String

  private var spec: DecoderSpec { model.spec }
  private var tokenizer: Tokenizer? { merges ? model.mergedTokenizer : model.tokenizer }

  private struct Source {
    /// In a Hugging Face folder.
    let name: String
    let item: GGUFWriter.Item
    let values: () throws -> Tensor
  }

  func write(_ progress: (Int, Int) throws -> Void) throws -> [String] {
    var description = try spec.ggufDescription()
    let layout = try spec.ggufWriting().layout
    let said = try describe(&description)
    var sources = try model.modules.flatMap { try self.sources($0, spec.savedName($0.name), layout) }
    if try spec.ggufCopiesEmbedding() {
      sources += try self.sources(model.modules[0], spec.whole.outerNames.output, layout)
    }
    let extra = description.vectors.map { name, values in
      GGUFWriter.Item(name: name, shape: [values.count], type: .f32) { sink in
        try values.withUnsafeBytes { try sink($0) }
      }
    }
    try withoutActuallyEscaping(progress) { progress in
      var done = 0
      let items = sources.map(\.item).map { item in
        GGUFWriter.Item(name: item.name, shape: item.shape, type: item.type) { sink in
          try progress(done, sources.count)
          try item.write(sink)
          done += 1
        }
      }
      try GGUFWriter.write(
        path: path, description.values.map { ($0.key, $0.value) }, head: extra, items, begun: checkHeader,
        written: { try checkWeights($0, sources, layout) })
      try progress(done, done)
    }
    return said
  }

  /// General keys and the tokenizer.
  private func describe(_ description: inout GGUFDescription) throws -> [String] {
    var said: [String] = []
    let name = model.path.split(separator: "/").last.map(String.init) ?? ""
    description.set("general.name", .string(name))
    description.set("general.file_type", mixture.number)
    description.set("general.quantization_version", 2)
    if let tokenizer {
      let ends = spec.eosTokenIDs.compactMap { Int32(exactly: $0) }
      for (key, value) in try tokenizer.ggufMetadata(vocabularySize: spec.vocabularySize, ends: ends) {
        description.set(key, value)
      }
      said += tokenizer.ggufNotices
    } else {
      said.append("\(path): the model has no tokenizer, and llama.cpp loads no file without one")
    }
    if spec.layers.contains(where: { $0.window != nil }), ["mistral", "phi3"].contains(spec.modelType) {
      said.append(
        "\(path): llama.cpp computes \(spec.modelType) without its sliding window; longer texts than that differ there")
    }
    return said
  }

  // MARK: Tensors

  private func sources(_ module: Module, _ name: String, _ layout: GGUFLayout) throws -> [Source] {
    func make() throws -> (weight: Tensor, bias: Tensor?) {
      guard !merges else { return try module.merged(category: .workspace) }
      return (
        try module.denseWeight(category: .workspace), try module.bias?.converted(to: .f32, category: .workspace)
      )
    }
    var found = [try source(name + module.weightEnding, module.weightShape, module, layout) { try make().weight }]
    if module.bias != nil {
      found.append(
        try source(name + ".bias", module.biasShape, module, layout) {
          guard let bias = try make().bias else { throw ModelError.notLoaded(module: module.name) }
          return bias
        })
    }
    return found
  }

  private func source(
    _ name: String, _ shape: [Int], _ module: Module, _ layout: GGUFLayout, _ values: @escaping () throws -> Tensor
  ) throws -> Source {
    guard let stored = layout.gguf(name) else {
      throw ModelError.notInGGUF(family: spec.modelType, what: [name])
    }
    let shape = layout.isConvolution(name) ? [shape[0], shape[2]] : shape
    // llama.cpp computes convolutions in f32.
    let type = module.kind.isWide ? .f32 : mixture.type(of: stored, shape: shape, layer: module.layer, in: written)
    let map = try layout.storedRow(
      name, rows: shape[0], queryHeads: spec.headCount, keyHeads: spec.keyValueHeadCount, path: path)
    let isMatrix = shape.count == 2
    let columnOrder = isMatrix ? try layout.storedColumn(name, columns: shape[1], path: path) : nil
    let change: ((Float) -> Float)? =
      layout.hasOneAdded(name) ? { $0 + 1 } : layout.isNegatedExponential(name) ? { Float(-exp(Double($0))) } : nil
    let path = model.path
    let item = GGUFWriter.Item(name: stored, shape: shape, type: type) { sink in
      let tensor = try values()
      try tensor.withHostBytes { bytes in
        let floats = bytes.bindMemory(to: Float.self)
        if let bad = GGUFRows.firstNonFinite(floats) {
          throw ModelError.nonFiniteWeight(tensor: name, index: bad, path: path)
        }
        // Of a vector in another order each element is a row.
        let columns = map == nil ? shape.last ?? 1 : shape.dropFirst().reduce(1, *)
        try GGUFRows(type: type, columns: columns, order: map, columnOrder: columnOrder, change: change)
          .encode(floats, sink)
      }
    }
    return Source(name: name, item: item, values: values)
  }

  // MARK: Reading back

  /// The header must describe this model, as far as its keys reach.
  private func checkHeader(_ staged: String) throws {
    let file = try GGUFFile(path: staged)
    let lost = written.fieldsLost(in: try DecoderSpec(gguf: file))
    guard lost.isEmpty else { throw ModelError.notInGGUF(family: spec.modelType, what: lost) }
    guard let tokenizer else { return }
    let read = try Tokenizer(gguf: file)
    for text in Self.probes + [tokenizer.specialTexts.values.sorted().joined(separator: " a")]
    where try tokenizer.encode(text) != read.encode(text) {
      throw FormatError.readsBackDifferently(path: path, what: "the tokens of \"\(text)\"")
    }
  }

  /// Texts in which tokenizers differ: numbers, spaces, case, marks, letters of several bytes, lines.
  private static let probes = [
    "Hello, World! 12345 3.14 1999", "  two  spaces\n\n\tand tabs   ", "It's we'LL they've don't ÀÉ naïve Straße",
    "日本語のテキスト 한국어 русский", "def f(x):\n    return x**2  # 100%", "emoji 👩‍👩‍👧 ©®™ …",
  ]

  /// Reads every weight by its Hugging Face name and compares it with the one that was to be written.
  private func checkWeights(_ staged: String, _ sources: [Source], _ layout: GGUFLayout) throws {
    let written = try WeightSource(gguf: try GGUFFile(path: staged), layout: Families.layout)
    for source in sources {
      let (error, size) = try source.values().withHostBytes {
        try written.squaredError(source.name, from: $0.bindMemory(to: Float.self))
      }
      // Rows in a wrong order are off by more than their size; a type by less than half of it, other numbers by
      // rounding.
      let isExact = source.item.type == .f32 && !source.name.hasSuffix("norm.weight")
      let limit = isExact && !layout.isNegatedExponential(source.name) ? 0 : size / 4
      guard error <= limit || size / Double(max(1, source.item.shape.reduce(1, *))) < 1e-10 else {
        throw FormatError.readsBackDifferently(path: path, what: source.name)
      }
    }
  }
}
