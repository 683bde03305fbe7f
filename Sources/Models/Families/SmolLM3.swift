import Formats

/// SmolLM3 (Hugging Face 2025): Llama in which every fourth layer does without a rotary embedding.
package enum SmolLM3: DecoderFamily {
  package static let modelType = "smollm3"
  package static let className = "SmolLM3ForCausalLM"
  package static let ggufPairsHeads = true
  package static let ownKeys: [String: FieldDecision] = [
    "attention_bias": .honoured, "mlp_bias": .honoured, "no_rope_layers": .nullable,
    "no_rope_layer_interval": .honoured, "use_sliding_window": .honoured, "sliding_window": .nullable,
  ]
  package static let defaults = ConfigDefaults(
    keyValueHeadCount: 4, maxPositions: 32768, ropeTheta: 2_000_000, tiesEmbeddings: true, bosTokenID: 128000,
    eosTokenIDs: [128001], padTokenID: 128004)
  private static let interval = 4

  package static func read(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {
    let attention = try fields.bool("attention_bias") ?? false
    spec.modules.setBiases(
      queryKeyValue: attention, output: attention, feedForward: try fields.bool("mlp_bias") ?? false)
    let every = try fields.integer("no_rope_layer_interval") ?? interval
    guard every > 0 else {
      throw .badField(path: fields.path, field: "no_rope_layer_interval", value: "\(every)", expected: "at least 1")
    }
    leaveUnrotated(every: every, &spec)
    if let rotated = try fields.perLayer("no_rope_layers", count: spec.layerCount, expected: "0 or 1", { $0.int }) {
      for (index, value) in rotated.enumerated() { spec.layers[index].rotation = value == 0 ? .none : .model }
    }
    guard try fields.bool("use_sliding_window") ?? false, let window = try fields.integer("sliding_window") else {
      return
    }
    let sliding = try fields.slidingLayers(count: spec.layerCount)
    for index in spec.layers.indices {
      spec.layers[index].window = sliding?[index] ?? (spec.layers[index].rotation == .none) ? window : nil
    }
  }

  /// llama.cpp has the interval in its code and not in the file.
  package static func read(_ fields: GGUFFields, into spec: inout DecoderSpec) throws(FormatError) {
    leaveUnrotated(every: interval, &spec)
  }

  private static func leaveUnrotated(every interval: Int, _ spec: inout DecoderSpec) {
    for index in spec.layers.indices { spec.layers[index].rotation = (index + 1) % interval == 0 ? .none : .model }
  }

  package static func write(_ spec: DecoderSpec, into json: inout JSONObject) {
    json["attention_bias"] = .bool(spec.modules.attention.inputsHaveBias)
    json["mlp_bias"] = .bool(spec.modules.feedForward.hasBias)
    json["no_rope_layer_interval"] = .int(interval)
    json["no_rope_layers"] = .array(spec.layers.map { .int($0.rotation == .none ? 0 : 1) })
    Qwen2.writeWindows(spec, into: &json)
  }

  package static let published: [String: JSON] = [
    "smollm3-3b": sizes(
      (2048, 11008, 36, 16, 4, 128), vocabulary: 128256, positions: 65536, ["rope_theta": 5_000_000.0])
  ]
}
