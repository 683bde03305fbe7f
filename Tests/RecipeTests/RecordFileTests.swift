import Foundation
import Testing

/// Files of records as programs write them, and errors that name the file.
@Suite struct RecordFileTests {
  private func load(
    _ name: String, _ text: String, _ options: String = "", format: String = "completion"
  ) throws -> Program.Outcome {
    let directory = try Program.temporaryDirectory()
    defer { try? FileManager.default.removeItem(at: directory) }
    try text.write(to: directory.appendingPathComponent(name), atomically: true, encoding: .utf8)
    try """
    local qlora = require "qlora"
    local tokenizer = qlora.tokenizer.load(qlora.resource "models/tiny")
    qlora.data.load('\(name)', { format = '\(format)', tokenizer = tokenizer, \(options) })
    """.write(to: directory.appendingPathComponent("recipe.lua"), atomically: true, encoding: .utf8)
    return try Program.run(["recipe.lua"], in: directory)
  }

  private func table(_ column: String, _ cells: [String], by separator: String) -> String {
    "prompt\(separator)completion\(separator)\(column)\n"
      + cells.map { "What?\(separator)This.\(separator)\($0)\n" }.joined()
  }

  /// The first two cells do not train.
  @Test(arguments: [
    ("weight", ["0", "0.0", "1", "1.0", ""]), ("train", ["False", "0", "True", "1", "true"]),
    ("training", ["FALSE", " 0", "", "TRUE", "1 "]),
  ]) func marksInCellsAreRead(column: String, cells: [String]) throws {
    for (name, separator) in [("x.csv", ","), ("x.TSV", "\t")] {
      let outcome = try load(name, table(column, cells, by: separator))
      #expect(
        outcome.code == 0 && outcome.output.contains("data: 3 samples")
          && outcome.output.contains("left out 2 of 5 records: 2 without any trained token"),
        "\(outcome.output)\(outcome.errors)")
    }
  }

  @Test func whatIsNoMarkIsNamedWithItsLine() throws {
    for wrong in ["0.5", "yes", "nan", "0x1", "-1", "1e400", "[]"] {
      let outcome = try load("x.csv", table("weight", ["1", wrong], by: ","))
      #expect(
        outcome.code == 1
          && outcome.errors.contains("record 2 (x.csv:3): 'weight' is \"\(wrong)\", expected true or false, 1 or 0"),
        "\(outcome.errors)")
    }
    // JSON has numbers of its own.
    let outcome = try load("x.jsonl", #"{"prompt": "a", "completion": "b", "weight": "1"}"#)
    #expect(outcome.errors.contains("record 1 (x.jsonl:1): 'weight' is \"1\", expected"), "\(outcome.errors)")
  }

  @Test func aFileWithNothingToLearnIsNamed() throws {
    let unmarked = #"{"prompt": "a", "completion": "b", "train": false}"#
    for (text, words) in [
      ("", "x.jsonl: there are no records"), ("\n\n", "x.jsonl: there are no records"),
      (unmarked, "x.jsonl: nothing to train on: left out 1 of 1 records"),
      (#"{"prompt": "a", "completion": ""}"#, "x.jsonl: nothing to train on: left out 1 of 1 records"),
    ] {
      let outcome = try load("x.jsonl", text)
      #expect(outcome.code == 1 && outcome.errors.contains("data.load: " + words), "\(outcome.errors)")
    }
    let limit = try load("x.jsonl", #"{"prompt": "a b c d e f", "completion": "b"}"#, "max_length = 2")
    #expect(limit.errors.contains("data.load: x.jsonl: nothing to train on"), "\(limit.errors)")
  }

  /// False says not to train, which is not what these fields are read for.
  @Test(arguments: ["loss", "mask", "loss_mask", "loss_weight"]) func aMarkOfAnotherNameIsRefused(name: String) throws {
    for value in ["false", "0"] {
      let outcome = try load(
        "x.jsonl",
        #"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "\#(name)": "#
          + #"\#(value)}]}"#,
        "template = 'chatml'", format: "chat")
      #expect(
        outcome.code == 1 && outcome.errors.contains("'\(name)' is \(value), which is not read"), "\(outcome.errors)")
    }
  }

  @Test func aPromptOfSamplesThatIsTooLongIsFoundBeforeTheFirstStep() throws {
    let directory = try Program.temporaryDirectory()
    defer { try? FileManager.default.removeItem(at: directory) }
    try """
    local qlora = require "qlora"
    local model = qlora.load(qlora.resource "models/tiny")
    model:add_lora { select = "all-linear", rank = 2, quiet = true }
    local data = qlora.data.load({ { prompt = "a", completion = "b" } }, { format = "completion", \
    tokenizer = model.tokenizer })
    local steps = 0
    local ok, why = pcall(qlora.train, { model = model, data = data, steps = 4, batch = 1,
      optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3 }),
      samples = { "x", ("word "):rep(400), every = 2, max_new_tokens = 2 }, on_step = function() steps = steps \
    + 1 end })
    print(ok, steps, why)
    """.write(to: directory.appendingPathComponent("recipe.lua"), atomically: true, encoding: .utf8)
    let outcome = try Program.run(["recipe.lua"], in: directory)
    #expect(
      outcome.output.contains("false\t0\t") && outcome.output.contains("train: samples[2] has "),
      "\(outcome.output)\(outcome.errors)")
  }
}
