import Formats

extension DecoderSpec {
  /// Reads `config.json` of a model folder, or the file itself.
  /// - Throws: `unsupportedModel` for what the engine does not compute, `badField` for what makes no sense, `system`
  ///   and `json` for a file that cannot be read.
  public static func read(path: String) throws(FormatError) -> DecoderSpec {
    let file = FileSystem.isDirectory(path) ? path + "/config.json" : path
    return try DecoderSpec(json: try JSON.read(path: file), path: file)
  }

  /// Interprets a Hugging Face config of transformers 4 or 5; absent fields have the defaults of transformers.
  /// `path` is named in errors.
  /// - Throws: `unsupportedModel`, `badField`.
  public init(json: JSON, path: String) throws(FormatError) {
    let fields = ConfigFields(json: json, path: path)
    guard let typeName = json["model_type"]?.string, let family = Families.named(typeName) else {
      throw .unsupportedModel(
        path: path, field: "model_type", value: json["model_type"]?.text() ?? "absent",
        supported: Families.all.map { $0.modelType })
    }
    if let activation = json["hidden_act"]?.string, activation != "silu" {
      throw .unsupportedModel(path: path, field: "hidden_act", value: activation, supported: ["silu"])
    }
    if let rotary = json["partial_rotary_factor"]?.double ?? json["rope_parameters"]?["partial_rotary_factor"]?.double,
      rotary != 1
    {
      throw .unsupportedModel(path: path, field: "partial_rotary_factor", value: "\(rotary)", supported: ["1.0"])
    }
    let defaults = family.defaults
    let heads = try fields.required("num_attention_heads")
    let hidden = try fields.required("hidden_size")
    // transformers: an absent key takes the class default, an explicit null means one key head per query head.
    let keyHeads =
      json["num_key_value_heads"] == nil
      ? defaults.keyValueHeadCount ?? heads : try fields.integer("num_key_value_heads") ?? heads
    var dimension = try fields.integer("head_dim") ?? 0
    if json["head_dim"] == nil, let usual = defaults.headDimension { dimension = usual }
    if dimension == 0 {
      guard heads > 0, hidden % heads == 0 else {
        throw .badField(
          path: path, field: "hidden_size", value: "\(hidden)",
          expected: "a multiple of num_attention_heads (\(heads)) where head_dim is absent")
      }
      dimension = hidden / heads
    }
    self.init(
      family, hiddenSize: hidden, intermediateSize: try fields.required("intermediate_size"),
      layerCount: try Self.checked(layerCount: try fields.required("num_hidden_layers"), path: path), headCount: heads,
      keyValueHeadCount: keyHeads,
      headDimension: dimension, vocabularySize: try fields.required("vocab_size"),
      maxPositions: try fields.integer("max_position_embeddings") ?? defaults.maxPositions)
    normEpsilon = try fields.double("rms_norm_eps") ?? defaults.normEpsilon
    rope = try Rope(fields, defaultTheta: defaults.ropeTheta)
    tiesEmbeddings = try fields.bool("tie_word_embeddings") ?? defaults.tiesEmbeddings
    bosTokenID = try fields.integer("bos_token_id")
    padTokenID = try fields.integer("pad_token_id")
    if let list = json["eos_token_id"]?.array {
      eosTokenIDs = list.compactMap(\.int)
    } else {
      eosTokenIDs = try fields.integer("eos_token_id").map { [$0] } ?? []
    }
    storedType = (json["dtype"] ?? json["torch_dtype"])?.string
    if let quantization = json["quantization_config"], !quantization.isNull { quantizationConfig = quantization }
    try family.read(fields, into: &self)
    try validate(path: path)
  }

  /// The configuration of a published model by its hub name, for plans without its files: sizes, RoPE and ties as in
  /// the published config.json, no token ids. The organisation may be left out; case does not matter. `-Instruct` and
  /// `-chat` variants share the sizes of their base model. nil for names outside the families' tables.
  public static func known(name: String) throws(FormatError) -> DecoderSpec? {
    guard let json = Families.published(name) else { return nil }
    return try DecoderSpec(json: json, path: name)
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
    rope.write(into: &json)
    json["hidden_act"] = "silu"
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
