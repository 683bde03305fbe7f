import Formats

/// OLMo 3 (OLMo team 2025): OLMo 2 with a window in three of four layers; positions are stretched only in the others.
/// GGUF files call it olmo2.
package enum OLMo3: DecoderFamily {
  package static let modelType = "olmo3"
  package static let className = "Olmo3ForCausalLM"
  package static let ggufArchitecture: String? = "olmo2"
  package static let slidingRope: SlidingRope? = SlidingRope(thetaKey: nil, theta: 500_000)
  package static let ownKeys: [String: FieldDecision] = ["attention_bias": .honoured, "sliding_window": .honoured]
  package static let ownGGUFKeys: [String: FieldDecision] = [
    "attention.sliding_window": .honoured, "attention.sliding_window_pattern": .honoured,
  ]
  package static let defaults = ConfigDefaults(
    normEpsilon: 1e-5, ropeTheta: 500_000, bosTokenID: nil, eosTokenIDs: [50279], padTokenID: 1)
  package static let modules = OLMo2.modules
  private static let interval = 4

  /// OLMo 2 has no windows.
  package static func reads(_ gguf: GGUFFile) -> Bool {
    gguf.metadata["olmo2.attention.sliding_window"]?.int ?? 0 != 0
  }

  package static func read(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {
    try OLMo2.read(fields, into: &spec)
    let sliding = try fields.slidingLayers(count: spec.layerCount)
    setWindows(try fields.integer("sliding_window") ?? 4096, sliding, &spec)
  }

  package static func read(_ fields: GGUFFields, into spec: inout DecoderSpec) throws(FormatError) {
    let sliding = try fields.slidingLayers(every: interval, count: spec.layerCount)
    setWindows(try fields.required("attention.sliding_window"), sliding, &spec)
  }

  private static func setWindows(_ window: Int, _ sliding: [Bool]?, _ spec: inout DecoderSpec) {
    for index in spec.layers.indices {
      spec.layers[index].window = sliding?[index] ?? ((index + 1) % interval != 0) ? window : nil
    }
  }

  package static func write(_ spec: DecoderSpec, into gguf: inout GGUFDescription) {
    // Without a window it is OLMo 2.
    guard let window = spec.layers.lazy.compactMap(\.window).first else { return }
    gguf.set("attention.sliding_window", window)
    gguf.set("attention.sliding_window_pattern", .array(spec.layers.map { .bool($0.window != nil) }))
  }

  package static func write(_ spec: DecoderSpec, into json: inout JSONObject) {
    OLMo2.write(spec, into: &json)
    if let window = spec.layers.lazy.compactMap(\.window).first { json["sliding_window"] = .int(window) }
    json["layer_types"] = .array(spec.layers.map { $0.window == nil ? "full_attention" : "sliding_attention" })
  }

  package static let published: [String: JSON] = {
    var table: [String: JSON] = [:]
    let scaling: JSON = [
      "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8192, "beta_fast": 32.0,
      "beta_slow": 1.0, "attention_factor": 1.2079441541679836,
    ]
    for (names, s) in [
      (["olmo-3-1025-7b", "olmo-3-7b", "olmo-3-7b-think"], (4096, 11008, 32, 32, 32, 128)),
      (["olmo-3-1125-32b", "olmo-3-32b-think"], (5120, 27648, 64, 40, 8, 128)),
    ] as [([String], (Int, Int, Int, Int, Int, Int))] {
      for name in names {
        table[name] = sizes(
          s, vocabulary: 100278, positions: 65536,
          ["rms_norm_eps": 1e-6, "rope_theta": 500000.0, "rope_scaling": scaling, "sliding_window": 4096])
      }
    }
    return table
  }()
}
