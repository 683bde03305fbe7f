import Formats

/// Text models of Qwen3.5 (Qwen team 2026): of four layers three are gated DeltaNets, the fourth has attention whose
/// output a gate multiplies. Norm weights are stored less one, but not those in a DeltaNet. Of multimodal checkpoints
/// the text model is read.
package enum Qwen35: DecoderFamily {
  package static let modelType = "qwen3_5_text"
  package static let className = "Qwen3_5ForCausalLM"
  package static let ggufArchitecture: String? = "qwen35"
  package static let ggufAddsOneToNorms = true
  package static let ownGGUFKeys = DeltaNetNumbers.ggufKeys
  package static let normalization = Normalization.Form.rmsLessOne
  package static let rotatesPartOfHeads = true
  /// Layers that predict ahead.
  package static let leftoverParts = ["mtp."]
  package static let multimodal: MultimodalFamily? = whole("qwen3_5")
  /// What a text model of Qwen3.5 is a part of.
  static func whole(_ modelType: String) -> MultimodalFamily {
    MultimodalFamily(
      modelType: modelType,
      ownKeys: [
        "vision_config": .harmless("the text model is read, not the images'"),
        "image_token_id": .harmless("for images"), "video_token_id": .harmless("for images"),
        "vision_start_token_id": .harmless("for images"), "vision_end_token_id": .harmless("for images"),
      ], otherParts: ["visual.", "mtp."])
  }
  /// Keys that Qwen3-Next reads too.
  static let mixerKeys: [String: FieldDecision] = [
    "attention_bias": .honoured, "full_attention_interval": .honoured,
    "linear_conv_kernel_dim": .honoured, "linear_key_head_dim": .honoured, "linear_value_head_dim": .honoured,
    "linear_num_key_heads": .honoured, "linear_num_value_heads": .honoured,
  ]
  package static let ownKeys = mixerKeys.merging([
    "attn_output_gate": .only([.null, true], "attention of this family has a gate"),
    "mlp_only_layers": .only([.null, []], "of the family with experts"),
    "mamba_ssm_dtype": .harmless("states are f32"),
    "mtp_num_hidden_layers": .harmless("layers that predict ahead are not read"),
    "mtp_use_dedicated_embeddings": .harmless("layers that predict ahead are not read"),
  ]) { own, _ in own }
  package static let ownRopeKeys: [String: FieldDecision] = [
    "mrope_section": .harmless("the three positions of a token of text are one"),
    "mrope_interleaved": .harmless("the three positions of a token of text are one"),
  ]
  package static let defaults = ConfigDefaults(
    keyValueHeadCount: 4, headDimension: 256, maxPositions: 32768, partialRotaryFactor: 0.25, bosTokenID: nil,
    eosTokenIDs: [],
    sizes: [
      "vocab_size": 248320, "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 32,
      "num_attention_heads": 16,
    ])
  private static let interval = 4

  package static let modules: LayerModules = {
    var modules = LayerModules()
    modules.attention.isGated = true
    modules.attention.inputs[0] = LayerModule(
      "self_attn.q_proj", "attn_q", .linear(from: .hidden, to: .queriesAndGates))
    modules.attention.queryNorm = LayerModule("self_attn.q_norm", "attn_q_norm", .norm(.head))
    modules.attention.keyNorm = LayerModule("self_attn.k_norm", "attn_k_norm", .norm(.head))
    modules.deltaNet = DeltaNetModules()
    modules.feedForwardNorm = LayerModule("post_attention_layernorm", "post_attention_norm", .norm(.hidden))
    return modules
  }()

  package static func read(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {
    try readMixers(fields, into: &spec)
  }

  /// What Qwen3-Next reads too.
  static func readMixers(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {
    let bias = try fields.bool("attention_bias") ?? false
    spec.modules.setBiases(queryKeyValue: bias, output: bias)
    spec.deltaNet = DeltaNetNumbers(
      keyHeads: try fields.integer("linear_num_key_heads") ?? 16,
      valueHeads: try fields.integer("linear_num_value_heads") ?? 32,
      keyDimension: try fields.integer("linear_key_head_dim") ?? 128,
      valueDimension: try fields.integer("linear_value_head_dim") ?? 128,
      taps: try fields.integer("linear_conv_kernel_dim") ?? 4)
    let step = try fields.integer("full_attention_interval") ?? interval
    guard step > 0 else {
      throw .badField(path: fields.path, field: "full_attention_interval", value: "\(step)", expected: "at least 1")
    }
    let types = try fields.layerTypes(count: spec.layerCount)
    for index in spec.layers.indices {
      spec.layers[index].isRecurrent = types.map { $0[index] == .linear } ?? !(index + 1).isMultiple(of: step)
    }
  }

  package static func read(_ fields: GGUFFields, into spec: inout DecoderSpec) throws(FormatError) {
    spec.deltaNet = try DeltaNetNumbers(fields)
    let step = try fields.integer("full_attention_interval") ?? interval
    guard step > 0 else {
      throw .badField(
        path: fields.file.path, field: "full_attention_interval", value: "\(step)", expected: "at least 1")
    }
    // One for each layer of the file, also those that predict ahead.
    let types = try fields.bools("attention.recurrent_layers", count: try fields.required("block_count"))
    for index in spec.layers.indices {
      spec.layers[index].isRecurrent = types?[index] ?? !(index + 1).isMultiple(of: step)
    }
  }

  package static func write(_ spec: DecoderSpec, into gguf: inout GGUFDescription) {
    spec.deltaNet?.write(into: &gguf)
    gguf.set("attention.recurrent_layers", .array(spec.layers.map { .bool($0.isRecurrent) }))
    gguf.set("full_attention_interval", interval)
    // How many pairs turn with each of three positions, which are one in text; llama.cpp asks for them, and for room in
    // a head.
    let pairs = Int64(spec.rope.width(headDimension: spec.headDimension) / 2)
    let sections = spec.headDimension < 32 ? [(pairs + 2) / 3, (pairs + 1) / 3, pairs / 3, 0] : [11, 11, 10, 0]
    gguf.set("rope.dimension_sections", .array(sections.map { .signed($0) }))
  }

  package static func write(_ spec: DecoderSpec, into json: inout JSONObject) {
    json["attention_bias"] = .bool(spec.modules.attention.inputsHaveBias)
    json["layer_types"] = .array(spec.layers.map { .string($0.type.rawValue) })
    guard let deltaNet = spec.deltaNet else { return }
    json["linear_num_key_heads"] = .int(deltaNet.keyHeads)
    json["linear_num_value_heads"] = .int(deltaNet.valueHeads)
    json["linear_key_head_dim"] = .int(deltaNet.keyDimension)
    json["linear_value_head_dim"] = .int(deltaNet.valueDimension)
    json["linear_conv_kernel_dim"] = .int(deltaNet.taps)
  }

  package static let published: [String: JSON] = {
    var table: [String: JSON] = [:]
    for (name, s, valueHeads, ties) in [
      ("qwen3.5-0.8b", (1024, 3584, 24, 8, 2, 256), 16, true), ("qwen3.5-2b", (2048, 6144, 24, 8, 2, 256), 16, true),
      ("qwen3.5-4b", (2560, 9216, 32, 16, 4, 256), 32, true), ("qwen3.5-9b", (4096, 12288, 32, 16, 4, 256), 32, false),
      ("qwen3.5-27b", (5120, 17408, 64, 24, 4, 256), 48, false),
    ] as [(String, (Int, Int, Int, Int, Int, Int), Int, Bool)] {
      table[name] = sizes(
        s, vocabulary: 248320, positions: 262144,
        [
          "rope_theta": 1e7, "partial_rotary_factor": 0.25, "tie_word_embeddings": .bool(ties),
          "linear_num_value_heads": .int(valueHeads),
        ])
    }
    return table
  }()
}
