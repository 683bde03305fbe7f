import Formats

extension DecoderSpec {
  /// Reads the metadata of a GGUF file. Mistral models carry architecture `llama` there and come back as llama.
  /// - Throws: `unsupportedModel` for what the engine does not compute, `badField` for what makes no sense; both name
  ///   keys of the file.
  package init(gguf: GGUFFile) throws(FormatError) {
    let path = gguf.path
    // Only the first part of several says more.
    if let parts = gguf.metadata["split.count"]?.int, parts > 1 {
      let part = gguf.metadata["split.no"]?.int.map { $0 + 1 } ?? 1
      throw .badField(
        path: path, field: "split.count", value: "\(parts)",
        expected: "a model in one file; this is part \(part), and llama.cpp's llama-gguf-split merges the parts")
    }
    let named = gguf.metadata["general.architecture"]?.string
    guard let architecture = named, let family = Families.reading(architecture, gguf) else {
      throw Families.unsupported(
        named, path: path, field: "general.architecture",
        supported: Set(Families.all.compactMap { $0.ggufArchitecture }).sorted())
    }
    let fields = GGUFFields(file: gguf, architecture: architecture)
    try fields.check(family)
    do { self = try DecoderSpec(fields, family) } catch { throw fields.named(error, family) }
  }

  private init(_ fields: GGUFFields, _ family: any DecoderFamily.Type) throws(FormatError) {
    let gguf = fields.file, path = gguf.path
    let embedding = try gguf.tensor("token_embd.weight")
    guard embedding.shape.count == 2 else {
      throw .badField(
        path: path, field: "shape of token_embd.weight", value: "\(embedding.shape)", expected: "two sizes")
    }
    let hidden = try fields.required("embedding_length")
    let heads = try fields.required("attention.head_count")
    guard heads > 0 else {
      throw .badField(path: path, field: "attention.head_count", value: "\(heads)", expected: "at least 1")
    }
    let dimension = try fields.integer("attention.key_length") ?? hidden / heads
    let same = [("attention.value_length", dimension), ("vocab_size", embedding.shape[0])]
    for (name, size) in same {
      if let value = try fields.integer(name), value != size {
        throw .unsupportedModel(path: path, field: name, value: "\(value)", supported: ["\(size)"])
      }
    }
    // Models all of whose layers have experts need not say how wide others were.
    let usual = family.modules.experts == nil ? nil : family.defaults.sizes["intermediate_size"]
    let inner = try fields.required("feed_forward_length", try fields.integer("feed_forward_length") ?? usual)
    self.init(
      family, hiddenSize: hidden, intermediateSize: inner, layerCount: try fields.layerCount(), headCount: heads,
      keyValueHeadCount: try fields.integer("attention.head_count_kv") ?? heads, headDimension: dimension,
      vocabularySize: embedding.shape[0], maxPositions: try fields.required("context_length"))
    let epsilon = normalization.form == .layer ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon"
    normEpsilon = try fields.required(epsilon, try fields.double(epsilon))
    tiesEmbeddings = !gguf.contains("output.weight")
    // The first layers may have no attention.
    func hasBias(_ module: LayerModule) -> Bool {
      layers.indices.contains { gguf.contains("blk.\($0).\(module.gguf).bias") }
    }
    modules.setBiases(
      queryKeyValue: hasBias(modules.attention.inputs[0]), output: hasBias(modules.attention.output),
      feedForward: hasBias(modules.feedForward.inputs[0]))
    bosTokenID = try fields.integer("tokenizer.ggml.bos_token_id")
    padTokenID = try fields.integer("tokenizer.ggml.padding_token_id")
    eosTokenIDs = try GGUFEnds.ids(fields)
    try validate(path: path)
    rope = try Rope(fields, family, headDimension: headDimension, maxPositions: maxPositions)
    try family.read(fields, into: &self)
    if let sliding = try Rope.sliding(fields, family, full: rope) { setRope(ofWindows: sliding) }
    try validate(path: path)
  }
}
