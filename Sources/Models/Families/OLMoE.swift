import Formats

/// OLMoE (Muennighoff et al. 2024): Llama with norms of q and k over all heads together and experts in every layer,
/// whose weights do not add up to 1.
package enum OLMoE: DecoderFamily {
  package static let modelType = "olmoe"
  package static let className = "OlmoeForCausalLM"
  package static let ownKeys = ExpertFields.keys.merging([
    "attention_bias": .honoured, "norm_topk_prob": .honoured, "clip_qkv": .only([.null], "q, k and v are not clipped"),
  ]) { own, _ in own }
  package static let ownGGUFKeys = ExpertFields.ggufKeys
  package static let defaults: ConfigDefaults = ConfigDefaults(
    maxPositions: 4096, normEpsilon: 1e-5, bosTokenID: nil, eosTokenIDs: [50279], padTokenID: 1)

  package static let modules: LayerModules = {
    var modules = LayerModules()
    modules.attention.queryNorm = OLMo2.modules.attention.queryNorm
    modules.attention.keyNorm = OLMo2.modules.attention.keyNorm
    modules.experts = ExpertModules()
    return modules
  }()

  package static func read(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {
    let bias = try fields.bool("attention_bias") ?? false
    spec.modules.setBiases(queryKeyValue: bias, output: bias)
    try ExpertFields.read(
      fields, count: 64, perToken: 8, width: spec.intermediateSize,
      normalizes: try fields.bool("norm_topk_prob") ?? false, coefficient: 0.01, into: &spec
    ) { _ in true }
  }

  /// llama.cpp leaves the weights as they are without being told.
  package static func read(_ fields: GGUFFields, into spec: inout DecoderSpec) throws(FormatError) {
    try ExpertFields.read(fields, normalizes: false, into: &spec)
  }

  package static func write(_ spec: DecoderSpec, into json: inout JSONObject) {
    json["attention_bias"] = .bool(spec.modules.attention.inputsHaveBias)
    json["norm_topk_prob"] = .bool(spec.experts?.normalizesWeights ?? false)
    ExpertFields.write(spec, countKey: "num_experts", into: &json)
  }

  package static let published: [String: JSON] = {
    var table: [String: JSON] = [:]
    for name in ["olmoe-1b-7b-0924", "olmoe-1b-7b-0125"] {
      table[name] = sizes(
        (2048, 1024, 16, 16, 16, 128), vocabulary: 50304, positions: 4096,
        ["rms_norm_eps": 1e-5, "num_experts": 64, "num_experts_per_tok": 8])
    }
    return table
  }()
}
