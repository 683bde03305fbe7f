import Testing

@testable import Formats

@Suite struct ModelConfigTests {
  private func config(_ changes: [(String, JSON?)], type: String = "llama") throws -> ModelConfig {
    let base: JSON = [
      "model_type": .string(type), "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 4,
      "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128,
    ]
    var json = base.object ?? JSONObject()
    for (key, value) in changes { json[key] = value }
    return try ModelConfig(json: .object(json), path: "config.json")
  }

  @Test func fixtureReads() throws {
    let config = try ModelConfig.read(path: Fixture.folder)
    #expect(config.modelType == .llama && config.hiddenSize == 64 && config.headDimension == 16)
    #expect(config.ropeTheta == 10000 && config.ropeScaling == .none && config.eosTokenIDs == [2])
    #expect(config.padTokenID == nil && config.storedType == "bfloat16" && config.maxPositions == 64)
    let source = try WeightSource(path: Fixture.folder + "/model.safetensors")
    for (name, shape) in config.tensors { try source.expect(name, shape: shape) }
    #expect(source.tensors.count == config.tensors.count)
  }

  /// Published parameter counts (the model cards' safetensors totals).
  @Test(arguments: [
    ("huggyllama/llama-7b", 6_738_415_616), ("huggyllama/llama-13b", 13_015_864_320),
    ("huggyllama/llama-30b", 32_528_943_616), ("huggyllama/llama-65b", 65_285_660_672),
    ("meta-llama/Llama-2-70b-chat-hf", 68_976_648_192), ("meta-llama/Meta-Llama-3-8B-Instruct", 8_030_261_248),
    ("meta-llama/Llama-3.1-70B", 70_553_706_496), ("meta-llama/Llama-3.2-1B", 1_235_814_400),
    ("meta-llama/Llama-3.2-3B-Instruct", 3_212_749_824), ("mistralai/Mistral-7B-v0.1", 7_241_732_096),
    ("mistralai/Mistral-7B-Instruct-v0.3", 7_248_023_552), ("Qwen/Qwen2.5-0.5B", 494_032_768),
    ("Qwen/Qwen2.5-1.5B", 1_543_714_304), ("Qwen/Qwen2.5-3B", 3_085_938_688), ("Qwen/Qwen2-7B", 7_615_616_512),
    ("Qwen/Qwen2.5-14B", 14_770_033_664), ("Qwen/Qwen2.5-32B-Instruct", 32_763_876_352),
    ("Qwen/Qwen2.5-72B", 72_706_203_648), ("Qwen/Qwen3-0.6B", 596_049_920), ("Qwen/Qwen3-4B", 4_022_468_096),
    ("Qwen/Qwen3-8B-Base", 8_190_735_360), ("Qwen/Qwen3-14B", 14_768_307_200), ("Qwen/Qwen3-32B", 32_762_123_264),
    ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008), ("HuggingFaceTB/SmolLM-360M", 361_821_120),
    ("HuggingFaceTB/SmolLM2-1.7B", 1_711_376_384), ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", 1_100_048_384),
  ]) func knownModelsHaveThePublishedSize(name: String, parameters: Int) throws {
    #expect(try #require(ModelConfig.known(name: name)).parameterCount == parameters)
  }

  @Test func everyKnownModelIsValidAndRoundTrips() throws {
    #expect(ModelConfig.known(name: "org/unknown-7b") == nil)
    for name in ModelConfig.knownNames {
      let known = try #require(ModelConfig.known(name: name))
      #expect(try ModelConfig(json: JSON.parse(known.toJSON().text(.python)), path: name) == known)
    }
  }

  @Test func defaultsAreThoseOfTransformers() throws {
    let llama = try config([("num_key_value_heads", nil)])
    #expect(llama.keyValueHeadCount == 4 && llama.maxPositions == 2048 && llama.normEpsilon == 1e-6)
    #expect(!llama.hasQKVBias && !llama.tiesEmbeddings && llama.slidingWindow == nil)
    let mistral = try config([], type: "mistral")
    #expect(mistral.slidingWindow == 4096 && mistral.slidingWindow(layer: 0) == 4096)
    #expect(try config([("sliding_window", .null)], type: "mistral").slidingWindow == nil)
    let qwen3 = try config([], type: "qwen3")
    #expect(qwen3.headDimension == 128 && qwen3.hasQKNorm && !qwen3.hasQKVBias)
    #expect(try config([("eos_token_id", [1, 2])]).eosTokenIDs == [1, 2])
    #expect(try config([("attention_bias", true), ("mlp_bias", true)]).hasOutputBias)
  }

  @Test func qwenWindows() throws {
    let off = try config([("sliding_window", 32)], type: "qwen2")
    #expect(off.slidingWindow == nil && off.hasQKVBias && !off.hasOutputBias)
    let on = try config(
      [("sliding_window", 32), ("use_sliding_window", true), ("max_window_layers", 3)], type: "qwen2")
    #expect((0..<4).map { on.slidingWindow(layer: $0) } == [nil, nil, nil, 32])
    #expect(try ModelConfig(json: on.toJSON(), path: "x") == on)
  }

  @Test func ropeScalingReads() throws {
    let llama3: JSON = [
      "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
      "original_max_position_embeddings": 8192,
    ]
    let expected = ModelConfig.RopeScaling.llama3(
      factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalPositions: 8192)
    #expect(try config([("rope_scaling", llama3)]).ropeScaling == expected)
    #expect(try config([("rope_parameters", llama3), ("rope_theta", 5e5)]).ropeTheta == 500000)
    #expect(try config([("rope_parameters", ["rope_type": "default", "rope_theta": 7.0])]).ropeTheta == 7)
    #expect(try config([("rope_scaling", ["type": "linear", "factor": 2])]).ropeScaling == .linear(factor: 2))
    #expect(
      throws: FormatError.unsupportedModel(
        path: "config.json", field: "rope_type", value: "yarn", supported: ["default", "linear", "llama3"])
    ) { try config([("rope_scaling", ["type": "yarn", "factor": 2])]) }
  }

  @Test(
    arguments: [
      ("model_type", "gemma"), ("hidden_act", "gelu"), ("hidden_size", 0), ("hidden_size", 2_000_000),
      ("hidden_size", "64"), ("num_hidden_layers", 1_000_000_000_000), ("num_key_value_heads", 3),
      ("num_attention_heads", 0), ("vocab_size", 33_554_432), ("rms_norm_eps", 0), ("head_dim", 15),
      ("rope_scaling", ["rope_type": "linear", "factor": 0]), ("rope_theta", -1), ("partial_rotary_factor", 0.5),
      ("rope_scaling", ["rope_type": "llama3", "factor": 8]), ("num_hidden_layers", nil),
    ] as [(String, JSON)]) func nonsenseIsRefused(field: String, value: JSON)
  {
    #expect(throws: FormatError.self) { try config([(field, value)]) }
  }
}
