import Formats

/// Qwen3 with experts (Yang et al. 2025): Qwen3 whose feed-forward layers, or those that the config names, are
/// mixtures.
package enum Qwen3MoE: DecoderFamily {
  package static let modelType = "qwen3_moe"
  package static let className = "Qwen3MoeForCausalLM"
  package static let ggufArchitecture: String? = "qwen3moe"
  /// Keys that Qwen3-Next reads too.
  static let expertKeys = ExpertFields.keys.merging([
    "decoder_sparse_step": .honoured, "mlp_only_layers": .nullable, "moe_intermediate_size": .honoured,
    "norm_topk_prob": .honoured,
  ]) { own, _ in own }
  package static let ownKeys = expertKeys.merging([
    "attention_bias": .honoured, "use_sliding_window": .honoured, "sliding_window": .nullable,
  ]) { own, _ in own }
  package static let ownGGUFKeys = ExpertFields.ggufKeys
  package static let defaults: ConfigDefaults = {
    var defaults = ConfigDefaults(
      keyValueHeadCount: 4, maxPositions: 32768, bosTokenID: nil, eosTokenIDs: [])
    defaults.sizes = ["num_hidden_layers": 24, "intermediate_size": 6144]
    return defaults
  }()

  package static let modules: LayerModules = {
    var modules = Qwen3.modules
    modules.experts = ExpertModules()
    return modules
  }()

  package static func read(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {
    let bias = try fields.bool("attention_bias") ?? false
    spec.modules.setBiases(queryKeyValue: bias, output: bias)
    if try fields.bool("use_sliding_window") ?? false {
      let window = fields.json["sliding_window"] == nil ? 4096 : try fields.integer("sliding_window")
      for index in spec.layers.indices { spec.layers[index].window = window }
    }
    try readExperts(fields, count: 128, perToken: 8, width: 768, normalizes: false, into: &spec)
  }

  /// What Qwen3-Next reads too, with these where nothing is said.
  static func readExperts(
    _ fields: ConfigFields, count: Int, perToken: Int, width: Int, normalizes: Bool, into spec: inout DecoderSpec
  ) throws(FormatError) {
    let step = try fields.integer("decoder_sparse_step") ?? 1
    guard step > 0 else {
      throw .badField(path: fields.path, field: "decoder_sparse_step", value: "\(step)", expected: "at least 1")
    }
    let dense = Set(try fields.tokenIDs("mlp_only_layers"))
    try ExpertFields.read(
      fields, count: count, perToken: perToken, width: try fields.integer("moe_intermediate_size") ?? width,
      normalizes: try fields.bool("norm_topk_prob") ?? normalizes, coefficient: 0.001, into: &spec
    ) { !dense.contains($0) && ($0 + 1).isMultiple(of: step) }
  }

  /// llama.cpp normalizes the weights without being told.
  package static func read(_ fields: GGUFFields, into spec: inout DecoderSpec) throws(FormatError) {
    try ExpertFields.read(fields, normalizes: true, into: &spec)
  }

  package static func write(_ spec: DecoderSpec, into json: inout JSONObject) {
    json["attention_bias"] = .bool(spec.modules.attention.inputsHaveBias)
    let window = spec.layers.first?.window
    json["sliding_window"] = window.map { .int($0) } ?? .null
    json["use_sliding_window"] = .bool(window != nil)
    writeExperts(spec, into: &json)
  }

  static func writeExperts(_ spec: DecoderSpec, into json: inout JSONObject) {
    json["decoder_sparse_step"] = 1
    let dense = spec.layers.indices.filter { !spec.layers[$0].hasExperts }
    // Not an empty list, which Lua cannot tell from an empty table.
    json["mlp_only_layers"] = dense.isEmpty ? .null : .array(dense.map { .int($0) })
    json["moe_intermediate_size"] = .int(spec.experts?.width ?? 768)
    json["norm_topk_prob"] = .bool(spec.experts?.normalizesWeights ?? false)
    ExpertFields.write(spec, countKey: "num_experts", into: &json)
  }

  package static let published: [String: JSON] = {
    var table: [String: JSON] = [:]
    for (names, s, width, theta, positions) in [
      (["qwen3-30b-a3b"], (2048, 6144, 48, 32, 4, 128), 768, 1e6, 40960),
      (["qwen3-30b-a3b-2507", "qwen3-30b-a3b-thinking-2507"], (2048, 6144, 48, 32, 4, 128), 768, 1e7, 262144),
      (["qwen3-coder-30b-a3b"], (2048, 5472, 48, 32, 4, 128), 768, 1e7, 262144),
      (["qwen3-235b-a22b"], (4096, 12288, 94, 64, 4, 128), 1536, 1e6, 40960),
    ] as [([String], (Int, Int, Int, Int, Int, Int), Int, Double, Int)] {
      for name in names {
        table[name] = sizes(
          s, vocabulary: 151936, positions: positions,
          [
            "rope_theta": .number(theta), "num_experts": 128, "num_experts_per_tok": 8,
            "moe_intermediate_size": .int(width), "norm_topk_prob": true,
          ])
      }
    }
    return table
  }()
}
