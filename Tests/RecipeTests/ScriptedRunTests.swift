import Foundation
import Testing

private let recipe = """
  local qlora = require "qlora"
  local world = require "qlora.world"
  local p = qlora.params { model = qlora.resource "models/tiny", scale = 2.0, stream = false, steps = 8, stop = 0 }
  local model = qlora.load(p.model, { stream = p.stream, compute = "f32" })
  local data = qlora.data.load(world.scenes(32, 1), {
    format = function(s) return { { text = s.sentence .. "\\n" }, { text = s.who, train = true } } end,
    tokenizer = model.tokenizer, max_length = 64,
  })
  local scale = p.scale
  model:add_adapter_module("all-linear", {
    parameters = function(m)
      return { down = qlora.randn(4, m.in_features) * 0.05, up = qlora.zeros(m.out_features, 4) }
    end,
    forward = function(x, base, w, training)
      if training then x = x * qlora.rand(x:shape()):ge(0.1) / 0.9 end
      return base * (1 + x:matmul(w.down:t()):matmul(w.up:t()):tanh() * scale)
    end,
  })
  qlora.train {
    model = model, data = data, steps = p.steps, batch = 4, micro_batch = 2, seed = 3, save_every = 1, dir = "run",
    checkpointing = true, offload = true,
    optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3, bits = 8, paged = true, budget = "64KiB", \
  spill = "." }),
    on_step = function(s) if s.step == p.stop then os.execute "kill -9 $PPID" end end,
  }
  model:save_adapter "adapter"
  print(model:generate("In the morning", { max_new_tokens = 8 }))
  """

/// Runs with an adapter in Lua, as a user starts them.
@Suite(.serialized) struct ScriptedRunTests {
  private func folder() throws -> URL {
    let directory = try Program.temporaryDirectory()
    try recipe.write(to: directory.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
    return directory
  }

  private func run(_ directory: URL, _ flags: [String] = [], _ settings: [String] = []) throws -> Program.Outcome {
    try Program.run(["--quiet"] + flags + settings.flatMap { ["--set", $0] } + ["r.lua"], in: directory)
  }

  private func adapter(_ directory: URL) throws -> Data {
    try Data(contentsOf: directory.appendingPathComponent("adapter/adapter_model.safetensors"))
  }

  @Test func aKilledRunResumesToTheSameBits() throws {
    let calm = try folder()
    let whole = try run(calm)
    #expect(whole.code == 0, "\(whole.errors)")
    let directory = try folder()
    #expect(try run(directory, [], ["stop=5"]).code != 0)
    #expect(!FileManager.default.fileExists(atPath: directory.appendingPathComponent("adapter").path))
    let changed = try run(directory, ["--resume", "run"], ["scale=3.0"])
    #expect(changed.code == 1 && changed.errors.contains("source (and 34 more) was "), "\(changed.errors)")
    let resumed = try run(directory, ["--resume", "run"])
    #expect(resumed.code == 0, "\(resumed.errors)")
    #expect(try adapter(directory) == adapter(calm) && resumed.output == whole.output)
  }

  @Test func aStreamedBaseGivesTheSameBits() throws {
    let (resident, streamed) = (try folder(), try folder())
    let stored = streamed.appendingPathComponent("nf4").path
    let quantized = try Program.run(
      ["--quiet", "quantize.lua", "\(Program.root.path)/models/tiny", stored], in: streamed)
    #expect(quantized.code == 0, "\(quantized.errors)")
    var outcomes: [Program.Outcome] = []
    for (directory, setting) in [(resident, "stream=false"), (streamed, "stream=true")] {
      outcomes.append(try run(directory, [], ["model=\(stored)", setting, "steps=3"]))
    }
    #expect(outcomes.allSatisfy { $0.code == 0 }, "\(outcomes.map(\.errors))")
    #expect(try adapter(resident) == adapter(streamed))
  }
}
