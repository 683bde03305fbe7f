import Formats
import Tensors

/// Gemma (Gemma team 2024): Llama with GeGLU, norm weights less one, a scaled embedding and heads of their own width.
package enum Gemma: DecoderFamily {
  package static let modelType = "gemma"
  package static let className = "GemmaForCausalLM"
  package static let ggufAddsOneToNorms = true
  package static let normalization = Normalization.Form.rmsLessOne
  package static let activation = Activation.geluTanh
  package static let ownKeys: [String: FieldDecision] = [
    "attention_bias": .honoured,
    // Old files say gelu and mean the tanh form.
    "hidden_act": .only(["gelu", .string(Activation.geluTanh.configName)], "the gate's activation"),
    "hidden_activation": .only([.null, .string(Activation.geluTanh.configName)], "another name of hidden_act"),
    "use_bidirectional_attention": .only([.null, false], "a decoder"),
  ]
  package static let defaults = ConfigDefaults(
    keyValueHeadCount: 16, headDimension: 256, maxPositions: 8192, tiesEmbeddings: true, bosTokenID: 2,
    eosTokenIDs: [1], padTokenID: 0,
    sizes: [
      "vocab_size": 256000, "hidden_size": 3072, "intermediate_size": 24576, "num_hidden_layers": 28,
      "num_attention_heads": 16,
    ])

  package static func read(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {
    let bias = try fields.bool("attention_bias") ?? false
    spec.modules.setBiases(queryKeyValue: bias, output: bias)
    spec.embeddingScale = Double(spec.hiddenSize).squareRoot()
  }

  package static func read(_ fields: GGUFFields, into spec: inout DecoderSpec) throws(FormatError) {
    spec.embeddingScale = Double(spec.hiddenSize).squareRoot()
  }

  package static func write(_ spec: DecoderSpec, into json: inout JSONObject) {
    json["attention_bias"] = .bool(spec.modules.attention.inputsHaveBias)
  }

  package static let published: [String: JSON] = {
    var table: [String: JSON] = [:]
    for (size, s) in [
      ("2b", (2048, 16384, 18, 8, 1, 256)), ("7b", (3072, 24576, 28, 16, 16, 256)),
    ] as [(String, (Int, Int, Int, Int, Int, Int))] {
      for name in ["gemma-\(size)", "gemma-\(size)-it", "gemma-1.1-\(size)-it"] {
        table[name] = sizes(s, vocabulary: 256000, positions: 8192, [:])
      }
    }
    return table
  }()
}
