import Foundation
import Testing

/// What records of files say, with the real tokenizer and the real engine.
@Suite struct RecordFateTests {
  private let preparation = """
    local qlora = require "qlora"
    local tokenizer = qlora.tokenizer.load(qlora.resource "models/tiny")

    """

  private func run(_ recipe: String, files: [String: String] = [:]) throws -> Program.Outcome {
    let directory = try Program.temporaryDirectory()
    for (name, text) in files {
      try text.write(to: directory.appendingPathComponent(name), atomically: true, encoding: .utf8)
    }
    try (preparation + recipe).write(
      to: directory.appendingPathComponent("recipe.lua"), atomically: true, encoding: .utf8)
    return try Program.run(["recipe.lua"], in: directory)
  }

  @Test func alpacaRecordsKeepTheirInstruction() throws {
    let outcome = try run(
      "qlora.data.load('a.json', { tokenizer = tokenizer }):preview(1)",
      files: ["a.json": #"[{"instruction": "Translate.", "input": "Hello", "output": "Bonjour", "id": 7}]"#])
    #expect(outcome.output.contains("data: format alpaca, found from the fields instruction, output\n"))
    #expect(outcome.output.contains("data: format alpaca does not read id\n"))
    #expect(outcome.output.contains("### Instruction:\nTranslate."), "\(outcome.output)\(outcome.errors)")
  }

  @Test func aWrongRecordIsNamedWithFileAndLine() throws {
    let good = #"{"instruction": "a", "output": "b"}"#
    let bad = #"{"instruction": "a", "input": ["x"], "output": "b"}"#
    let cases: [(name: String, text: String, place: String)] = [
      ("lines.jsonl", "\(good)\r\n\r\n\(bad)", "record 2 (lines.jsonl:3)"),
      ("array.json", "[\n\(good),\n\n\(good), \(bad)]\n", "record 3 (array.json:4)"),
      ("lines.json", "\(good)\n\(bad)\n", "record 2 (lines.json:2)"),
    ]
    for (name, text, place) in cases {
      let outcome = try run("qlora.data.load('\(name)', { tokenizer = tokenizer })", files: [name: text])
      #expect(outcome.code == 1)
      #expect(
        outcome.errors.contains("recipe.lua:3: data.load: \(place): 'input' is a list of 1, expected a text"),
        "\(outcome.errors)")
      let skipped = try run(
        "qlora.data.load('\(name)', { tokenizer = tokenizer, skip_invalid = true })", files: [name: text])
      #expect(skipped.output.contains("1 wrong (the first: \(place): 'input'"), "\(skipped.output)\(skipped.errors)")
    }
  }

  @Test func whatJSONWouldLoseIsRefused() throws {
    for (text, problem) in [
      (#"{"input": "a", "output": "b", "output": "c"}"#, #"the key "output" occurs twice"#),
      (#"{"input": "a", "output": "b", "id": 98765432109876543210}"#, "an integer beyond 64 bits"),
      (#"{"input": "a", "output": "\ud83d"}"#, "unpaired surrogate"), (#"{"input": NaN}"#, "unexpected character 'N'"),
    ] {
      let outcome = try run(
        "qlora.data.load('x.jsonl', { tokenizer = tokenizer })", files: ["x.jsonl": "{}\n\(text)\n"])
      #expect(outcome.errors.contains("x.jsonl: line 2") && outcome.errors.contains(problem), "\(outcome.errors)")
    }
  }

  /// No step is done, and the record is named.
  @Test func aLongSampleIsFoundBeforeTheFirstStep() throws {
    let outcome = try run(
      """
      local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4" })
      model:add_lora { select = { "q_proj" }, rank = 2, quiet = true }
      local records = { { prompt = "a", completion = "" } }
      for i = 2, 40 do records[i] = { prompt = "a", completion = i % 17 == 0 and ("word "):rep(400 + i) or "b" } end
      local function data(o)
        o.tokenizer, o.quiet = tokenizer, true
        return qlora.data.from_records(records, o)
      end
      local done = 0
      local function train(set, held_out)
        local o = { model = model, data = set, eval_data = held_out, batch = 1, steps = 4 }
        o.on_step = function(s) done = s.step end
        o.optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3 })
        return pcall(qlora.train, o)
      end
      print(train(data {}))
      print(select(2, train(data { max_length = 8 }, data {})))
      print(select(2, pcall(qlora.eval.perplexity, model, data {})))
      print("steps done", done)
      local cut, short = data { max_length = 256 }, data { max_length = 256, too_long = "leave_out" }
      print(cut:stats().longest, cut:stats().truncated, short:stats().too_long, short:stats().longest < 256)
      print(train(short), done)
      """)
    for part in [
      "false\trecipe.lua:", "train: sample 16 (record 17) has ", " tokens, but the model reads at most 256; 2 samples",
      "max_length = 256", "too_long = \"leave_out\"", "train: eval_data: sample 16 (record 17)",
      "eval.perplexity: sample 16 (record 17)", "steps done\t0\n", "256\t2\t2\ttrue\n",
    ] {
      #expect(outcome.output.contains(part), "\(part)\n\(outcome.output)\(outcome.errors)")
    }
    #expect(outcome.output.hasSuffix("4\n"))
  }

  @Test func aFormatFunctionsErrorNamesTheLine() throws {
    let outcome = try run(
      """
      local function format(r) return { { text = r.q .. r.a, train = true } } end
      qlora.data.load("x.jsonl", { tokenizer = tokenizer, format = format })
      """, files: ["x.jsonl": "{\"q\": \"a\", \"a\": \"b\"}\n\n{\"q\": \"a\", \"a\": null}\n"])
    #expect(
      outcome.errors.contains(
        "recipe.lua:4: data.load: record 2 (x.jsonl:3): recipe.lua:3: attempt to concatenate a nil value (field 'a')"),
      "\(outcome.errors)")
    #expect(outcome.errors.contains("stack traceback:\n\trecipe.lua:3: in "), "\(outcome.errors)")
  }
}
