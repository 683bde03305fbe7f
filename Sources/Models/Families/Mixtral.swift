import Formats

/// Mixtral (Jiang et al. 2024): Mistral with experts in every layer. GGUF files call it llama.
package enum Mixtral: DecoderFamily {
  package static let modelType = "mixtral"
  package static let className = "MixtralForCausalLM"
  package static let ggufArchitecture: String? = "llama"
  package static let ggufPairsHeads = true
  package static let ownKeys = ExpertFields.keys.merging([
    "sliding_window": .nullable,
    "router_jitter_noise": .said([.null, 0], "the input of the experts gets no noise in training"),
  ]) { own, _ in own }
  package static let ownGGUFKeys = ExpertFields.ggufKeys
  package static let defaults: ConfigDefaults = ConfigDefaults(
    keyValueHeadCount: 8, maxPositions: 131072, normEpsilon: 1e-5, ropeTheta: 1_000_000)

  package static let modules: LayerModules = {
    var modules = LayerModules()
    modules.experts = ExpertModules(
      router: "block_sparse_moe.gate",
      inputs: [("block_sparse_moe.experts.#.w1", "ffn_gate_exps"), ("block_sparse_moe.experts.#.w3", "ffn_up_exps")],
      output: "block_sparse_moe.experts.#.w2")
    return modules
  }()

  package static func reads(_ gguf: GGUFFile) -> Bool { gguf.metadata["llama.expert_count"]?.int ?? 0 != 0 }

  package static func read(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {
    let window = try fields.integer("sliding_window")
    for index in spec.layers.indices { spec.layers[index].window = window }
    try ExpertFields.read(
      fields, count: 8, perToken: 2, width: spec.intermediateSize, normalizes: true, coefficient: 0.001, into: &spec
    ) { _ in true }
  }

  package static func read(_ fields: GGUFFields, into spec: inout DecoderSpec) throws(FormatError) {
    try ExpertFields.read(fields, normalizes: true, into: &spec)
  }

  package static func write(_ spec: DecoderSpec, into json: inout JSONObject) {
    json["sliding_window"] = spec.layers.first?.window.map { .int($0) } ?? .null
    ExpertFields.write(spec, countKey: "num_local_experts", into: &json)
  }

  package static let published: [String: JSON] = {
    var table: [String: JSON] = [:]
    for (name, s, positions) in [
      ("mixtral-8x7b-v0.1", (4096, 14336, 32, 32, 8, 128), 32768),
      ("mixtral-8x22b-v0.1", (6144, 16384, 56, 48, 8, 128), 65536),
    ] as [(String, (Int, Int, Int, Int, Int, Int), Int)] {
      table[name] = sizes(
        s, vocabulary: 32000, positions: positions,
        ["rms_norm_eps": 1e-5, "rope_theta": 1e6, "num_local_experts": 8, "num_experts_per_tok": 2])
    }
    return table
  }()
}
