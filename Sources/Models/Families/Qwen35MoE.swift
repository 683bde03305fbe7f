import Formats

/// Text models of Qwen3.5 with experts (Qwen team 2026): the mixers of Qwen3.5, and in every layer experts, of which
/// every token has one more, times a gate. Published files hold the experts of a layer in two tensors, transformers 5
/// writes a module for each.
package enum Qwen35MoE: DecoderFamily {
  package static let modelType = "qwen3_5_moe_text"
  package static let className = "Qwen3_5MoeForCausalLM"
  package static let ggufArchitecture: String? = "qwen35moe"
  package static let ggufAddsOneToNorms = true
  package static let ownGGUFKeys = DeltaNetNumbers.ggufKeys.merging(ExpertFields.ggufKeys) { own, _ in own }.merging([
    "expert_shared_feed_forward_length": .honoured
  ]) { own, _ in own }
  package static let normalization = Qwen35.normalization
  package static let rotatesPartOfHeads = true
  package static let leftoverParts = Qwen35.leftoverParts
  package static let ownRopeKeys = Qwen35.ownRopeKeys
  package static let multimodal: MultimodalFamily? = Qwen35.whole("qwen3_5_moe")
  package static let ownKeys = Qwen35.ownKeys.merging(ExpertFields.keys) { own, _ in own }.merging([
    "moe_intermediate_size": .honoured, "shared_expert_intermediate_size": .honoured,
    "norm_topk_prob": .only([.null, true], "the weights of a token's experts add up to 1"),
    "decoder_sparse_step": .only([.null, 1], "every layer has experts"),
  ]) { own, _ in own }
  package static let defaults: ConfigDefaults = {
    var defaults = Qwen35.defaults
    defaults.keyValueHeadCount = 2
    // No layer is dense; transformers has no such key.
    defaults.sizes = [
      "vocab_size": 248320, "hidden_size": 2048, "intermediate_size": 512, "num_hidden_layers": 40,
      "num_attention_heads": 16,
    ]
    return defaults
  }()
  package static let expertRows = [
    TensorStacks.Rows("mlp.experts.gate_up_proj", ["mlp.experts.#.gate_proj", "mlp.experts.#.up_proj"]),
    TensorStacks.Rows("mlp.experts.down_proj", ["mlp.experts.#.down_proj"]),
  ]

  package static let modules: LayerModules = {
    var modules = Qwen35.modules
    modules.experts = .qwenWithShared
    return modules
  }()

  package static func read(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {
    try Qwen35.readMixers(fields, into: &spec)
    try ExpertFields.read(
      fields, count: 256, perToken: 8, width: try fields.integer("moe_intermediate_size") ?? 512, normalizes: true,
      coefficient: 0.001, into: &spec
    ) { _ in true }
    guard spec.experts != nil else {
      throw .badField(path: fields.path, field: "num_experts", value: "0", expected: "at least 1")
    }
    spec.experts?.sharedWidth = try fields.integer("shared_expert_intermediate_size") ?? 512
  }

  /// llama.cpp normalizes the weights of experts without being told.
  package static func read(_ fields: GGUFFields, into spec: inout DecoderSpec) throws(FormatError) {
    try Qwen35.read(fields, into: &spec)
    try ExpertFields.read(fields, normalizes: true, into: &spec)
  }

  package static func write(_ spec: DecoderSpec, into json: inout JSONObject) {
    Qwen35.write(spec, into: &json)
    json["moe_intermediate_size"] = .int(spec.experts?.width ?? 512)
    json["shared_expert_intermediate_size"] = .int(spec.experts?.sharedWidth ?? 512)
    ExpertFields.write(spec, countKey: "num_experts", into: &json)
  }

  package static let published: [String: JSON] = [
    "qwen3.5-35b-a3b": sizes(
      (2048, 512, 40, 16, 2, 256), vocabulary: 248320, positions: 262144,
      [
        "rope_theta": 1e7, "partial_rotary_factor": 0.25, "num_experts": 256, "num_experts_per_tok": 8,
        "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512,
      ])
  ]
}
