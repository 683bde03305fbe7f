import Formats

/// Phi-3, Phi-3.5 and Phi-4 (Microsoft 2024): Llama with one matrix for q, k and v and one for gate and up. Those for
/// long texts have LongRoPE; Phi-4 mini turns three quarters of each head.
package enum Phi3: DecoderFamily {
  package static let modelType = "phi3"
  package static let className = "Phi3ForCausalLM"
  package static let rotatesPartOfHeads = true
  package static let ropeTypeNames = ["su": "longrope", "yarn": "longrope"]
  package static let ownKeys: [String: FieldDecision] = ["sliding_window": .nullable]
  package static let ownGGUFKeys: [String: FieldDecision] = ["attention.sliding_window": .honoured]
  package static let defaults = ConfigDefaults(
    maxPositions: 4096, normEpsilon: 1e-5, originalPositions: 4096, eosTokenIDs: [32000], padTokenID: 32000)

  package static let modules: LayerModules = {
    var modules = LayerModules()
    modules.attention = AttentionModules(.stacked, fused: "self_attn.qkv_proj", output: "self_attn.o_proj")
    modules.feedForward = FeedForwardModules(
      .fusedGate, inputs: [("mlp.gate_up_proj", "ffn_up")], output: "mlp.down_proj")
    return modules
  }()

  package static func read(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {
    // So it is in the class of transformers, which knows yarn as another name of longrope.
    switch spec.rope.scaling {
    case .none, .longrope: break
    default:
      let given = [fields.json["rope_scaling"], fields.json["rope_parameters"]].compactMap { $0?.object }
        .compactMap { ($0["rope_type"] ?? $0["type"])?.string }.first
      throw .unsupportedModel(
        path: fields.path, field: "rope_type", value: given ?? "absent", supported: ["default", "longrope"])
    }
    let window = try fields.integer("sliding_window")
    for index in spec.layers.indices { spec.layers[index].window = window }
  }

  /// 0 is no window. llama.cpp warns that it leaves the window out; transformers and this engine do not.
  package static func read(_ fields: GGUFFields, into spec: inout DecoderSpec) throws(FormatError) {
    guard let window = try fields.integer("attention.sliding_window"), window != 0 else { return }
    for index in spec.layers.indices { spec.layers[index].window = window }
  }

  /// llama.cpp tells Phi-4 by a window of 0.
  package static func write(_ spec: DecoderSpec, into gguf: inout GGUFDescription) {
    gguf.set("attention.sliding_window", spec.layers.first?.window ?? 0)
  }

  package static func write(_ spec: DecoderSpec, into json: inout JSONObject) {
    json["sliding_window"] = spec.layers.first?.window.map { .int($0) } ?? .null
  }

  package static let published: [String: JSON] = [
    "phi-3-mini-4k": sizes(
      (3072, 8192, 32, 32, 32, 96), vocabulary: 32064, positions: 4096,
      ["rms_norm_eps": 1e-5, "sliding_window": 2047]),
    "phi-3-medium-4k": sizes(
      (5120, 17920, 40, 40, 10, 128), vocabulary: 32064, positions: 4096,
      ["rms_norm_eps": 1e-5, "sliding_window": 2047]),
    "phi-4": sizes(
      (5120, 17920, 40, 40, 10, 128), vocabulary: 100352, positions: 16384,
      ["rms_norm_eps": 1e-5, "rope_theta": 250000.0]),
  ]
}
