extension ModelConfig {
  /// Reads `config.json` of a model folder, or the file itself.
  public static func read(path: String) throws(FormatError) -> ModelConfig {
    let file = FileSystem.isDirectory(path) ? path + "/config.json" : path
    return try ModelConfig(json: try JSON.read(path: file), path: file)
  }

  /// Interprets a Hugging Face config of transformers 4 or 5; absent fields have the defaults of transformers.
  public init(json: JSON, path: String) throws(FormatError) {
    let fields = ConfigFields(json: json, path: path)
    let supported = ModelType.allCases.map(\.rawValue)
    guard let typeName = json["model_type"]?.string, let type = ModelType(rawValue: typeName) else {
      throw .unsupportedModel(
        path: path, field: "model_type", value: json["model_type"]?.text() ?? "absent", supported: supported)
    }
    if let activation = json["hidden_act"]?.string, activation != "silu" {
      throw .unsupportedModel(path: path, field: "hidden_act", value: activation, supported: ["silu"])
    }
    if let rotary = json["partial_rotary_factor"]?.double ?? json["rope_parameters"]?["partial_rotary_factor"]?.double,
      rotary != 1
    {
      throw .unsupportedModel(path: path, field: "partial_rotary_factor", value: "\(rotary)", supported: ["1.0"])
    }
    let heads = try fields.required("num_attention_heads")
    let hidden = try fields.required("hidden_size")
    // transformers: an absent key takes the class default, an explicit null means one key head per query head.
    let absentKeyHeads = type == .llama ? heads : type == .mistral ? 8 : 32
    let keyHeads =
      json["num_key_value_heads"] == nil ? absentKeyHeads : try fields.optional("num_key_value_heads") ?? heads
    var dimension = try fields.optional("head_dim") ?? 0
    if json["head_dim"] == nil && type == .qwen3 { dimension = 128 }
    if dimension == 0 {
      guard heads > 0, hidden % heads == 0 else {
        throw .badField(
          path: path, field: "hidden_size", value: "\(hidden)",
          expected: "a multiple of num_attention_heads (\(heads)) where head_dim is absent")
      }
      dimension = hidden / heads
    }
    self.init(
      modelType: type, hiddenSize: hidden, intermediateSize: try fields.required("intermediate_size"),
      layerCount: try fields.required("num_hidden_layers"), headCount: heads, keyValueHeadCount: keyHeads,
      headDimension: dimension, vocabularySize: try fields.required("vocab_size"),
      maxPositions: try fields.optional("max_position_embeddings")
        ?? (type == .llama ? 2048 : type == .mistral ? 131072 : 32768))
    normEpsilon = try fields.double("rms_norm_eps") ?? 1e-6
    let rope = json["rope_parameters"] ?? .null
    // transformers 5 keeps theta with the scaling parameters.
    let topTheta = try fields.double("rope_theta")
    ropeTheta = try fields.double("rope_theta", in: rope) ?? topTheta ?? 10000
    let scaling = rope["rope_type"] != nil ? rope : json["rope_scaling"] ?? .null
    ropeScaling = try ModelConfig.ropeScaling(scaling, fields: fields, maxPositions: maxPositions)
    tiesEmbeddings = try fields.bool("tie_word_embeddings") ?? false
    let attentionBias = try fields.bool("attention_bias") ?? false
    hasQKVBias = type == .qwen2 || (type != .mistral && attentionBias)
    hasOutputBias = (type == .llama || type == .qwen3) && attentionBias
    let mlpBias = try fields.bool("mlp_bias") ?? false
    hasMLPBias = type == .llama && mlpBias
    bosTokenID = try fields.optional("bos_token_id")
    padTokenID = try fields.optional("pad_token_id")
    if let list = json["eos_token_id"]?.array {
      eosTokenIDs = list.compactMap(\.int)
    } else {
      eosTokenIDs = try fields.optional("eos_token_id").map { [$0] } ?? []
    }
    storedType = (json["dtype"] ?? json["torch_dtype"])?.string
    if let quantization = json["quantization_config"], !quantization.isNull { quantizationConfig = quantization }
    try validate(path: path)  // before layerCount sizes a list
    try readWindow(json, fields)
    try validate(path: path)
  }

  private mutating func readWindow(_ json: JSON, _ fields: ConfigFields) throws(FormatError) {
    switch modelType {
    case .llama: return
    case .mistral:
      slidingWindow = json["sliding_window"] == nil ? 4096 : try fields.optional("sliding_window")
    case .qwen2, .qwen3:
      guard try fields.bool("use_sliding_window") ?? false else { return }
      slidingWindow = try fields.optional("sliding_window") ?? 4096
      let first = try fields.optional("max_window_layers") ?? 28
      windowedLayers = (0..<layerCount).map { $0 >= first }
      if let types = json["layer_types"]?.array {
        guard types.count == layerCount,
          types.allSatisfy({ $0.string == "sliding_attention" || $0.string == "full_attention" })
        else {
          throw .badField(
            path: fields.path, field: "layer_types", value: json["layer_types"]!.text(),
            expected: "sliding_attention or full_attention for each of \(layerCount) layers")
        }
        windowedLayers = types.map { $0.string == "sliding_attention" }
      }
    }
  }

