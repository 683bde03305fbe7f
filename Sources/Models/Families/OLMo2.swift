import Formats

/// OLMo 2 (OLMo team 2024): norms behind attention and feed-forward layer instead of before them, and of q and k over
/// all heads together.
package enum OLMo2: DecoderFamily {
  package static let modelType = "olmo2"
  package static let className = "Olmo2ForCausalLM"
  package static let ownKeys: [String: FieldDecision] = ["attention_bias": .honoured]
  package static let defaults = ConfigDefaults(
    normEpsilon: 1e-5, bosTokenID: nil, eosTokenIDs: [50279], padTokenID: 1)

  package static let modules: LayerModules = {
    var modules = LayerModules()
    modules.attentionNorm = nil
    modules.attention.queryNorm = LayerModule("self_attn.q_norm", "attn_q_norm", .norm(.queries))
    modules.attention.keyNorm = LayerModule("self_attn.k_norm", "attn_k_norm", .norm(.keys))
    modules.attentionPostNorm = LayerModule("post_attention_layernorm", "post_attention_norm", .norm(.hidden))
    modules.feedForwardNorm = nil
    modules.feedForwardPostNorm = LayerModule("post_feedforward_layernorm", "post_ffw_norm", .norm(.hidden))
    return modules
  }()

  package static func read(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {
    let bias = try fields.bool("attention_bias") ?? false
    spec.modules.setBiases(queryKeyValue: bias, output: bias)
  }

  package static func write(_ spec: DecoderSpec, into json: inout JSONObject) {
    json["attention_bias"] = .bool(spec.modules.attention.inputsHaveBias)
  }

  package static let published: [String: JSON] = {
    var table: [String: JSON] = [:]
    for (name, s) in [
      ("olmo-2-0425-1b", (2048, 8192, 16, 16, 16, 128)), ("olmo-2-1124-7b", (4096, 11008, 32, 32, 32, 128)),
      ("olmo-2-1124-13b", (5120, 13824, 40, 40, 40, 128)), ("olmo-2-0325-32b", (5120, 27648, 64, 40, 8, 128)),
    ] as [(String, (Int, Int, Int, Int, Int, Int))] {
      table[name] = sizes(
        s, vocabulary: 100352, positions: 4096, ["rms_norm_eps": 1e-6, "rope_theta": 500000.0])
    }
    return table
  }()
}
