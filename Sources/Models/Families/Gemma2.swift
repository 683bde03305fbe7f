import Formats
import Tensors

/// Gemma 2 (Gemma team 2024): norms before and behind attention and feed-forward layer, GeGLU, soft caps of scores and
/// logits, a scaled embedding, and a window in every other layer.
package enum Gemma2: DecoderFamily {
  package static let modelType = "gemma2"
  package static let className = "Gemma2ForCausalLM"
  package static let ggufAddsOneToNorms = true
  package static let normalization = Normalization.Form.rmsLessOne
  package static let activation = Activation.geluTanh
  package static let ownKeys = commonKeys.merging(
    [
      "attn_logit_softcapping": .nullable, "sliding_window_size": .harmless("transformers reads sliding_window"),
    ]) { own, _ in own }
  package static let ownGGUFKeys: [String: FieldDecision] = [
    "attention.sliding_window": .honoured, "attention.sliding_window_pattern": .honoured,
    "attn_logit_softcapping": .honoured, "final_logit_softcapping": .honoured,
  ]
  package static let defaults = ConfigDefaults(
    keyValueHeadCount: 4, headDimension: 256, maxPositions: 8192, tiesEmbeddings: true, bosTokenID: 2, eosTokenIDs: [1],
    padTokenID: 0)
  /// Keys that Gemma 3 reads too.
  static let commonKeys: [String: FieldDecision] = [
    "attention_bias": .honoured, "query_pre_attn_scalar": .honoured, "sliding_window": .honoured,
    "final_logit_softcapping": .nullable,
    // Old files have this name beside the one that is read.
    "hidden_act": .harmless("transformers reads hidden_activation"),
    "hidden_activation": .only([.string(Activation.geluTanh.configName)], "the gate's activation"),
    "use_bidirectional_attention": .only([.null, false], "a decoder"),
  ]

  package static let modules: LayerModules = {
    var modules = LayerModules()
    modules.attentionPostNorm = LayerModule("post_attention_layernorm", "post_attention_norm", .norm(.hidden))
    modules.feedForwardNorm = LayerModule("pre_feedforward_layernorm", "ffn_norm", .norm(.hidden))
    modules.feedForwardPostNorm = LayerModule("post_feedforward_layernorm", "post_ffw_norm", .norm(.hidden))
    return modules
  }()

  package static func read(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {
    try readCommon(fields, window: 4096, every: 2, into: &spec)
    func cap(_ name: String, _ usual: Double) throws(FormatError) -> Double? {
      fields.json[name] == nil ? usual : try fields.double(name)
    }
    spec.scoreCap = try cap("attn_logit_softcapping", 50)
    spec.logitCap = try cap("final_logit_softcapping", 30)
  }

  /// What Gemma 3 reads too; one layer in `interval`, the last of them, has no window.
  static func readCommon(
    _ fields: ConfigFields, window usual: Int, every interval: Int, into spec: inout DecoderSpec
  ) throws(FormatError) {
    let bias = try fields.bool("attention_bias") ?? false
    spec.modules.setBiases(queryKeyValue: bias, output: bias)
    spec.embeddingScale = Double(spec.hiddenSize).squareRoot()
    // transformers takes whole numbers alone.
    let scalar = try fields.integer("query_pre_attn_scalar") ?? 256
    guard (1...1 << 30).contains(scalar) else {
      throw .badField(path: fields.path, field: "query_pre_attn_scalar", value: "\(scalar)", expected: "1 to 2^30")
    }
    spec.attentionScale = 1 / Double(scalar).squareRoot()
    let window = try fields.integer("sliding_window") ?? usual
    let sliding = try fields.slidingLayers(count: spec.layerCount)
    for index in spec.layers.indices {
      spec.layers[index].window = sliding?[index] ?? !(index + 1).isMultiple(of: interval) ? window : nil
    }
  }

  package static func read(_ fields: GGUFFields, into spec: inout DecoderSpec) throws(FormatError) {
    try readCommon(
      fields, layersOfLargest: 46, window: try fields.integer("attention.sliding_window") ?? 4096, every: 2, into: &spec
    )
    spec.scoreCap = try fields.double("attn_logit_softcapping") ?? 50
    spec.logitCap = try fields.double("final_logit_softcapping") ?? 30
  }

  /// llama.cpp knows by the number of layers the size in which products are not divided by the root of the head's width
  /// but of hidden size over heads. Its converter writes no pattern of windows.
  static func readCommon(
    _ fields: GGUFFields, layersOfLargest: Int, window: Int?, every interval: Int, into spec: inout DecoderSpec
  ) throws(FormatError) {
    spec.embeddingScale = Double(spec.hiddenSize).squareRoot()
    let scalar = spec.layerCount == layersOfLargest ? spec.hiddenSize / spec.headCount : spec.headDimension
    spec.attentionScale = 1 / Double(scalar).squareRoot()
    let sliding = try fields.slidingLayers(every: interval, count: spec.layerCount)
    for index in spec.layers.indices { spec.layers[index].window = sliding[index] ? window : nil }
  }

  package static func write(_ spec: DecoderSpec, into gguf: inout GGUFDescription) {
    if let cap = spec.scoreCap { gguf.set("attn_logit_softcapping", cap) }
    writeCommon(spec, into: &gguf)
  }

  static func writeCommon(_ spec: DecoderSpec, into gguf: inout GGUFDescription) {
    if let window = spec.layers.lazy.compactMap(\.window).first { gguf.set("attention.sliding_window", window) }
    if let cap = spec.logitCap { gguf.set("final_logit_softcapping", cap) }
  }

  package static func write(_ spec: DecoderSpec, into json: inout JSONObject) {
    writeCommon(spec, into: &json)
    json["attn_logit_softcapping"] = spec.scoreCap.map { .number($0) } ?? .null
  }

  static func writeCommon(_ spec: DecoderSpec, into json: inout JSONObject) {
    json["hidden_act"] = nil
    json["hidden_activation"] = .string(spec.activation.configName)
    json["attention_bias"] = .bool(spec.modules.attention.inputsHaveBias)
    // The squared root of a whole number, so that rounding gives it back.
    let scale = spec.attentionScale ?? 1
    json["query_pre_attn_scalar"] = .int(Int((1 / (scale * scale)).rounded()))
    json["sliding_window"] = spec.layers.lazy.compactMap(\.window).first.map { .int($0) } ?? 4096
    json["layer_types"] = .array(spec.layers.map { $0.window == nil ? "full_attention" : "sliding_attention" })
    json["final_logit_softcapping"] = spec.logitCap.map { .number($0) } ?? .null
  }

  package static let published: [String: JSON] = {
    var table: [String: JSON] = [:]
    func add(_ size: String, _ s: (Int, Int, Int, Int, Int, Int), scalar: Int) {
      let json = sizes(
        s, vocabulary: 256000, positions: 8192, ["query_pre_attn_scalar": .int(scalar), "sliding_window": 4096])
      for name in ["gemma-2-" + size, "gemma-2-\(size)-it"] { table[name] = json }
    }
    add("2b", (2304, 9216, 26, 8, 4, 256), scalar: 256)
    add("9b", (3584, 14336, 42, 16, 8, 256), scalar: 256)
    add("27b", (4608, 36864, 46, 32, 16, 128), scalar: 144)
    return table
  }()
}
