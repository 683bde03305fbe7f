import Adapters
import CPUBackend
import Formats
import Models
import Testing

@testable import Training

/// What a plan counts while weights are read: the tokenizer and the data are not there yet.
@Suite struct LoadPeakTests {
  private func load() throws -> LanguageModel {
    let spec = try DecoderSpec(
      json: [
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 60000, "tie_word_embeddings": true,
      ], path: "config")
    let model = try LanguageModel(
      spec, origin: .random(name: "wide"),
      options: LoadOptions(quantization: .nf4, computeType: .bf16, headerOnly: true),
      backend: CPUBackend(threadCount: 1))
    try model.attach([("model.layers.0.self_attn.q_proj", LoRA(rank: 1, alpha: 1))])
    return model
  }

  @Test func aStepDoesNotLoadTheTokenizerBesideTheWeights() throws {
    let model = try load()
    let request = PlanRequest(microBatch: 1, maxLength: 2, batch: 1, checkpointing: false)
    func plan(_ tokenizer: Int, _ samples: Int) throws -> MemoryPlan {
      try MemoryPlan(
        model, request, on: CPUBackend(threadCount: 1, isRehearsal: true), programByteCount: 1 << 20,
        tokenizerByteCount: tokenizer, samplesByteCount: samples)
    }
    let (without, with) = (try plan(0, 0), try plan(1 << 19, 1 << 10))
    let first = (without: try #require(without.moments.first), with: try #require(with.moments.first))
    #expect(first.without.name == "load" && first.with.bytes == first.without.bytes - 1 << 19)
    #expect(with.categories.reduce(0) { $0 + $1.bytes } == with.peak)
    // The other moments have both.
    #expect(with.moments.dropFirst().map(\.bytes) == without.moments.dropFirst().map { $0.bytes + 1 << 10 })
  }
}
