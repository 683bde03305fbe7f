import Foundation
import Testing

/// A loop by hand names a sample that is too long for the model, as `qlora.train` does.
@Suite struct LongSampleTests {
  private func run(_ body: String) throws -> Program.Outcome {
    let directory = try Program.temporaryDirectory()
    defer { try? FileManager.default.removeItem(at: directory) }
    let long = String(repeating: "Mia the baker. ", count: 200)
    try "{\"prompt\": \"a\", \"completion\": \"b\"}\n\n{\"prompt\": \"c\", \"completion\": \"\(long)\"}\n".write(
      to: directory.appendingPathComponent("x.jsonl"), atomically: true, encoding: .utf8)
    let beginning = """
      local qlora = require "qlora"
      local model = qlora.load(qlora.resource "models/tiny", { compute = "f32" })
      local data = qlora.data.load("x.jsonl", { format = "completion", tokenizer = model.tokenizer, quiet = true })
      local limit = model.config.max_position_embeddings
      assert(#data == 2 and data:length(1) < limit and data:length(2) > limit and data:length(2) == #data[2].ids)

      """
    try (beginning + body).write(to: directory.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
    return try Program.run(["--quiet", "r.lua"], in: directory)
  }

  @Test(arguments: [
    "model:loss(data:batch { 1, 2 })", "model:nll(data:batch { 2 })",
    "for _, batches in data:steps { steps = 1, batch = 2, shuffle = false } do model:loss(batches[1]) end",
    "for _, batches in data:steps { steps = 1, batch = 2, micro_batch = 1, shuffle = false "
      + "} do model:loss(batches[2]) end",
  ]) func theSampleIsNamedWithFileAndLine(body: String) throws {
    let outcome = try run(body)
    #expect(outcome.code == 1)
    #expect(outcome.errors.contains("sample 2 (record 2, x.jsonl:3) has "), "\(outcome.errors)")
    #expect(outcome.errors.contains("max_length = 256, which cuts longer samples"), "\(outcome.errors)")
  }

  @Test func theSampleOfASplitIsNamed() throws {
    let outcome = try run(
      """
      local first, second = data:split(1, 0)
      model:loss((#first[1].ids > limit and first or second):batch { 1 })
      """)
    #expect(outcome.errors.contains("sample 1 (record 2, x.jsonl:3) has "), "\(outcome.errors)")
  }

  @Test func thereIsNoLengthOfASampleThatIsNotThere() throws {
    #expect(try run("data:length(3)").errors.contains("there is no sample 3; there are 2"))
  }

  /// What frees memory in training frees none for a text.
  @Test func theMemoryOfATextIsNotThatOfABatch() throws {
    let directory = try Program.temporaryDirectory()
    defer { try? FileManager.default.removeItem(at: directory) }
    try """
    local qlora = require "qlora"
    local tokenizer = qlora.tokenizer.load(qlora.resource "models/tiny")
    tokenizer:encode(("a b"):rep(1 << 23))
    """.write(to: directory.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
    let outcome = try Program.run(["--memory", "150MB", "r.lua"], in: directory)
    #expect(outcome.code == 1 && outcome.errors.contains("out of memory"), "\(outcome.errors)")
    #expect(outcome.errors.contains("encode a long text in parts"), "\(outcome.errors)")
    #expect(!outcome.errors.contains("micro_batch"), "\(outcome.errors)")
  }
}
