import Formats

/// Granite 3, dense (IBM 2024): Llama with multipliers of embedding, residual stream, attention and logits.
package enum Granite: DecoderFamily {
  package static let modelType = "granite"
  package static let className = "GraniteForCausalLM"
  package static let ggufPairsHeads = true
  package static let ownKeys: [String: FieldDecision] = [
    "attention_bias": .honoured, "mlp_bias": .honoured, "embedding_multiplier": .honoured,
    "residual_multiplier": .honoured, "attention_multiplier": .honoured, "logits_scaling": .honoured,
  ]
  package static let ownGGUFKeys: [String: FieldDecision] = [
    "embedding_scale": .honoured, "residual_scale": .honoured, "attention.scale": .honoured, "logit_scale": .honoured,
  ]

  package static func read(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {
    let attention = try fields.bool("attention_bias") ?? false
    spec.modules.setBiases(
      queryKeyValue: attention, output: attention, feedForward: try fields.bool("mlp_bias") ?? false)
    spec.embeddingScale = try fields.double("embedding_multiplier") ?? 1
    spec.residualScale = try fields.double("residual_multiplier") ?? 1
    spec.attentionScale = try fields.double("attention_multiplier") ?? 1
    spec.logitScale = 1 / (try fields.double("logits_scaling") ?? 1)
  }

  package static func read(_ fields: GGUFFields, into spec: inout DecoderSpec) throws(FormatError) {
    // llama.cpp takes 0 for a scale that is not there.
    func scale(_ name: String) throws(FormatError) -> Double? {
      try fields.double(name).flatMap { $0 == 0 ? nil : $0 }
    }
    spec.embeddingScale = try scale("embedding_scale") ?? 1
    spec.residualScale = try scale("residual_scale") ?? 1
    spec.attentionScale = try scale("attention.scale")
    spec.logitScale = 1 / (try scale("logit_scale") ?? 1)
  }

  package static func write(_ spec: DecoderSpec, into gguf: inout GGUFDescription) {
    gguf.set("embedding_scale", spec.embeddingScale)
    gguf.set("residual_scale", spec.residualScale)
    gguf.set("attention.scale", spec.attentionScale ?? Double(spec.queryKeyScale))
    gguf.set("logit_scale", 1 / spec.logitScale)
  }

  package static func write(_ spec: DecoderSpec, into json: inout JSONObject) {
    json["attention_bias"] = .bool(spec.modules.attention.inputsHaveBias)
    json["mlp_bias"] = .bool(spec.modules.feedForward.hasBias)
    json["embedding_multiplier"] = .number(spec.embeddingScale)
    json["residual_multiplier"] = .number(spec.residualScale)
    json["attention_multiplier"] = .number(spec.attentionScale ?? Double(spec.queryKeyScale))
    json["logits_scaling"] = .number(1 / spec.logitScale)
  }

  package static let published: [String: JSON] = {
    var table: [String: JSON] = [:]
    for (version, vocabulary, positions, theta) in [
      ("3.0", 49155, 4096, 1e4), ("3.1", 49155, 131072, 5e6), ("3.2", 49155, 131072, 1e7), ("3.3", 49159, 131072, 1e7),
    ] {
      func add(_ size: String, _ s: (Int, Int, Int, Int, Int, Int), attention: Double, logits: Double) {
        table["granite-\(version)-\(size)"] = sizes(
          s, vocabulary: vocabulary, positions: positions,
          [
            "rms_norm_eps": 1e-5, "rope_theta": .number(theta), "tie_word_embeddings": true,
            "embedding_multiplier": 12.0, "residual_multiplier": 0.22, "attention_multiplier": .number(attention),
            "logits_scaling": .number(logits),
          ])
      }
      add("2b", (2048, 8192, 40, 32, 8, 64), attention: 0.015625, logits: 8)
      add("8b", (4096, 12800, 40, 32, 8, 128), attention: 0.0078125, logits: 16)
    }
    return table
  }()
}
