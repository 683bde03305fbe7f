import Formats

/// Qwen3, dense (Yang et al. 2025): RMS norms of each query and key head, no biases by default.
package enum Qwen3: DecoderFamily {
  package static let modelType = "qwen3"
  package static let className = "Qwen3ForCausalLM"
  package static let ownKeys = Qwen2.windowKeys.merging(["attention_bias": .honoured]) { own, _ in own }
  package static let defaults = ConfigDefaults(
    keyValueHeadCount: 32, headDimension: 128, maxPositions: 32768, bosTokenID: nil, eosTokenIDs: [])

  package static let modules: LayerModules = {
    var modules = LayerModules()
    modules.attention.queryNorm = LayerModule("self_attn.q_norm", "attn_q_norm", .norm(.head))
    modules.attention.keyNorm = LayerModule("self_attn.k_norm", "attn_k_norm", .norm(.head))
    return modules
  }()

  package static func read(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {
    let bias = try fields.bool("attention_bias") ?? false
    spec.modules.setBiases(queryKeyValue: bias, output: bias)
    try Qwen2.readWindows(fields, into: &spec)
  }

  package static func write(_ spec: DecoderSpec, into json: inout JSONObject) {
    json["attention_bias"] = .bool(spec.modules.attention.inputsHaveBias)
    Qwen2.writeWindows(spec, into: &json)
  }

  package static let published: [String: JSON] = {
    var table: [String: JSON] = [:]
    for (name, s, ties) in [
      ("qwen3-0.6b", (1024, 3072, 28, 16, 8, 128), true), ("qwen3-1.7b", (2048, 6144, 28, 16, 8, 128), true),
      ("qwen3-4b", (2560, 9728, 36, 32, 8, 128), true), ("qwen3-8b", (4096, 12288, 36, 32, 8, 128), false),
      ("qwen3-14b", (5120, 17408, 40, 40, 8, 128), false), ("qwen3-32b", (5120, 25600, 64, 64, 8, 128), false),
    ] as [(String, (Int, Int, Int, Int, Int, Int), Bool)] {
      table[name] = sizes(
        s, vocabulary: 151936, positions: 40960, ["rope_theta": 1e6, "tie_word_embeddings": .bool(ties)])
    }
    for name in ["qwen3-4b-2507", "qwen3-4b-thinking-2507"] {
      table[name] = sizes(
        (2560, 9728, 36, 32, 8, 128), vocabulary: 151936, positions: 262144,
        ["rope_theta": 5e6, "tie_word_embeddings": true])
    }
    return table
  }()
}
