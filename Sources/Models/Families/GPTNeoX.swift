import Formats
import Tensors

/// GPT-NeoX and Pythia (Black et al. 2022, Biderman et al. 2023): LayerNorm, one matrix for the q, k and v of each
/// head, a quarter of each head turned, GELU without a gate, and feed-forward layer beside attention.
package enum GPTNeoX: DecoderFamily {
  package static let modelType = "gpt_neox"
  package static let className = "GPTNeoXForCausalLM"
  package static let ggufArchitecture: String? = "gptneox"
  package static let isParallel = true
  package static let normalization = Normalization.Form.layer
  package static let activation = Activation.gelu
  package static let rotatesPartOfHeads = true
  package static let ownKeys: [String: FieldDecision] = [
    "hidden_act": .only(Activation.configNames.keys.sorted().map { .string($0) }, "activations that are computed"),
    "layer_norm_eps": .honoured, "use_parallel_residual": .honoured, "attention_bias": .honoured,
    "rotary_pct": .honoured, "rotary_emb_base": .honoured,
    "classifier_dropout": .harmless("for classifiers"),
    "rms_norm_eps": .only([.null], "layer_norm_eps is the name"),
    "num_key_value_heads": .only([.null], "a key head for each query head"),
    "head_dim": .only([.null], "hidden size over heads"),
  ]
  package static let ownGGUFKeys: [String: FieldDecision] = [
    "attention.layer_norm_epsilon": .honoured, "use_parallel_residual": .honoured,
  ]
  package static let defaults = ConfigDefaults(
    normEpsilon: 1e-5, partialRotaryFactor: 0.25, bosTokenID: 0, eosTokenIDs: [2])
  package static let leftovers = [".attention.bias", ".attention.masked_bias"]

  package static let outerNames: OuterNames = {
    var names = OuterNames()
    names.embedding = "gpt_neox.embed_in"
    names.layers = "gpt_neox.layers."
    names.norm = "gpt_neox.final_layer_norm"
    names.output = "embed_out"
    return names
  }()

  package static let modules: LayerModules = {
    var modules = LayerModules()
    modules.attention = AttentionModules(.perHead, fused: "attention.query_key_value", output: "attention.dense")
    modules.feedForward = FeedForwardModules(
      .plain, inputs: [("mlp.dense_h_to_4h", "ffn_up")], output: "mlp.dense_4h_to_h")
    modules.setBiases(queryKeyValue: true, output: true, feedForward: true)
    return modules
  }()

  package static func read(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {
    spec.normEpsilon = try fields.double("layer_norm_eps") ?? defaults.normEpsilon
    spec.isParallel = try fields.bool("use_parallel_residual") ?? true
    let bias = try fields.bool("attention_bias") ?? true
    spec.modules.setBiases(queryKeyValue: bias, output: bias)
    if let name = fields.json["hidden_act"]?.string, let activation = Activation.configNames[name] {
      spec.activation = activation
    }
    // The keys of transformers 4 stand back behind those of rope_parameters or rope_scaling, whichever is read.
    let parameters = [fields.json["rope_scaling"], fields.json["rope_parameters"]].compactMap { $0?.object }
      .first { $0.count > 0 }
    if parameters?["rope_theta"] == nil {
      let key = "rotary_emb_base"
      spec.rope.theta = try Rope.number(fields.json[key], key, fields) ?? defaults.ropeTheta
      if let other = try fields.double("rope_theta"), other != spec.rope.theta {
        throw .badField(
          path: fields.path, field: "rope_theta", value: "\(other)",
          expected: "\(spec.rope.theta), as rotary_emb_base says, or no such key")
      }
    }
    if parameters?["partial_rotary_factor"] == nil {
      spec.rope.partialFactor = try fields.double("rotary_pct") ?? defaults.partialRotaryFactor
      if let other = try fields.double("partial_rotary_factor"), other != spec.rope.partialFactor {
        throw .badField(
          path: fields.path, field: "partial_rotary_factor", value: "\(other)",
          expected: "\(spec.rope.partialFactor), as rotary_pct says, or no such key")
      }
    }
  }

  package static func read(_ fields: GGUFFields, into spec: inout DecoderSpec) throws(FormatError) {
    spec.isParallel = try fields.bool("use_parallel_residual") ?? true
  }

  package static func write(_ spec: DecoderSpec, into gguf: inout GGUFDescription) {
    gguf.set("use_parallel_residual", .bool(spec.isParallel))
  }

  package static func write(_ spec: DecoderSpec, into json: inout JSONObject) {
    for name in ["rms_norm_eps", "num_key_value_heads", "head_dim"] { json[name] = nil }
    json["layer_norm_eps"] = .number(spec.normEpsilon)
    json["use_parallel_residual"] = .bool(spec.isParallel)
    json["attention_bias"] = .bool(spec.modules.attention.inputsHaveBias)
    json["rotary_pct"] = .number(spec.rope.partialFactor)
    json["rotary_emb_base"] = .number(spec.rope.theta)
  }

  package static let published: [String: JSON] = {
    var table: [String: JSON] = [:]
    func add(_ size: String, _ s: (Int, Int, Int, Int), vocabulary: Int) {
      let json: JSON = [
        "hidden_size": .int(s.0), "intermediate_size": .int(s.1), "num_hidden_layers": .int(s.2),
        "num_attention_heads": .int(s.3), "vocab_size": .int(vocabulary), "max_position_embeddings": 2048,
        "rotary_pct": 0.25, "rotary_emb_base": 10000, "layer_norm_eps": 1e-5, "torch_dtype": "float16",
      ]
      for name in ["pythia-" + size, "pythia-\(size)-deduped"] { table[name] = json }
    }
    add("14m", (128, 512, 6, 4), vocabulary: 50304)
    add("70m", (512, 2048, 6, 8), vocabulary: 50304)
    add("160m", (768, 3072, 12, 12), vocabulary: 50304)
    add("410m", (1024, 4096, 24, 16), vocabulary: 50304)
    add("1b", (2048, 8192, 16, 8), vocabulary: 50304)
    add("1.4b", (2048, 8192, 24, 16), vocabulary: 50304)
    add("2.8b", (2560, 10240, 32, 32), vocabulary: 50304)
    add("6.9b", (4096, 16384, 32, 32), vocabulary: 50432)
    add("12b", (5120, 20480, 36, 40), vocabulary: 50688)
    return table
  }()
}
