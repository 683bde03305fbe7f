import Formats
import Tensors

/// gpt-oss (OpenAI 2025): experts with biases and bounded gates in every layer, a sink in each head's softmax, and a
/// window in every second layer.
package enum GPTOSS: DecoderFamily {
  package static let modelType = "gpt_oss"
  package static let className = "GptOssForCausalLM"
  package static let ggufArchitecture: String? = "gpt-oss"
  package static let activation = Activation.clampedSwish
  package static let ownKeys = ExpertFields.keys.merging([
    "attention_bias": .honoured, "sliding_window": .honoured,
    "swiglu_alpha": .only([1.702], "the factor in the sigmoid of the gates"),
    "swiglu_limit": .only([7], "the bound of gates and their partners"),
    "experts_per_token": .harmless("transformers reads num_experts_per_tok"),
    "initial_context_length": .harmless("transformers reads original_max_position_embeddings"),
  ]) { own, _ in own }
  package static let ownGGUFKeys = ExpertFields.ggufKeys.merging([
    "attention.sliding_window": .honoured, "attention.sliding_window_pattern": .honoured,
  ]) { own, _ in own }
  package static let defaults: ConfigDefaults = {
    var defaults = ConfigDefaults(
      keyValueHeadCount: 8, headDimension: 64, maxPositions: 131072, normEpsilon: 1e-5, ropeTheta: 150_000,
      bosTokenID: nil, eosTokenIDs: [])
    defaults.sizes = [
      "num_hidden_layers": 36, "vocab_size": 201088, "hidden_size": 2880, "intermediate_size": 2880,
      "num_attention_heads": 64,
    ]
    return defaults
  }()
  private static let window = 128

  package static let modules: LayerModules = {
    var modules = LayerModules()
    modules.setBiases(queryKeyValue: true, output: true)
    modules.attention.sinks = LayerModule("self_attn.sinks", "attn_sinks.weight", .vector(.heads, initial: .random))
    modules.feedForwardNorm = LayerModule("post_attention_layernorm", "post_attention_norm", .norm(.hidden))
    modules.experts = ExpertModules(
      router: "mlp.router", input: "mlp.experts.#.gate_up_proj", output: "mlp.experts.#.down_proj")
    return modules
  }()

  package static func read(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {
    let bias = try fields.bool("attention_bias") ?? true
    spec.modules.setBiases(queryKeyValue: bias, output: bias)
    if !["rope_parameters", "rope_scaling"].contains(where: { !(fields.json[$0]?.isNull ?? true) }) {
      spec.rope.scaling = .yarn(
        Rope.YaRN(
          factor: 32, attentionFactor: Rope.YaRN.attentionFactor(32), originalPositions: 4096, truncates: false))
    }
    let sliding = try fields.slidingLayers(count: spec.layerCount)
    let given = fields.json["sliding_window"] == nil ? window : try fields.integer("sliding_window")
    setWindows(given, sliding, &spec)
    try ExpertFields.read(
      fields, count: 128, perToken: 4, width: spec.intermediateSize, normalizes: true, coefficient: 0.001, into: &spec
    ) { _ in true }
    guard spec.experts != nil else {
      throw .badField(path: fields.path, field: "num_local_experts", value: "0", expected: "at least 1")
    }
    // Blocks and scales say what they are; of other tensors it says nothing.
    if fields.json["quantization_config"]?["quant_method"] == "mxfp4" { spec.quantizationConfig = nil }
  }

  /// config.json says that the bounds of yarn are not truncated. llama.cpp has no key for that and truncates them, so a
  /// GGUF file is computed so: what is trained on it will be served by llama.cpp.
  package static func read(_ fields: GGUFFields, into spec: inout DecoderSpec) throws(FormatError) {
    let sliding = try fields.slidingLayers(every: 2, count: spec.layerCount)
    setWindows(try fields.required("attention.sliding_window"), sliding, &spec)
    try ExpertFields.read(fields, normalizes: true, into: &spec)
  }

  private static func setWindows(_ window: Int?, _ sliding: [Bool]?, _ spec: inout DecoderSpec) {
    for index in spec.layers.indices {
      spec.layers[index].window = sliding?[index] ?? index.isMultiple(of: 2) ? window : nil
    }
  }

  package static func write(_ spec: DecoderSpec, into json: inout JSONObject) {
    json["attention_bias"] = .bool(spec.modules.attention.inputsHaveBias)
    // null is no value here; without a window the default bounds no layer.
    if let window = spec.layers.lazy.compactMap(\.window).first { json["sliding_window"] = .int(window) }
    json["layer_types"] = .array(spec.layers.map { $0.window == nil ? "full_attention" : "sliding_attention" })
    // Without parameters transformers takes those of the published models.
    if spec.rope.scaling == .none {
      json["rope_parameters"] = ["rope_type": "default", "rope_theta": .number(spec.rope.theta)]
    }
    // transformers wants a float.
    json["swiglu_limit"] = .number(7)
    ExpertFields.write(spec, countKey: "num_local_experts", into: &json)
  }

  package static let published: [String: JSON] = {
    var table: [String: JSON] = [:]
    let scaling: JSON = [
      "rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096, "beta_fast": 32.0,
      "beta_slow": 1.0, "truncate": false,
    ]
    for (name, layers, experts) in [("gpt-oss-20b", 24, 32), ("gpt-oss-120b", 36, 128)] {
      table[name] = sizes(
        (2880, 2880, layers, 64, 8, 64), vocabulary: 201088, positions: 131072,
        [
          "rms_norm_eps": 1e-5, "rope_theta": 150000.0, "rope_scaling": scaling, "sliding_window": 128,
          "num_local_experts": .int(experts), "num_experts_per_tok": 4,
        ])
    }
    return table
  }()
}
