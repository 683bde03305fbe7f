import Formats
import Testing

@testable import Models

@Suite struct DecoderSpecTests {
  private func config(_ changes: [(String, JSON?)], type: String = "llama") throws -> DecoderSpec {
    let base: JSON = [
      "model_type": .string(type), "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 4,
      "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128,
    ]
    var json = base.object ?? JSONObject()
    for (key, value) in changes { json[key] = value }
    return try DecoderSpec(json: .object(json), path: "config.json")
  }

  @Test func fixtureReads() throws {
    let folder = modelFixtures + "/../formats"
    let spec = try DecoderSpec.read(path: folder)
    #expect(spec.modelType == "llama" && spec.hiddenSize == 64 && spec.headDimension == 16)
    #expect(spec.rope == Rope(theta: 10000) && spec.eosTokenIDs == [2])
    #expect(spec.padTokenID == nil && spec.storedType == "bfloat16" && spec.maxPositions == 64)
    let source = try WeightSource(path: folder + "/model.safetensors")
    let modules = ModuleTree(spec).modules
    for module in modules { try source.expect(module.name + ".weight", shape: module.weightShape) }
    #expect(source.tensors.count == modules.count)
  }

  @Test func everyKnownModelIsValidAndRoundTrips() throws {
    #expect(try DecoderSpec.known(name: "org/unknown-7b") == nil)
    #expect(Families.publishedNames.count == Families.all.reduce(0) { $0 + $1.published.count })
    for name in Families.publishedNames {
      let known = try #require(try DecoderSpec.known(name: name))
      #expect(try DecoderSpec(json: JSON.parse(known.toJSON().text(.python)), path: name) == known)
    }
  }

