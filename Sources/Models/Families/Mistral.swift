import Formats

/// Mistral 7B (Jiang et al. 2023): Llama with a sliding window in every layer, or, as in Ministral, in those that
/// layer_types names. GGUF files call it llama.
package enum Mistral: DecoderFamily {
  package static let modelType = "mistral"
  package static let className = "MistralForCausalLM"
  package static let ggufArchitecture: String? = nil
  package static let ggufWriter: any DecoderFamily.Type = Llama.self
  package static let ownKeys: [String: FieldDecision] = ["sliding_window": .nullable]
  package static let defaults = ConfigDefaults(keyValueHeadCount: 8, maxPositions: 131072)

  package static func read(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {
    let window = fields.json["sliding_window"] == nil ? 4096 : try fields.integer("sliding_window")
    // With layer_types transformers computes Ministral, which differs from Mistral in nothing else.
    let sliding = try fields.slidingLayers(count: spec.layerCount)
    for index in spec.layers.indices { spec.layers[index].window = sliding?[index] ?? true ? window : nil }
  }

  package static func write(_ spec: DecoderSpec, into json: inout JSONObject) {
    let windows = spec.layers.map(\.window)
    json["sliding_window"] = windows.lazy.compactMap { $0 }.first.map { .int($0) } ?? .null
    if Set(windows).count > 1 {
      json["layer_types"] = .array(windows.map { $0 == nil ? "full_attention" : "sliding_attention" })
    }
  }

  package static let published: [String: JSON] = {
    var table: [String: JSON] = [:]
    for (version, vocabulary, theta, window) in [
      ("v0.1", 32000, 1e4, 4096), ("v0.2", 32000, 1e6, .null), ("v0.3", 32768, 1e6, .null),
    ] as [(String, Int, Double, JSON)] {
      table["mistral-7b-" + version] = sizes(
        (4096, 14336, 32, 32, 8, 128), vocabulary: vocabulary, positions: 32768,
        ["rms_norm_eps": 1e-5, "rope_theta": .number(theta), "sliding_window": window])
    }
    table["zephyr-7b-beta"] = table["mistral-7b-v0.1"]
    table["mathstral-7b-v0.1"] = table["mistral-7b-v0.3"]
    func later(
      _ name: String, _ s: (Int, Int, Int, Int, Int, Int), _ vocabulary: Int, positions: Int, theta: Double,
      window: JSON = .null
    ) {
      table[name] = sizes(
        s, vocabulary: vocabulary, positions: positions,
        ["rms_norm_eps": 1e-5, "rope_theta": .number(theta), "sliding_window": window])
    }
    later("mistral-nemo-2407", (5120, 14336, 40, 32, 8, 128), 131072, positions: 128000, theta: 1e6)
    later("mistral-small-24b-2501", (5120, 32768, 40, 32, 8, 128), 131072, positions: 32768, theta: 1e8)
    later("mistral-small-2409", (6144, 16384, 56, 48, 8, 128), 32768, positions: 32768, theta: 1e6)
    later("codestral-22b-v0.1", (6144, 16384, 56, 48, 8, 128), 32768, positions: 32768, theta: 1e6)
    later("mistral-large-2407", (12288, 28672, 88, 96, 8, 128), 32768, positions: 32768, theta: 1e6)
    later("ministral-8b-2410", (4096, 12288, 36, 32, 8, 128), 131072, positions: 32768, theta: 1e8, window: 32768)
    return table
  }()
}
