import Foundation
import Testing

/// Lengths beyond max_position_embeddings that a scaling of positions was made for are read, longer ones named.
@Suite struct StretchedPositionsTests {
  private func run(words: Int) throws -> Program.Outcome {
    let directory = try Program.temporaryDirectory()
    defer { try? FileManager.default.removeItem(at: directory) }
    let answer = Array(repeating: "baker", count: words).joined(separator: " ")
    try "{\"prompt\": \"Mia\", \"completion\": \"\(answer)\"}\n".write(
      to: directory.appendingPathComponent("x.jsonl"), atomically: true, encoding: .utf8)
    try """
    local qlora = require "qlora"
    local tiny = qlora.load(qlora.resource "models/tiny", { compute = "f32" })
    local model = qlora.new_model { seed = 1, config = { model_type = "llama", hidden_size = 32,
      intermediate_size = 48, num_hidden_layers = 1, num_attention_heads = 2, num_key_value_heads = 1,
      vocab_size = tiny.config.vocab_size, max_position_embeddings = 16,
      rope_scaling = { rope_type = "dynamic", factor = 4.0 } } }
    assert(model.positions == 64 and tiny.positions == tiny.config.max_position_embeddings)
    local data = qlora.data.load("x.jsonl", { format = "completion", tokenizer = tiny.tokenizer, quiet = true })
    assert(data:length(1) > 16)
    print(qlora.eval.perplexity(model, data) > 0)
    """.write(to: directory.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
    return try Program.run(["--quiet", "r.lua"], in: directory)
  }

  @Test func aStretchedLengthIsRead() throws {
    let outcome = try run(words: 30)
    #expect(outcome.code == 0 && outcome.output.contains("true"), "\(outcome.errors)")
  }

  @Test func aLongerOneIsNamed() throws {
    let outcome = try run(words: 200)
    #expect(outcome.code == 1 && outcome.errors.contains("the model reads at most 64"), "\(outcome.errors)")
  }
}