  @Test func defaultsAreThoseOfTransformers() throws {
    let llama = try config([("num_key_value_heads", nil)])
    #expect(llama.keyValueHeadCount == 4 && llama.maxPositions == 2048 && llama.normEpsilon == 1e-6)
    #expect(
      !llama.modules.attention.inputsHaveBias && !llama.tiesEmbeddings && llama.layers.allSatisfy { $0.window == nil })
    let mistral = try config([], type: "mistral")
    #expect(mistral.layers.map(\.window) == [4096, 4096, 4096, 4096])
    #expect(try config([("sliding_window", .null)], type: "mistral").layers.allSatisfy { $0.window == nil })
    let qwen3 = try config([], type: "qwen3")
    #expect(
      qwen3.headDimension == 128 && qwen3.modules.attention.queryNorm?.form == .norm(.head)
        && !qwen3.modules.attention.inputsHaveBias)
    #expect(try config([("eos_token_id", [1, 2])]).eosTokenIDs == [1, 2])
    let biased = try config([("attention_bias", true), ("mlp_bias", true)])
    #expect(biased.modules.all.allSatisfy { module in module.hasBias == (module.form != .norm(.hidden)) })
  }

  @Test func qwenWindows() throws {
    let off = try config([("sliding_window", 32)], type: "qwen2")
    #expect(
      off.layers.allSatisfy { $0.window == nil } && off.modules.attention.inputs[1].hasBias
        && !off.modules.attention.output.hasBias)
    let on = try config(
      [("sliding_window", 32), ("use_sliding_window", true), ("max_window_layers", 3)], type: "qwen2")
    #expect(on.layers.map(\.window) == [nil, nil, nil, 32])
    #expect(try DecoderSpec(json: on.toJSON(), path: "x") == on)
  }

  @Test func graniteMultipliers() throws {
    let plain = try config([], type: "granite")
    #expect(plain.attentionScale == 1 && plain.embeddingScale == 1 && plain.logitScale == 1)
    let scaled = try config(
      [
        ("embedding_multiplier", 12), ("residual_multiplier", 0.22), ("attention_multiplier", 0.0078125),
        ("logits_scaling", 16),
      ], type: "granite")
    #expect(scaled.embeddingScale == 12 && scaled.residualScale == 0.22 && scaled.logitScale == 0.0625)
    #expect(scaled.queryKeyScale == 0.0078125 && scaled != plain)
    #expect(try DecoderSpec(json: scaled.toJSON(), path: "x") == scaled)
    for key in ["embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"] {
      for value in [0, -1, 1e300, 1e-300] as [JSON] {
        let error = #expect(throws: FormatError.self) { try config([(key, value)], type: "granite") }
        guard case .badField(_, key, _, "1e-38 to 1e38")? = error else {
          Issue.record("\(key) = \(value.text()): \(String(describing: error))")
          continue
        }
      }
    }
  }

  @Test func aQuantizationConfigIsAnObjectWithAMethod() throws {
    for value in ["fp8", [1], [:], ["bits": 4], 4, true] as [JSON] {
      #expect(
        throws: FormatError.badField(
          path: "config.json", field: "quantization_config", value: value.text(),
          expected: "an object with quant_method")
      ) { try config([("quantization_config", value)]) }
    }
    // As the first versions of bitsandbytes wrote it.
    #expect(try config([("quantization_config", ["load_in_4bit": true])]).quantizationConfig != nil)
    #expect(
      throws: FormatError.unsupportedModel(
        path: "config.json", field: "quantization_config.format", value: "\"pack-quantized\"",
        supported: ["\"float-quantized\"", "\"naive-quantized\""])
    ) {
      try config([
        (
          "quantization_config",
          ["quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": [:]]
        )
      ])
    }
  }

  @Test func smolLM3LayersWithoutRope() throws {
    let usual = try config([], type: "smollm3")
    #expect(usual.layers.map(\.rotation) == [.model, .model, .model, .none] && usual.tiesEmbeddings)
    #expect(usual.rope.theta == 2_000_000 && usual.ropes.count == 1)
    let second = try config([("no_rope_layer_interval", 2)], type: "smollm3")
    #expect(second.layers.map(\.rotation) == [.model, .none, .model, .none])
    let listed = try config(
      [("no_rope_layers", [0, 1, 1, 0]), ("use_sliding_window", true), ("sliding_window", 8)], type: "smollm3")
    #expect(listed.layers.map(\.rotation) == [.none, .model, .model, .none])
    #expect(listed.layers.map(\.window) == [8, nil, nil, 8])
    #expect(try DecoderSpec(json: listed.toJSON(), path: "x") == listed)
    for (field, value) in [("no_rope_layer_interval", 0), ("no_rope_layers", [1, 1])] as [(String, JSON)] {
      #expect(throws: FormatError.self) { try config([(field, value)], type: "smollm3") }
    }
  }

  @Test func ropeScalingReads() throws {
    let llama3: JSON = [
      "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
      "original_max_position_embeddings": 8192,
    ]
    let expected = Rope.Scaling.llama3(
      factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalPositions: 8192)
    #expect(try config([("rope_scaling", llama3)]).rope.scaling == expected)
    #expect(try config([("rope_parameters", llama3), ("rope_theta", 5e5)]).rope.theta == 500000)
    #expect(try config([("rope_parameters", ["rope_type": "default", "rope_theta": 7.0])]).rope.theta == 7)
    #expect(try config([("rope_scaling", ["type": "linear", "factor": 2])]).rope.scaling == .linear(factor: 2))
    // Of published models that were trained with yarn.
    let noted: JSON = ["type": "yarn", "factor": 16, "finetuned": true, "original_max_position_embeddings": 4096]
    #expect(try config([("rope_scaling", noted)]).rope.scaling != .none)
    #expect(
      throws: FormatError.unsupportedModel(
        path: "config.json", field: "rope_type", value: "su",
        supported: ["default", "linear", "dynamic", "yarn", "longrope", "llama3"])
    ) { try config([("rope_scaling", ["type": "su", "factor": 2])]) }
  }

  /// What f32 does not hold would be infinite or 0 in the arithmetic.
  @Test(
    arguments: [
      ("llama", "rms_norm_eps", 1e-300), ("llama", "rope_theta", 1e300), ("gpt_neox", "rotary_emb_base", 1e300),
      ("gpt_neox", "rotary_emb_base", 1e-300), ("gpt_neox", "layer_norm_eps", 1e-300),
      ("gemma2", "attn_logit_softcapping", 1e300), ("gemma2", "final_logit_softcapping", 1e-300),
      ("mixtral", "router_aux_loss_coef", -0.001), ("mixtral", "router_aux_loss_coef", 1e300),
    ] as [(String, String, JSON)]) func numbersThatF32DoesNotHoldAreRefused(type: String, key: String, value: JSON)
  {
    // A head for each query head is all that gpt_neox can say.
    let error = #expect(throws: FormatError.self) {
      try config([(key, value)] + (type == "gpt_neox" ? [("num_key_value_heads", nil)] : []), type: type)
    }
    guard case .badField(_, key, _, let expected)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(expected.contains("1e-38") || expected.contains("0 to 1e38"))
  }

  @Test(
    arguments: [
      ("model_type", "cohere"), ("hidden_act", "gelu"), ("hidden_size", 0), ("hidden_size", 2_000_000),
      ("hidden_size", "64"), ("num_hidden_layers", 1_000_000_000_000), ("num_key_value_heads", 3),
      ("num_attention_heads", 0), ("vocab_size", 33_554_432), ("rms_norm_eps", 0), ("head_dim", 15),
      ("rope_scaling", ["rope_type": "linear", "factor": 0]), ("rope_theta", -1), ("partial_rotary_factor", 0.5),
      ("rope_scaling", ["rope_type": "llama3", "factor": 8]), ("num_hidden_layers", nil),
    ] as [(String, JSON)]) func nonsenseIsRefused(field: String, value: JSON)
  {
    #expect(throws: FormatError.self) { try config([(field, value)]) }
  }
}
