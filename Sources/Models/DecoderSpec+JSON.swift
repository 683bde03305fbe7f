import Formats

extension DecoderSpec {
  /// Reads `config.json` of a model folder, or the file itself.
  /// - Throws: `unsupportedModel` for what the engine does not compute, `badField` for what makes no sense, `system`
  ///   and `json` for a file that cannot be read.
  public static func read(path: String) throws(FormatError) -> DecoderSpec {
    try readWithNotices(path: path).spec
  }

  /// The same, with what is to be said about the file.
  static func readWithNotices(path: String) throws(FormatError) -> (spec: DecoderSpec, said: [String]) {
    let file = FileSystem.isDirectory(path) ? path + "/" + FileName.config : path
    let json = try JSON.read(path: file)
    var said: [String] = []
    let spec = try DecoderSpec(json: json, path: file, said: &said)
    return (spec, said)
  }

  /// Interprets a Hugging Face config of transformers 4 or 5; absent fields have the defaults of transformers.
  /// `path` is named in errors.
  /// - Throws: `unsupportedModel`, `badField`.
  public init(json: JSON, path: String) throws(FormatError) {
    var said: [String] = []
    try self.init(json: json, path: path, said: &said)
  }

  /// `said` gets what is to be said about the file.
  private init(json: JSON, path: String, said: inout [String]) throws(FormatError) {
    let fields = ConfigFields(json: json, path: path)
    if let (family, whole) = Families.multimodal(json["model_type"]?.string) {
      var own = whole.ownKeys
      own["text_config"] = .honoured
      said = try ConfigTable.table.check(json, path: path, own: own)
      var more: [String] = []
      try self.init(json: try whole.textConfig(fields, textType: family.modelType), path: path, said: &more)
      guard modelType == family.modelType else {
        throw .unsupportedModel(
          path: path, field: "text_config.model_type", value: modelType, supported: [family.modelType])
      }
      outerNames = MultimodalFamily.names(family.outerNames)
      said += more + ["\(path): the text model of \(whole.modelType) is read, nothing else of it"]
      return
    }
    guard let typeName = json["model_type"]?.string, let family = Families.named(typeName) else {
      throw Families.unsupported(
        json["model_type"].map { $0.string ?? $0.text() }, path: path, field: "model_type",
        supported: Families.all.map { $0.modelType })
    }
    said = try fields.check(family)
    let defaults = family.defaults
    func size(_ name: String) throws(FormatError) -> Int {
      if let usual = defaults.sizes[name], json[name] == nil { return usual }
      return try fields.required(name)
    }
    let heads = try size("num_attention_heads")
    let hidden = try size("hidden_size")
    // transformers: an absent key takes the class default, an explicit null means one key head per query head.
    let keyHeads =
      json["num_key_value_heads"] == nil
      ? defaults.keyValueHeadCount ?? heads : try fields.integer("num_key_value_heads") ?? heads
    let dimension: Int
    if let usual = defaults.headDimension {
      dimension = json["head_dim"] == nil ? usual : try fields.required("head_dim")
    } else if let given = try fields.integer("head_dim") {
      dimension = given
    } else {
      guard heads > 0, hidden % heads == 0 else {
        throw .badField(
          path: path, field: "hidden_size", value: "\(hidden)",
          expected: "a multiple of num_attention_heads (\(heads)) where head_dim is absent")
      }
      dimension = hidden / heads
    }
    self.init(
      family, hiddenSize: hidden, intermediateSize: try size("intermediate_size"),
      layerCount: try Self.checked(layerCount: try size("num_hidden_layers"), path: path), headCount: heads,
      keyValueHeadCount: keyHeads,
      headDimension: dimension, vocabularySize: try size("vocab_size"),
      maxPositions: try fields.integer("max_position_embeddings") ?? defaults.maxPositions)
    normEpsilon = try fields.double("rms_norm_eps") ?? defaults.normEpsilon
    rope = try Rope(fields, family, maxPositions: maxPositions)
    tiesEmbeddings = try fields.bool("tie_word_embeddings") ?? defaults.tiesEmbeddings
    bosTokenID = json["bos_token_id"] == nil ? defaults.bosTokenID : try fields.integer("bos_token_id")
    padTokenID = json["pad_token_id"] == nil ? defaults.padTokenID : try fields.integer("pad_token_id")
    eosTokenIDs = json["eos_token_id"] == nil ? defaults.eosTokenIDs : try fields.tokenIDs("eos_token_id")
    storedType = (json["dtype"] ?? json["torch_dtype"])?.string
    if let quantization = json["quantization_config"], !quantization.isNull { quantizationConfig = quantization }
    try family.read(fields, into: &self)
    if let sliding = try Rope.sliding(fields, family, maxPositions: maxPositions) { setRope(ofWindows: sliding) }
    try checkLayerTypes(fields)
    try validate(path: path)
  }

