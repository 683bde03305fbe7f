import Foundation
import Testing

private let recipe = """
  local qlora = require "qlora"
  local world = require "qlora.world"
  local p = qlora.params { together = true, steps = 6, stop = 0, base = "nf4",
    save_every = 1, norm = 0.5, recompute = "", inside = false }
  local variants = {
    { name = "a", rank = 2, lr = 1e-3, seed = 1, dropout = 0.1, quant = "nf4" },
    { name = "b", rank = 4, lr = 3e-3, seed = 2, dropout = 0.2, quant = p.base },
    { name = "c", rank = 8, lr = 2e-3, seed = 3, dropout = 0.0, quant = "nf4" },
  }
  qlora.sweep {
    variants = variants, together = p.together, columns = { "name", "losses", "error" }, dir = "rows",
    base = function(v) return qlora.load(qlora.resource "models/tiny", { quant = v.quant, compute = "f32" }) end,
    run = function(v, model)
      qlora.seed(v.seed)
      local data = qlora.data.load(world.records(40, v.seed), {
        format = "input_output", tokenizer = model.tokenizer, max_length = 64 })
      model:add_lora { select = { "q_proj", "down_proj" }, rank = v.rank, alpha = 8, dropout = v.dropout,
        quiet = true }
      local function train()
        return qlora.train {
          model = model, data = data, optimizer = qlora.optim.adamw(model:trainable(), { lr = v.lr }),
          batch = 4, micro_batch = 2, steps = p.steps, max_grad_norm = p.norm, seed = v.seed, dir = "runs/" .. v.name,
          save_every = p.save_every, checkpointing = v.name == p.recompute or nil,
          on_step = function(s)
            if v.name == "b" and s.step == p.stop then error("b is over", 0) end
          end,
        }
      end
      local result = p.inside and model:with_adapters("default", train) or train()
      model:save_adapter("adapters/" .. v.name)
      local losses = {}
      for i, loss in ipairs(result.losses) do losses[i] = ("%.4f"):format(loss) end
      return { losses = table.concat(losses, " ") }
    end,
  }
  """

/// `qlora.sweep { together = true }` as a user meets it.
@Suite(.serialized) struct TogetherRunTests {
  private func run(_ flags: [String] = [], _ settings: String..., in directory: URL? = nil) throws -> (
    outcome: Program.Outcome, rows: [[String: Any]], directory: URL
  ) {
    let directory = try directory ?? Program.temporaryDirectory()
    try recipe.write(to: directory.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
    let outcome = try Program.run(flags + settings.flatMap { ["--set", $0] } + ["r.lua"], in: directory)
    let text = (try? String(contentsOf: directory.appendingPathComponent("rows/sweep.jsonl"), encoding: .utf8)) ?? ""
    let rows = try text.split(separator: "\n").map { line in
      try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
    }
    return (outcome, rows, directory)
  }

  private func losses(_ rows: [[String: Any]]) -> [String] { rows.map { $0["losses"] as? String ?? "none" } }

  private func steps(_ directory: URL, _ name: String) throws -> [Int] {
    try String(contentsOf: directory.appendingPathComponent("runs/\(name)/journal.jsonl"), encoding: .utf8)
      .split(separator: "\n").compactMap { line in
        (try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
          .flatMap { $0["loss"] == nil ? nil : $0["step"] as? Int }
      }
  }

  @Test func theRowsAreThoseOfASweepInTurnAndEachVariantHasARunOfItsOwn() throws {
    let (alone, together) = (try run([], "together=false"), try run())
    #expect(together.outcome.code == 0, "\(together.outcome.errors)")
    #expect(losses(together.rows) == losses(alone.rows))
    #expect(Set(losses(together.rows)).count == 3)
    for name in ["a", "b", "c"] {
      #expect(try steps(together.directory, name) == Array(1...6))
      for path in ["runs/\(name)/checkpoint-000006/state.json", "adapters/\(name)/adapter_model.safetensors"] {
        #expect(FileManager.default.fileExists(atPath: together.directory.appendingPathComponent(path).path))
      }
    }
  }

  /// Variants stopped at different steps go on, each from its own checkpoint, to the losses of a run in one go.
  @Test func aSweepThatWasEndedGoesOn() throws {
    let whole = try run()
    let first = try run([], "steps=4", "stop=3")
    #expect(first.outcome.code == 0)
    #expect(first.rows.count == 3 && (first.rows[1]["error"] as? String) == "b is over", "\(first.rows)")
    let resumed = try run(["--resume"], in: first.directory)
    #expect(resumed.outcome.code == 0, "\(resumed.outcome.errors)")
    #expect(losses(resumed.rows) == losses(whole.rows))
    let named = try run(["--resume", "runs/a"], in: first.directory)
    #expect(named.outcome.code == 1 && named.outcome.errors.contains("give --resume without a directory"))
  }

  @Test func whatCannotBeTogetherIsRefusedByName() throws {
    for (setting, message) in [
      ("base=fp4", "base reads 'quant', which is \"nf4\" in variant 1 and \"fp4\" in variant 2"),
      ("recompute=b", "together needs the same checkpointing in all variants, got nil and true"),
      ("inside=true", "together needs qlora.train in the function run itself"),
    ] {
      let outcome = try run([], setting).outcome
      #expect(outcome.code == 1 && outcome.errors.contains(message), "\(setting): \(outcome.errors)")
    }
  }

  @Test func thePlanIsThatOfAll() throws {
    let outcome = try run(["--plan"]).outcome
    #expect(outcome.code == 0, "\(outcome.errors)")
    #expect(outcome.output.contains("3 variants together, 12 x "), "\(outcome.output)")
    func trainable(_ text: String) -> String? {
      text.split(separator: "\n").first { $0.hasPrefix("  trainable") }?.split(separator: " ").dropFirst().first
        .map(String.init)
    }
    let alone = try run(["--plan"], "together=false").outcome
    let (own, all) = (try #require(trainable(alone.output)), try #require(trainable(outcome.output)))
    // Ranks 2, 4 and 8 of the same modules.
    #expect(abs(try #require(Double(all)) - 7 * (try #require(Double(own)))) < 1, "\(own), \(all)")
  }
}
