import Formats

/// Llama 1 to 3.3, TinyLlama, SmolLM and SmolLM2 (Touvron et al. 2023, Grattafiori et al. 2024).
package enum Llama: DecoderFamily {
  package static let modelType = "llama"
  package static let className = "LlamaForCausalLM"
  package static let ggufPairsHeads = true
  package static let ownKeys: [String: FieldDecision] = ["attention_bias": .honoured, "mlp_bias": .honoured]

  package static func read(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {
    let attention = try fields.bool("attention_bias") ?? false
    spec.modules.setBiases(
      queryKeyValue: attention, output: attention, feedForward: try fields.bool("mlp_bias") ?? false)
  }

  package static func write(_ spec: DecoderSpec, into json: inout JSONObject) {
    json["attention_bias"] = .bool(spec.modules.attention.inputsHaveBias)
    json["mlp_bias"] = .bool(spec.modules.feedForward.hasBias)
  }

  package static let published: [String: JSON] = {
    var table: [String: JSON] = [:]
    func first(_ names: [String], _ s: (Int, Int, Int, Int, Int, Int), positions: Int, epsilon: Double) {
      for name in names {
        table[name] = sizes(
          s, vocabulary: 32000, positions: positions,
          ["rms_norm_eps": .number(epsilon), "torch_dtype": "float16"])
      }
    }
    first(["llama-7b"], (4096, 11008, 32, 32, 32, 128), positions: 2048, epsilon: 1e-6)
    first(["llama-13b"], (5120, 13824, 40, 40, 40, 128), positions: 2048, epsilon: 1e-6)
    first(["llama-30b", "llama-33b"], (6656, 17920, 60, 52, 52, 128), positions: 2048, epsilon: 1e-6)
    first(["llama-65b"], (8192, 22016, 80, 64, 64, 128), positions: 2048, epsilon: 1e-5)
    first(["llama-2-7b"], (4096, 11008, 32, 32, 32, 128), positions: 4096, epsilon: 1e-5)
    first(["llama-2-13b"], (5120, 13824, 40, 40, 40, 128), positions: 4096, epsilon: 1e-5)
    first(["llama-2-70b"], (8192, 28672, 80, 64, 8, 128), positions: 4096, epsilon: 1e-5)
    first(["vicuna-7b-v1.5"], (4096, 11008, 32, 32, 32, 128), positions: 4096, epsilon: 1e-5)
    first(["vicuna-13b-v1.5"], (5120, 13824, 40, 40, 40, 128), positions: 4096, epsilon: 1e-5)
    first(["open_llama_3b", "open_llama_3b_v2"], (3200, 8640, 26, 32, 32, 100), positions: 2048, epsilon: 1e-6)
    first(["open_llama_7b", "open_llama_7b_v2"], (4096, 11008, 32, 32, 32, 128), positions: 2048, epsilon: 1e-6)
    first(["open_llama_13b"], (5120, 13824, 40, 40, 40, 128), positions: 2048, epsilon: 1e-6)
    first(["tinyllama-1.1b-v1.0"], (2048, 5632, 22, 32, 4, 64), positions: 2048, epsilon: 1e-5)

    func third(_ names: [String], _ s: (Int, Int, Int, Int, Int, Int), factor: Double?, ties: Bool = false) {
      let scaling: JSON =
        factor.map {
          [
            "rope_type": "llama3", "factor": .number($0), "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
          ]
        } ?? .null
      for name in names {
        table[name] = sizes(
          s, vocabulary: 128256, positions: factor == nil ? 8192 : 131072,
          [
            "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "rope_scaling": scaling,
            "tie_word_embeddings": .bool(ties),
          ])
      }
    }
    third(["llama-3-8b"], (4096, 14336, 32, 32, 8, 128), factor: nil)
    third(["llama-3-70b"], (8192, 28672, 80, 64, 8, 128), factor: nil)
    third(
      ["llama-3.1-8b", "hermes-3-llama-3.1-8b", "deepseek-r1-distill-llama-8b"], (4096, 14336, 32, 32, 8, 128),
      factor: 8)
    third(
      ["llama-3.1-70b", "llama-3.3-70b", "deepseek-r1-distill-llama-70b"], (8192, 28672, 80, 64, 8, 128), factor: 8)
    third(["llama-3.1-405b"], (16384, 53248, 126, 128, 8, 128), factor: 8)
    third(["llama-3.2-1b"], (2048, 8192, 16, 32, 8, 64), factor: 32, ties: true)
    third(["llama-3.2-3b"], (3072, 8192, 28, 24, 8, 128), factor: 32, ties: true)

    func other(
      _ name: String, _ s: (Int, Int, Int, Int, Int, Int), _ vocabulary: Int, positions: Int, epsilon: Double,
      theta: Double
    ) {
      table[name] = sizes(
        s, vocabulary: vocabulary, positions: positions,
        ["rms_norm_eps": .number(epsilon), "rope_theta": .number(theta)])
    }
    other("codellama-7b", (4096, 11008, 32, 32, 32, 128), 32016, positions: 16384, epsilon: 1e-5, theta: 1e6)
    other("codellama-13b", (5120, 13824, 40, 40, 40, 128), 32016, positions: 16384, epsilon: 1e-5, theta: 1e6)
    other("codellama-34b", (8192, 22016, 48, 64, 8, 128), 32000, positions: 16384, epsilon: 1e-5, theta: 1e6)
    other("yi-6b", (4096, 11008, 32, 32, 4, 128), 64000, positions: 4096, epsilon: 1e-5, theta: 5e6)
    other("yi-34b", (7168, 20480, 60, 56, 8, 128), 64000, positions: 4096, epsilon: 1e-5, theta: 5e6)
    other("yi-1.5-6b", (4096, 11008, 32, 32, 4, 128), 64000, positions: 4096, epsilon: 1e-6, theta: 5e6)
    other("yi-1.5-9b", (4096, 11008, 48, 32, 4, 128), 64000, positions: 4096, epsilon: 1e-6, theta: 5e6)
    other("yi-1.5-34b", (7168, 20480, 60, 56, 8, 128), 64000, positions: 4096, epsilon: 1e-6, theta: 5e6)
    for (size, s) in [
      ("1b", (2048, 8192, 18, 8, 4, 256)), ("3b", (3072, 9216, 22, 12, 4, 256)), ("7b", (3072, 23040, 28, 12, 4, 256)),
      ("10b", (3072, 23040, 40, 12, 4, 256)),
    ] as [(String, (Int, Int, Int, Int, Int, Int))] {
      other("falcon3-" + size, s, 131072, positions: size == "1b" ? 8192 : 32768, epsilon: 1e-6, theta: 1_000_042)
    }

    func smol(_ name: String, _ s: (Int, Int, Int, Int, Int, Int), positions: Int, theta: Double) {
      table[name] = sizes(
        s, vocabulary: 49152, positions: positions,
        ["rms_norm_eps": 1e-5, "rope_theta": .number(theta), "tie_word_embeddings": true])
    }
    for (family, positions, theta, largeTheta) in [("smollm-", 2048, 1e4, 1e4), ("smollm2-", 8192, 1e5, 1.3e5)] {
      smol(family + "135m", (576, 1536, 30, 9, 3, 64), positions: positions, theta: theta)
      smol(family + "360m", (960, 2560, 32, 15, 5, 64), positions: positions, theta: theta)
      smol(family + "1.7b", (2048, 8192, 24, 32, 32, 64), positions: positions, theta: largeTheta)
    }
    return table
  }()
}
