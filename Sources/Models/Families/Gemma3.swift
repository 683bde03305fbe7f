import Formats
import Tensors

/// Gemma 3 (Gemma team 2025): Gemma 2 without the caps, with norms of each query and key head, a window in five of six
/// layers, and a rope of their own in those. Of multimodal checkpoints the text model is read.
package enum Gemma3: DecoderFamily {
  package static let modelType = "gemma3_text"
  package static let className = "Gemma3ForCausalLM"
  package static let ggufArchitecture: String? = "gemma3"
  package static let ggufAddsOneToNorms = true
  package static let normalization = Normalization.Form.rmsLessOne
  package static let activation = Activation.geluTanh
  package static let slidingRope: SlidingRope? = SlidingRope(thetaKey: "rope_local_base_freq", theta: 10000)
  package static let multimodal: MultimodalFamily? = MultimodalFamily(
    modelType: "gemma3",
    ownKeys: [
      "vision_config": .harmless("the text model is read, not the images'"),
      "mm_tokens_per_image": .harmless("for images"), "boi_token_index": .harmless("for images"),
      "eoi_token_index": .harmless("for images"), "image_token_index": .harmless("for images"),
      "boi_token_id": .harmless("for images"), "eoi_token_id": .harmless("for images"),
      "image_token_id": .harmless("for images"),
    ], otherParts: ["vision_tower.", "multi_modal_projector."])
  package static let ownKeys = Gemma2.commonKeys.merging(
    [
      "rope_local_base_freq": .honoured, "sliding_window_pattern": .honoured, "_sliding_window_pattern": .honoured,
      "attn_logit_softcapping": .only([.null], "attention of Gemma 3 has no cap"),
    ]) { own, _ in own }
  package static let ownGGUFKeys: [String: FieldDecision] = [
    "attention.sliding_window": .honoured, "attention.sliding_window_pattern": .honoured,
    "final_logit_softcapping": .honoured,
  ]
  package static let defaults = ConfigDefaults(
    keyValueHeadCount: 4, headDimension: 256, maxPositions: 131072, ropeTheta: 1_000_000, tiesEmbeddings: true,
    bosTokenID: 2, eosTokenIDs: [1], padTokenID: 0,
    // Published multimodal files leave these out of text_config.
    sizes: [
      "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
      "vocab_size": 262208,
    ])
  private static let interval = 6

  package static let modules: LayerModules = {
    var modules = Gemma2.modules
    modules.attention.queryNorm = LayerModule("self_attn.q_norm", "attn_q_norm", .norm(.head))
    modules.attention.keyNorm = LayerModule("self_attn.k_norm", "attn_k_norm", .norm(.head))
    return modules
  }()

  package static func read(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {
    // transformers writes the underscored name and reads the other.
    let given = try fields.integer("sliding_window_pattern"), written = try fields.integer("_sliding_window_pattern")
    let pattern = given ?? written ?? interval
    guard pattern > 0 else {
      throw .badField(path: fields.path, field: "sliding_window_pattern", value: "\(pattern)", expected: "at least 1")
    }
    try Gemma2.readCommon(fields, window: 4096, every: pattern, into: &spec)
    spec.logitCap = try fields.double("final_logit_softcapping")
  }

  package static func read(_ fields: GGUFFields, into spec: inout DecoderSpec) throws(FormatError) {
    try Gemma2.readCommon(
      fields, layersOfLargest: 62,
      window: try fields.integer("attention.sliding_window").flatMap { $0 == 0 ? nil : $0 }, every: interval,
      into: &spec)
    spec.logitCap = try fields.double("final_logit_softcapping")
  }

  package static func write(_ spec: DecoderSpec, into gguf: inout GGUFDescription) {
    Gemma2.writeCommon(spec, into: &gguf)
  }

  package static func write(_ spec: DecoderSpec, into json: inout JSONObject) {
    Gemma2.writeCommon(spec, into: &json)
  }

  package static let published: [String: JSON] = {
    var table: [String: JSON] = [:]
    func add(
      _ size: String, _ s: (Int, Int, Int, Int, Int, Int), positions: Int, window: Int, scalar: Int = 256,
      vocabulary: Int = 262208
    ) {
      let scaling: JSON = positions == 131072 ? ["rope_type": "linear", "factor": 8.0] : .null
      let json = sizes(
        s, vocabulary: vocabulary, positions: positions,
        ["query_pre_attn_scalar": .int(scalar), "sliding_window": .int(window), "rope_scaling": scaling])
      for name in ["gemma-3-\(size)-pt", "gemma-3-\(size)-it", "gemma-3-\(size)"] { table[name] = json }
    }
    add("270m", (640, 2048, 18, 4, 1, 256), positions: 32768, window: 512, vocabulary: 262144)
    add("1b", (1152, 6912, 26, 4, 1, 256), positions: 32768, window: 512, vocabulary: 262144)
    add("4b", (2560, 10240, 34, 8, 4, 256), positions: 131072, window: 1024)
    add("12b", (3840, 15360, 48, 16, 8, 256), positions: 131072, window: 1024)
    add("27b", (5376, 21504, 62, 32, 16, 128), positions: 131072, window: 1024, scalar: 168)
    return table
  }()
}