  private static func ropeScaling(
    _ json: JSON, fields: ConfigFields, maxPositions: Int
  ) throws(FormatError) -> RopeScaling {
    if json.isNull { return .none }
    let type = (json["rope_type"] ?? json["type"])?.string ?? "absent"
    func number(_ name: String) throws(FormatError) -> Double {
      guard let value = try fields.double(name, in: json), value > 0, value.isFinite else {
        throw .badField(
          path: fields.path, field: "rope_scaling.\(name)", value: json[name]?.text() ?? "absent",
          expected: "a positive number")
      }
      return value
    }
    switch type {
    case "default": return .none
    case "linear": return .linear(factor: try number("factor"))
    case "llama3":
      let low = try number("low_freq_factor"), high = try number("high_freq_factor")
      guard high > low else {
        throw .badField(
          path: fields.path, field: "rope_scaling.high_freq_factor", value: "\(high)",
          expected: "more than low_freq_factor (\(low))")
      }
      guard let original = json["original_max_position_embeddings"]?.int, original > 0 else {
        throw .badField(
          path: fields.path, field: "rope_scaling.original_max_position_embeddings",
          value: json["original_max_position_embeddings"]?.text() ?? "absent", expected: "a positive integer")
      }
      return .llama3(
        factor: try number("factor"), lowFrequencyFactor: low, highFrequencyFactor: high, originalPositions: original)
    default:
      throw .unsupportedModel(
        path: fields.path, field: "rope_type", value: type, supported: ["default", "linear", "llama3"])
    }
  }

  /// A config that transformers 4 and 5 read as the same model.
  public func toJSON() -> JSON {
    let classes: [ModelType: String] = [
      .llama: "LlamaForCausalLM", .mistral: "MistralForCausalLM", .qwen2: "Qwen2ForCausalLM",
      .qwen3: "Qwen3ForCausalLM",
    ]
    func optional(_ value: Int?) -> JSON { value.map { .int($0) } ?? .null }
    var json = JSONObject()
    json["architectures"] = [.string(classes[modelType]!)]
    json["model_type"] = .string(modelType.rawValue)
    json["hidden_size"] = .int(hiddenSize)
    json["intermediate_size"] = .int(intermediateSize)
    json["num_hidden_layers"] = .int(layerCount)
    json["num_attention_heads"] = .int(headCount)
    json["num_key_value_heads"] = .int(keyValueHeadCount)
    json["head_dim"] = .int(headDimension)
    json["vocab_size"] = .int(vocabularySize)
    json["max_position_embeddings"] = .int(maxPositions)
    json["rms_norm_eps"] = .number(normEpsilon)
    json["rope_theta"] = .number(ropeTheta)
    switch ropeScaling {
    case .none: json["rope_scaling"] = .null
    case .linear(let factor): json["rope_scaling"] = ["rope_type": "linear", "factor": .number(factor)]
    case .llama3(let factor, let low, let high, let original):
      json["rope_scaling"] = [
        "rope_type": "llama3", "factor": .number(factor), "low_freq_factor": .number(low),
        "high_freq_factor": .number(high), "original_max_position_embeddings": .int(original),
      ]
    }
    json["hidden_act"] = "silu"
    json["tie_word_embeddings"] = .bool(tiesEmbeddings)
    if modelType == .llama || modelType == .qwen3 { json["attention_bias"] = .bool(hasQKVBias) }
    if modelType == .llama { json["mlp_bias"] = .bool(hasMLPBias) }
    if modelType != .llama { json["sliding_window"] = optional(slidingWindow) }
    if modelType == .qwen2 || modelType == .qwen3 {
      json["use_sliding_window"] = .bool(slidingWindow != nil)
      json["max_window_layers"] = .int(windowedLayers?.firstIndex(of: true) ?? layerCount)
      if let windowedLayers {
        json["layer_types"] = .array(windowedLayers.map { .string($0 ? "sliding_attention" : "full_attention") })
      }
    }
    json["bos_token_id"] = optional(bosTokenID)
    json["eos_token_id"] = eosTokenIDs.count > 1 ? .array(eosTokenIDs.map { .int($0) }) : optional(eosTokenIDs.first)
    json["pad_token_id"] = optional(padTokenID)
    json["torch_dtype"] = storedType.map { .string($0) } ?? .null
    json["use_cache"] = true
    if let quantizationConfig { json["quantization_config"] = quantizationConfig }
    return .object(json)
  }
}

/// Typed access: absent and null give nil, a value of another kind is an error that names the field.
struct ConfigFields {
  let json: JSON
  let path: String

  func optional(_ name: String) throws(FormatError) -> Int? {
    guard let value = json[name], !value.isNull else { return nil }
    guard let int = value.int else {
      throw .badField(path: path, field: name, value: value.text(), expected: "an integer")
    }
    return int
  }

  func required(_ name: String) throws(FormatError) -> Int {
    guard let value = try optional(name) else {
      throw .badField(path: path, field: name, value: "absent", expected: "an integer")
    }
    return value
  }

  func double(_ name: String, in object: JSON? = nil) throws(FormatError) -> Double? {
    guard let value = (object ?? json)[name], !value.isNull else { return nil }
    guard let double = value.double else {
      throw .badField(path: path, field: name, value: value.text(), expected: "a number")
    }
    return double
  }

  func bool(_ name: String) throws(FormatError) -> Bool? {
    guard let value = json[name], !value.isNull else { return nil }
    guard let bool = value.bool else {
      throw .badField(path: path, field: name, value: value.text(), expected: "true or false")
    }
    return bool
  }
}