  /// layer_types must say of each layer what it is: a layer that it calls sliding has a window.
  private func checkLayerTypes(_ fields: ConfigFields) throws(FormatError) {
    guard let types = try fields.layerTypes(count: layerCount) else { return }
    for (index, type) in types.enumerated() where type != layers[index].type {
      let why: String =
        switch (type, layers[index].type) {
        case (_, .sliding): "layer \(index) has a window"
        case (.sliding, _): "layer \(index) has no window (sliding_window, use_sliding_window)"
        default: "layer \(index) of this family has no other"
        }
      throw .badField(
        path: fields.path, field: "layer_types", value: type.rawValue,
        expected: "\(layers[index].type.rawValue): \(why)")
    }
  }

  /// The configuration of a published model by its hub name, for plans without its files: sizes, RoPE and ties as in
  /// the published config.json, no token ids. The organisation may be left out; case does not matter. `-Instruct` and
  /// `-chat` variants share the sizes of their base model. nil for names outside the families' tables.
  public static func known(name: String) throws(FormatError) -> DecoderSpec? {
    guard let json = Families.published(name) else { return nil }
    return try DecoderSpec(json: withoutTokens(json), path: name)
  }

  /// The same config with null for token ids that it and its text_config leave out: no token, where transformers would
  /// take those of the published models.
  public static func withoutTokens(_ json: JSON) -> JSON {
    var members = json.object ?? JSONObject()
    if let text = members["text_config"], text.object?.count ?? 0 > 0 { members["text_config"] = withoutTokens(text) }
    for key in ["bos_token_id", "eos_token_id", "pad_token_id"] where members[key] == nil { members[key] = .null }
    return .object(members)
  }

  /// A config that transformers 4 and 5 read as the same model. Holds `storedType` and `quantizationConfig` unchanged.
  public func toJSON() -> JSON {
    func optional(_ value: Int?) -> JSON { value.map { .int($0) } ?? .null }
    let family = Families.named(modelType)
    var json = JSONObject()
    if let family { json["architectures"] = [.string(family.className)] }
    json["model_type"] = .string(modelType)
    json["hidden_size"] = .int(hiddenSize)
    json["intermediate_size"] = .int(intermediateSize)
    json["num_hidden_layers"] = .int(layerCount)
    json["num_attention_heads"] = .int(headCount)
    json["num_key_value_heads"] = .int(keyValueHeadCount)
    json["head_dim"] = .int(headDimension)
    json["vocab_size"] = .int(vocabularySize)
    json["max_position_embeddings"] = .int(maxPositions)
    json["rms_norm_eps"] = .number(normEpsilon)
    writeRopes(into: &json)
    json["hidden_act"] = .string(activation.configName)
    json["tie_word_embeddings"] = .bool(tiesEmbeddings)
    family?.write(self, into: &json)
    json["bos_token_id"] = optional(bosTokenID)
    json["eos_token_id"] = eosTokenIDs.count > 1 ? .array(eosTokenIDs.map { .int($0) }) : optional(eosTokenIDs.first)
    json["pad_token_id"] = optional(padTokenID)
    json["torch_dtype"] = storedType.map { .string($0) } ?? .null
    json["use_cache"] = true
    if let quantizationConfig { json["quantization_config"] = quantizationConfig }
    return .object(json)
  }
}
