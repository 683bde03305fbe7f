import Foundation
import Testing

/// Each sentence of "no silent no-op" with a real recipe on the real engine.
@Suite struct NoSilentNoOpTests {
  private let preparation = """
    local qlora = require "qlora"
    local world = require "qlora.world"
    local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4" })
    model:add_lora { select = "all-linear", rank = 2 }
    local data = qlora.data.load(world.records(32, 0), { tokenizer = model.tokenizer, max_length = 96 })
    local optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3 })
    local function train() return qlora.train { model = model, data = data, optimizer = optimizer, steps = 2, \
    batch = 4 } end

    """

  private func run(_ recipe: String) throws -> Program.Outcome {
    let directory = try Program.temporaryDirectory()
    try (preparation + recipe).write(
      to: directory.appendingPathComponent("recipe.lua"), atomically: true, encoding: .utf8)
    return try Program.run(["recipe.lua"], in: directory)
  }

  @Test func aLossThatIsNoNumberNamesTheFirstModule() throws {
    let outcome = try run("model:module 'model.layers.3.mlp.up_proj'.adapter.b:fill_(0 / 0)\ntrain()")
    #expect(outcome.code == 1)
    #expect(outcome.errors.contains("recipe.lua:9: train: the loss is nan at step 1, micro-batch 1 of 4"))
    #expect(outcome.errors.contains("the first module whose output is not finite is model.layers.3.mlp.up_proj"))
  }

  /// A hook cuts layer 4's feed-forward part off; what lies behind the cut gets no gradient.
  @Test func anAdapterWithoutGradientIsNamed() throws {
    let outcome = try run(
      "model:hook('model.layers.4.mlp.down_proj', function(_, output) return output:detach() end)\ntrain()")
    #expect(outcome.code == 1)
    #expect(outcome.errors.contains("train: 3 adapters or parameters got no gradient in the first step"))
    #expect(outcome.errors.contains("model.layers.4.mlp.gate_proj, model.layers.4.mlp.up_proj"))
  }

  @Test func samplesThatTrainNothingAreCounted() throws {
    let outcome = try run(
      """
      local records = world.records(3, 0)
      records[2].input = records[2].input:rep(20)
      records[3].output = nil
      qlora.data.load(records, { tokenizer = model.tokenizer, max_length = 96 })
      """)
    #expect(outcome.code == 0)
    let expected = "left out 2 of 3 records: 1 without 'output', 1 without any trained token"
    #expect(outcome.output.contains(expected), "\(outcome.output)")
  }

  @Test func aSavedAdapterIsComparedWithTheModel() throws {
    let outcome = try run(
      """
      train()
      model:save_adapter "out"
      local again = qlora.load(qlora.resource "models/tiny", { quant = "nf4" })
      again:add_adapter "out"
      print("largest difference", (again:logits { 5, 6, 7 } - model:logits { 5, 6, 7 }):abs():max():item())
      print(#model:trainable())
      """)
    #expect(outcome.output.contains("largest difference\t0.0\n70\n"), "\(outcome.output) \(outcome.errors)")
  }

  @Test func modulesMissedByAPatternAreNamed() throws {
    let outcome = try run(
      "print(model:preview_lora { 'q_proj', 'model.layers.1.mlp.up_proj', 'model.layers.2.mlp.up_proj' })")
    #expect(outcome.output.contains("WARNING: up_proj: not in layers 0, 2-4"), "\(outcome.output)")
    #expect(outcome.output.contains("WARNING: up_proj: not in layers 0-1, 3-4"))
  }

  /// A rate of a module's own: after one plain gradient step from B = 0, B is -rate * gradient.
  @Test func aRateOfAModulesOwnIsUsed() throws {
    let outcome = try run(
      """
      model:remove_adapters()
      local q, k = qlora.select.name "q_proj", qlora.select.name "k_proj"
      model:add_lora { select = q:with { lr = 0.25 } + k, rank = 2 }
      local sgd = qlora.optim.sgd(model:trainable(), { lr = 0.5 })
      model:loss(qlora.data.batch { data[1] }):backward()
      sgd:step()
      for _, role in ipairs { "q_proj", "k_proj" } do
        local b = model:module("model.layers.1.self_attn." .. role).adapter.b
        print(("%s %.4f"):format(role, b:norm() / b.grad:norm()))
      end
      """)
    #expect(outcome.output.contains("q_proj 0.1250\nk_proj 0.5000\n"), "\(outcome.output) \(outcome.errors)")
  }

  @Test func gradientsThatAreNoNumbersAreNamed() throws {
    let outcome = try run(
      """
      model:loss(qlora.data.batch { data[1] }):backward()
      print(#model:nonfinite_gradients())
      model:module("model.layers.2.mlp.up_proj").adapter.b.grad:fill_(0 / 0)
      print(table.concat(model:nonfinite_gradients(), " "))
      """)
    let expected = "0\nmodel.layers.2.mlp.up_proj.lora_B.weight\n"
    #expect(outcome.output.contains(expected), "\(outcome.output) \(outcome.errors)")
  }

  @Test func aConfigKeyThatNobodyReadsIsAnError() throws {
    let outcome = try run(
      """
      local config = model.config
      config.rope_thetta = 5e5
      qlora.new_model { config = config }
      """)
    #expect(outcome.errors.contains("rope_thetta ="))
    #expect(outcome.errors.contains("does not know and that may change the arithmetic (did you mean \"rope_theta\"?)"))
  }

  /// From the configuration alone: a known name, or a config.json, without --plan and in well under a second.
  @Test func selectionNeedsNoWeights() throws {
    let outcome = try run(
      """
      local began = qlora.native.clock()
      local big = qlora.load("huggyllama/llama-65b", { quant = "nf4", double_quant = true, header_only = true })
      local report = big:add_lora { select = qlora.select.layers { last = 40 }, rank = 64, quiet = true }
      print(report.modules, report.trainable, report.base_bytes // 1000000, qlora.native.clock() - began < 1.0)
      local file = io.open("config.json", "w")
      file:write(io.open(qlora.resource "models/tiny/config.json"):read "a")
      file:close()
      local small = qlora.load("config.json", { quant = "nf4", header_only = true })
      print(small:module "model.layers.0.mlp.up_proj".bytes, model:module "model.layers.0.mlp.up_proj".bytes)
      """)
    let expected = "280\t399769600\t16703\ttrue\n50716\t50716\n"
    #expect(outcome.output.contains(expected), "\(outcome.output) \(outcome.errors)")
  }
}
