import Adapters
import Formats
import Models
import Tensors

/// Attaches the adapters of a folder, PEFT's or mlx-lm's, to a small model, without experts or with, and computes with
/// them.
final class AdapterDriver: Driver {
  private let models: [LanguageModel]

  init(memory: Int) throws {
    let config: JSON = [
      "model_type": "llama", "hidden_act": "silu", "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32,
      "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
      "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true,
    ]
    var mixture = config.object ?? JSONObject()
    for (key, value) in [
      ("model_type", "olmoe"), ("num_experts", 3), ("num_experts_per_tok", 2), ("head_dim", 8),
    ] as [(String, JSON)] { mixture[key] = value }
    models = try [config, .object(mixture)].map { json in
      try LanguageModel(
        random: try DecoderSpec(json: json, path: "config"), seed: 1, options: LoadOptions(computeType: .f32),
        trainsAllParameters: false, backend: limitedBackend(memory))
    }
  }

  func read(_ folder: String, _ input: Input, _ random: inout Random) throws {
    let isTrainable = random.once(in: 2), model = models[random.once(in: 2) ? 1 : 0]
    defer { model.removeAdapters() }
    _ = try AdapterFiles.load(folder, into: model, trainable: isTrainable)
    _ = try model.logits([1, 2, 3]).floats()
  }
}
