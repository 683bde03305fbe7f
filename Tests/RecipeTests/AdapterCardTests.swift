import Foundation
import Testing

/// What lies beside a saved adapter: the tokenizer, and a card with settings and figures.
@Suite struct AdapterCardTests {
  private static let training = """
    local qlora = require "qlora"
    local native = qlora.native
    local function text(path) local f <close> = assert(io.open(path)); return f:read "a" end
    local model = qlora.load("base", { quant = "nf4", double_quant = true, compute = "f32" })
    model:add_lora { select = "all-linear", rank = 4, alpha = 8, dropout = 0.05, quiet = true }

    """

  private func runs(_ body: String, check: (URL, String) throws -> Void = { _, _ in }) throws {
    let directory = try Program.temporaryDirectory()
    defer { try? FileManager.default.removeItem(at: directory) }
    try FileManager.default.copyItem(
      at: Program.root.appendingPathComponent("models/tiny"), to: directory.appendingPathComponent("base"))
    let (base, other) = (directory.appendingPathComponent("base"), directory.appendingPathComponent("other"))
    try FileManager.default.copyItem(at: base, to: other)
    let path = other.appendingPathComponent("tokenizer.json")
    try (String(contentsOf: path, encoding: .utf8) + "\n").write(to: path, atomically: true, encoding: .utf8)
    let lines = (1...8).map { #"{"input": "Say \#($0).", "output": " \#($0)"}"# }
    try lines.joined(separator: "\n").write(
      to: directory.appendingPathComponent("numbers.jsonl"), atomically: true, encoding: .utf8)
    try (Self.training + body).write(to: directory.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
    let outcome = try Program.run(["--quiet", "r.lua"], in: directory, environment: ["QLORA_ISA": "baseline"])
    #expect(outcome.code == 0, "\(outcome.errors)")
    try check(directory, outcome.errors)
  }

  @Test func theCardIsThatOfTheRun() throws {
    try runs(
      """
      local data = qlora.data.load("numbers.jsonl", { tokenizer = model.tokenizer, quiet = true })
      local training, held_out = data:split(2)
      qlora.train { model = model, data = training, eval_data = held_out, steps = 3, batch = 2, micro_batch = 1,
        optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3 }), schedule = qlora.schedule.cosine(3),
        max_grad_norm = 0.5, seed = 7 }
      model:save_adapter "out/numbers"
      """
    ) { directory, _ in
      let card = try String(contentsOf: directory.appendingPathComponent("out/numbers/README.md"), encoding: .utf8)
      let base = directory.resolvingSymlinksInPath().path + "/base"
      let steady = card.replacing(base, with: "/models/base")
        .replacing(/, kernels \w+/, with: "").replacing(/(\d\.\d\d)\d\d/) { "\($0.1)…" }
        .replacing(/[ ][0-9a-f]{16}/, with: " SUM")
      let golden = Program.root.appendingPathComponent("Tests/Fixtures/adapters/card.md")
      if ProcessInfo.processInfo.environment["UPDATE_GOLDEN"] != nil {
        try steady.write(to: golden, atomically: true, encoding: .utf8)
      }
      #expect(try steady == String(contentsOf: golden, encoding: .utf8))
      for name in ["tokenizer.json", "tokenizer_config.json"] {
        let (mine, theirs) = ("\(directory.path)/out/numbers/\(name)", "\(directory.path)/base/\(name)")
        #expect(FileManager.default.contentsEqual(atPath: mine, andPath: theirs))
      }
    }
  }

  /// What somebody else wrote or changed stays, and is named; what a save wrote is replaced.
  @Test func filesOfOthersStay() throws {
    try runs(
      """
      native.mkdir "out"
      native.write_file("out/README.md", "mine")
      native.write_file("out/tokenizer_config.json", "{}")
      model:save_adapter "out"
      assert(text "out/README.md" == "mine" and text "out/tokenizer_config.json" == "{}")
      assert(text "out/tokenizer.json" == text "base/tokenizer.json")
      assert(native.exists "out/adapter_config.json")

      -- Its own files are known beside a card of somebody else, also when they are others at the next save.
      native.write_file("out/tokenizer_config.json", text "base/tokenizer_config.json")
      local before = text "out/tokenizer.json"
      local other = qlora.load "other"
      other:add_lora { select = "all-linear", rank = 4, alpha = 8, quiet = true }
      other:save_adapter "out"
      assert(text "out/tokenizer.json" ~= before and text "out/tokenizer.json" == text "other/tokenizer.json")

      model:save_adapter "own"
      model:note_training { { name = "data", text = "a | b" } }
      model:save_adapter "own"
      local card = text "own/README.md"
      assert(card:find("| data | a \\\\| b |", 1, true), card)
      native.write_file("own/README.md", (card:gsub("# own", "# Better"))) -- edited by hand
      native.write_file("own/tokenizer.json", "{}")
      model:save_adapter "own"
      assert(text "own/README.md":find "# Better" and text "own/tokenizer.json" == "{}")
      """
    ) { _, errors in
      #expect(errors.contains("save_adapter: out: tokenizer_config.json, README.md were not written by a save"))
      #expect(errors.contains("save_adapter: own: tokenizer.json, README.md were not written by a save"), "\(errors)")
    }
  }

  /// Settings of each method, one tag for what PEFT calls them, and names that YAML, Python and the shell read.
  @Test func theCardOfSeveralMethodsSaysAll() throws {
    try runs(
      #"""
      model:remove_adapters()
      model:add_lora { select = "all-linear", rank = 4, alpha = 8, tokens = { 5, 6 }, quiet = true }
      model:save_adapter "it's on"
      local card = text "it's on/README.md"
      assert(card:find("\n- lora\n", 1, true) and card:find("\n- trainable_tokens\n", 1, true), card)
      assert(card:find("| rank | 4 |", 1, true) and card:find("| tokens | 2 |", 1, true), card)
      assert(card:find('from_pretrained("it\'s on")', 1, true), card)
      assert(card:find("'it'\\''s on'", 1, true), card)
      """#
    )
  }
}
