import CPUBackend
import Formats
import Foundation
import Tensors
import Testing

@testable import Models

/// A random model with the config.json of a tiny one of its family and these members.
private func random(_ family: String, _ changes: [String: JSON] = [:]) throws -> LanguageModel {
  let path = SmolLM2.root.appendingPathComponent("Tests/Fixtures/families/\(family)/config.json").path
  var members = try #require(try JSON.read(path: path).object)
  for (key, value) in changes { members[key] = value }
  return try LanguageModel(
    random: try DecoderSpec(json: .object(members), path: path), seed: 1, options: LoadOptions(computeType: .f32),
    trainsAllParameters: false, backend: CPUBackend(threadCount: 2))
}

private func rope(_ type: String, _ others: JSON, theta: Double = 10000) -> JSON {
  var members = others.object ?? JSONObject()
  members["rope_type"] = .string(type)
  members["rope_theta"] = .number(theta)
  return .object(members)
}

private func yarn(_ others: JSON) -> JSON {
  var members = others.object ?? JSONObject()
  members["factor"] = 4.0
  members["original_max_position_embeddings"] = 32
  return rope("yarn", .object(members))
}

private let llama3 = rope(
  "llama3",
  ["factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32])
private let plain = rope("default", [:])

/// What llama-cpp-python 0.3.36 did with such files of tiny random models: those that are refused it did not load, or
/// their logits were off by half a standard deviation and more; of the others they were within 2e-2.
@Suite struct GGUFArchitectureTests {
  @Test func everyWrittenArchitectureHasARow() {
    for family in Families.all where family.ggufWriter.modules.experts == nil {
      guard let architecture = family.ggufWriter.ggufArchitecture else { continue }
      #expect(GGUFArchitecture.table[architecture] != nil, "\(architecture)")
    }
  }

  @Test(
    arguments: [
      ("qwen3", ["attention_bias": true], "attention_bias"), ("olmo2", ["attention_bias": true], "attention_bias"),
      ("olmo3", ["attention_bias": true], "attention_bias"), ("smollm3", ["attention_bias": true], "attention_bias"),
      ("smollm3", ["mlp_bias": true], "mlp_bias"), ("gemma", ["attention_bias": true], "attention_bias"),
      ("gemma2", ["attention_bias": true], "attention_bias"),
      ("gemma3_text", ["attention_bias": true], "attention_bias"),
      ("qwen3_5_square", ["attention_bias": true], "attention_bias"),
      ("qwen3_5_square", ["linear_value_head_dim": 4], "linear_value_head_dim"),
      ("gpt_neox", ["attention_bias": false], "attention_bias"),
      ("gemma", ["tie_word_embeddings": false], "tie_word_embeddings"),
      ("gemma2", ["tie_word_embeddings": false], "tie_word_embeddings"),
      ("qwen2", ["head_dim": 12], "head_dim"), ("olmo2_plain", ["head_dim": 12], "head_dim"),
      ("qwen3", ["rope_parameters": llama3], "rope_type llama3"),
      ("smollm3", ["rope_parameters": llama3], "rope_type llama3"),
      ("llama", ["rope_parameters": rope("dynamic", ["factor": 4.0])], "rope_type dynamic"),
      ("llama", ["rope_parameters": yarn(["beta_fast": 16])], "beta_fast of yarn"),
      ("qwen3", ["rope_parameters": yarn(["beta_slow": 2])], "beta_slow of yarn"),
      ("llama", ["rope_parameters": yarn(["truncate": false])], "truncate of yarn"),
      (
        "gemma3_text",
        ["rope_parameters": ["full_attention": yarn(["attention_factor": 0.7]), "sliding_attention": plain]],
        "attention_factor of yarn"
      ),
      (
        "olmo3",
        ["rope_parameters": ["full_attention": plain, "sliding_attention": rope("default", [:], theta: 5e5)]],
        "rope_theta of sliding_attention"
      ),
    ] as [(String, [String: JSON], String)])
  func whatLlamaCppDoesNotReadIsRefusedByName(family: String, changes: [String: JSON], field: String) throws {
    try withFolder { folder in
      let model = try random(family, changes)
      #expect(throws: ModelError.notInGGUF(family: model.spec.modelType, what: [field])) {
        try model.saveGGUF(folder.path + "/m.gguf", .f32)
      }
    }
  }

  /// llama.cpp reads rope.scaling.attn_factor and multiplies what yarn's factor gives by it.
  @Test(
    arguments: [
      (["attention_factor": 0.7], 0.7), (["mscale": 1.0, "mscale_all_dim": 1.0], 1), ([:], nil),
    ] as [(JSON, Double?)])
  func yarnsAttentionFactorIsWrittenAsAMultiple(members: JSON, factor: Double?) throws {
    try withFolder { folder in
      let path = folder.path + "/m.gguf", usual = 0.1 * log(4.0) + 1
      try random("qwen3", ["rope_parameters": yarn(members)]).saveGGUF(path, .f32)
      let file = try GGUFFile(path: path)
      #expect(file.metadata["qwen3.rope.scaling.yarn_attn_factor"] == .float32(Float(usual)))
      #expect(file.metadata["qwen3.rope.scaling.attn_factor"] == factor.map { .float32(Float($0 / usual)) })
      let read = try DecoderSpec(gguf: file).rope.attentionScale
      #expect(abs(read - Float(factor ?? usual)) < 1e-6)
    }
  }

  /// Where llama.cpp has no output matrix without a tensor of its own.
  @Test(arguments: ["gpt_neox", "olmo2_plain", "olmo3"]) func aTiedOutputMatrixIsWrittenAsACopy(family: String) throws {
    try withFolder { folder in
      let path = folder.path + "/m.gguf"
      try random(family, ["tie_word_embeddings": true]).saveGGUF(path, .q8_0)
      let file = try GGUFFile(path: path)
      let isCopy = try file.bytes(of: "output.weight").elementsEqual(try file.bytes(of: "token_embd.weight"))
      #expect(isCopy)
    }
  }

  /// A file says by what each frequency is divided, and not from which numbers that follows.
  @Test func llama3OverAShortLengthIsWritten() throws {
    try withFolder { folder in
      let path = folder.path + "/m.gguf", model = try random("llama", ["rope_parameters": llama3])
      try model.saveGGUF(path, .f32)
      let read = try DecoderSpec(gguf: try GGUFFile(path: path)), width = model.spec.headDimension
      let (own, found) = (
        model.spec.rope.frequencies(headDimension: width, length: 100),
        read.rope.frequencies(headDimension: width, length: 100)
      )
      #expect(zip(own, found).allSatisfy { abs($0 - $1) <= 1e-6 * $0 })
      #expect(own != Rope().frequencies(headDimension: width, length: 100))
    }
  }
}
