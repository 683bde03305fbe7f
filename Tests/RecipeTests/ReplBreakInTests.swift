import Foundation
import Testing

private let recipe = """
  local qlora = require "qlora"
  local world = require "qlora.world"
  local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4", compute = "f32" })
  local data = qlora.data.load(world.scenes(64, 1), {
    format = function(s) return { { text = s.sentence .. "\\n" }, { text = s.who, train = true } } end,
    tokenizer = model.tokenizer, max_length = 64,
  })
  model:add_lora { select = "all-linear", rank = 4, alpha = 8, dropout = 0.1 }
  local marker = 4711
  qlora.train {
    model = model, data = data, steps = 200, batch = 4, micro_batch = 2, seed = 3, dir = "run",
    optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3 }),
  }
  model:save_adapter "adapter"
  """

/// Ctrl-C during `qlora.train`: a prompt inside the step.
@Suite(.serialized) struct ReplBreakInTests {
  private func directory() throws -> URL {
    let directory = try Program.temporaryDirectory()
    try recipe.write(to: directory.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
    return directory
  }

  private func adapter(_ directory: URL) throws -> Data {
    try Data(contentsOf: directory.appendingPathComponent("adapter/adapter_model.safetensors"))
  }

  private func journal(_ directory: URL) throws -> String {
    try String(contentsOf: directory.appendingPathComponent("run/journal.jsonl"), encoding: .utf8)
  }

  private func breakIn(_ directory: URL, at step: String) throws -> Terminal {
    let terminal = try Terminal(["r.lua"], in: directory)
    try terminal.expect("step \(step)")
    terminal.type("\u{3}")
    try terminal.expect("step> ")
    return terminal
  }

  @Test func goingOnChangesNoBit() throws {
    let calm = try directory()
    #expect(try Program.run(["--quiet", "r.lua"], in: calm).code == 0)

    let disturbed = try directory()
    let terminal = try breakIn(disturbed, at: "2")
    try terminal.ask("math.type(step), #history == step - 1, marker", "integer\ttrue\t4711\n")
    try terminal.ask("#model:generate('Mia', { max_new_tokens = 3 }) > 0", "true\n")
    try terminal.ask("opt", "Optimizer AdamW: lr 0.001")
    try terminal.ask("print('g' .. 'o') while true do end", "go\n")
    terminal.type("\u{3}")
    try terminal.expect("interrupted")
    terminal.type("continue()\r")
    // Again, later in the same run; Ctrl-D goes on too.
    try terminal.expect("step 1")
    terminal.type("\u{3}")
    try terminal.expect("step> ")
    terminal.type("\u{4}")
    #expect(try terminal.exitCode() == 0)
    #expect(try adapter(calm) == adapter(disturbed))
    let lines = try journal(disturbed)
    #expect(lines.contains("\"statement\":\"opt\"") && lines.contains("\"statement\":\"continue()\""))
  }

  @Test func editsTakeEffectAndAreJournaled() throws {
    let calm = try directory()
    #expect(try Program.run(["--quiet", "r.lua"], in: calm).code == 0)
    let edited = try directory()
    let terminal = try breakIn(edited, at: "2")
    terminal.type("model:module'model.layers.0.mlp.up_proj'.adapter.b:mul_(0.5);\r")
    try terminal.expect("step> ")
    try terminal.ask("opt.lr = 5e-4", "")
    try terminal.ask("opt.lr = -1", "stdin:1: Optimizer.lr: -1.0 is no learning rate")
    terminal.type("continue()\r")
    #expect(try terminal.exitCode() == 0)
    #expect(try adapter(calm) != adapter(edited))
    #expect(try journal(edited).contains("\"lr\":0.0005"))
    #expect(try journal(edited).contains("adapter.b:mul_(0.5);"))
  }

  /// One Ctrl-C too many, in haste, only says what the next one does.
  @Test func controlCTwiceAtThePromptSavesACheckpointAndLeaves() throws {
    let calm = try directory()
    #expect(try Program.run(["--quiet", "r.lua"], in: calm).code == 0)
    let stopped = try directory()
    let terminal = try breakIn(stopped, at: "2")
    terminal.type("\u{3}")
    try terminal.expect("Ctrl-C again leaves")
    try terminal.expect("step> ")
    terminal.type("\u{3}")
    #expect(try terminal.exitCode() == 130)
    #expect(terminal.recent.contains("go on with --resume run"))
    #expect(try Program.run(["--quiet", "--resume", "run", "r.lua"], in: stopped).code == 0)
    #expect(try adapter(calm) == adapter(stopped))
  }
}
