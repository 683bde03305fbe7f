import Formats

/// Qwen3-Next (Qwen team 2025): the mixers of Qwen3.5, whose DeltaNets have fused projections, and experts, of which
/// every token has one more, times a gate.
package enum Qwen3Next: DecoderFamily {
  package static let modelType = "qwen3_next"
  package static let className = "Qwen3NextForCausalLM"
  package static let ggufArchitecture: String? = "qwen3next"
  package static let ggufAddsOneToNorms = true
  package static let ownGGUFKeys = DeltaNetNumbers.ggufKeys.merging(ExpertFields.ggufKeys) { own, _ in own }.merging([
    "expert_shared_feed_forward_length": .honoured
  ]) { own, _ in own }
  package static let normalization = Qwen35.normalization
  package static let rotatesPartOfHeads = true
  package static let leftoverParts = Qwen35.leftoverParts
  package static let ownKeys = Qwen35.mixerKeys.merging(Qwen3MoE.expertKeys) { own, _ in own }.merging([
    "shared_expert_intermediate_size": .honoured
  ]) { own, _ in own }
  package static let defaults = ConfigDefaults(
    keyValueHeadCount: 2, headDimension: 256, maxPositions: 32768, partialRotaryFactor: 0.25, bosTokenID: nil,
    eosTokenIDs: [],
    sizes: [
      "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 48,
      "num_attention_heads": 16,
    ])

  package static let modules: LayerModules = {
    var modules = Qwen35.modules
    modules.deltaNet = .fused
    modules.experts = .qwenWithShared
    return modules
  }()

  package static func read(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {
    try Qwen35.readMixers(fields, into: &spec)
    try Qwen3MoE.readExperts(fields, count: 512, perToken: 10, width: 512, normalizes: true, into: &spec)
    spec.experts?.sharedWidth = try fields.integer("shared_expert_intermediate_size") ?? 512
  }

  /// llama.cpp normalizes the weights of experts without being told.
  package static func read(_ fields: GGUFFields, into spec: inout DecoderSpec) throws(FormatError) {
    try Qwen35.read(fields, into: &spec)
    try ExpertFields.read(fields, normalizes: true, into: &spec)
  }

  package static func write(_ spec: DecoderSpec, into json: inout JSONObject) {
    Qwen35.write(spec, into: &json)
    Qwen3MoE.writeExperts(spec, into: &json)
    json["shared_expert_intermediate_size"] = .int(spec.experts?.sharedWidth ?? 512)
  }

  package static let published: [String: JSON] = {
    let config = sizes(
      (2048, 5120, 48, 16, 2, 256), vocabulary: 151936, positions: 262144,
      [
        "rope_theta": 1e7, "partial_rotary_factor": 0.25, "num_experts": 512, "num_experts_per_tok": 10,
        "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512, "norm_topk_prob": true,
      ])
    return ["qwen3-next-80b-a3b": config, "qwen3-next-80b-a3b-thinking": config]
  }()
}
