import Foundation
import Testing

private let recipe = """
  local qlora = require "qlora"
  local world = require "qlora.world"
  local p = qlora.params { steps = 6, save_every = 3, slip = "", from = 0, parts = 1, pause = 0 }
  local model = qlora.load(qlora.resource "models/tiny", { quant = p.slip ~= "olora" and "nf4", compute = "bf16", \
  pipeline = true,
    stream = p.slip == "stream" or nil })
  local data = qlora.data.load(world.scenes(64, 1), {
    format = function(s) return { { text = s.sentence .. "\\n" }, { text = s.who, train = true } } end,
    tokenizer = model.tokenizer, max_length = 64,
  })
  model:add_lora { select = p.slip == "tied" and { "q_proj", "embed_tokens" }
    or qlora.select.layers { between = { p.from, 4 } }, tied = p.slip == "tied" or nil, rank = 4, alpha = 8, \
  dropout = 0.1,
    init = p.slip == "olora" and "olora" or nil }
  if p.slip == "generate" then model:generate "Tom" end
  if p.slip == "logits" then model:logits "Tom" end
  if p.slip == "loss" then model:loss(qlora.data.batch { data[1] }) end
  if p.slip == "hook" then model:hook(("model.layers.%d.mlp.down_proj"):format(4 - 4 * qlora.ranks().rank), print) end
  if p.slip == "merge" then model:merge() end
  if p.slip == "gguf" then model:save_adapter "a.gguf" end
  local result = qlora.train {
    model = model, data = data, steps = p.steps, batch = 12, micro_batch = 2, seed = 3, dir = "run", parts = p.parts,
    save_every = p.save_every, checkpointing = 2, group_by_length = true, max_grad_norm = 0.3, eval_data = data,
    eval_limit = 5, samples = p.slip == "samples" and { "Tom" } or nil,
    optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3, bits = 8, paged = true, budget = "128KiB" }),
    on_step = function()
      local wake = os.time() + p.pause
      while p.pause > 0 and os.time() < wake do end
    end,
  }
  model:save_adapter "adapter"
  print(("%.17g"):format(result.last_loss), ("%.17g"):format(result.eval_losses[#result.eval_losses]))
  """

@Suite(.enabled(if: MPI.launcher != nil, "no mpirun: the package openmpi-bin has it")) struct PipelineTests {
  private func folder() throws -> URL {
    let directory = try Program.temporaryDirectory()
    try recipe.write(to: directory.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
    return directory
  }

  /// The files that do not tell of time and memory.
  private func files(_ directory: URL, step: String) throws -> [Data] {
    let checkpoint = "run/checkpoint-\(step)"
    return try [
      "adapter/adapter_config.json", "adapter/adapter_model.safetensors", "\(checkpoint)/trained.safetensors",
      "\(checkpoint)/optimizer.safetensors", "\(checkpoint)/adapter/adapter_model.safetensors",
    ].map { try Data(contentsOf: directory.appendingPathComponent($0)) }
  }

  /// What decides a run, as its checkpoint tells it.
  private func identity(_ directory: URL, step: String) throws -> NSDictionary {
    let file = directory.appendingPathComponent("run/checkpoint-\(step)/state.json")
    let state = try JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any]
    return try #require(state?["identity"] as? NSDictionary)
  }

  /// Losses, adapters, optimizer state and the identity of the run are those of one process, and so are the parts of a
  /// step, which every stage computes.
  @Test(arguments: [1, 3]) func stagesHaveTheBitsOfOneProcess(parts: Int) throws {
    let directory = try folder()
    defer { try? FileManager.default.removeItem(at: directory) }
    let settings = ["--set", "parts=\(parts)"]
    let alone = try MPI.run(1, settings, in: directory)
    #expect(alone.code == 0, "\(alone.errors)")
    for ranks in [2, 3] {
      let other = try folder()
      defer { try? FileManager.default.removeItem(at: other) }
      let outcome = try MPI.run(ranks, settings, in: other)
      #expect(outcome.code == 0, "\(ranks): \(outcome.errors)")
      #expect(outcome.output == alone.output && !alone.output.isEmpty)
      #expect(try files(other, step: "000006") == files(directory, step: "000006"))
      #expect(try identity(other, step: "000006") == identity(directory, step: "000006"))
    }
  }

  /// A run goes on with another number of stages.
  @Test func stagesGoOnFromACheckpointOfOthers() throws {
    let (calm, directory) = (try folder(), try folder())
    defer { for place in [calm, directory] { try? FileManager.default.removeItem(at: place) } }
    #expect(try MPI.run(1, [], in: calm).code == 0)
    for (number, ranks) in [3, 1, 2].enumerated() {
      let resumed = number > 0 ? ["--resume", "run"] : []
      let outcome = try MPI.run(ranks, resumed + ["--set", "steps=\(2 * number + 2)"], in: directory)
      #expect(outcome.code == 0, "\(outcome.errors)")
    }
    #expect(try files(directory, step: "000006") == files(calm, step: "000006"))
  }

  /// What needs all layers in one place ends all ranks with its name.
  @Test(arguments: [
    ("generate", "generate: the layers of the model lie on 2 ranks"), ("logits", "logits: the layers of"),
    ("loss", "loss: the layers of"), ("hook", "mlp.down_proj, which another rank holds"),
    ("merge", "merge: the layers of"), ("gguf", "saved as PEFT does"), ("samples", "samples needs all layers"),
    ("tied", "an adapter of both ends: the layers of"), ("stream", "pipeline and stream do not go together"),
    ("olora", "init olora: the layers of"),
  ]) func whatNeedsAllLayersIsRefused(slip: String, words: String) throws {
    let directory = try folder()
    defer { try? FileManager.default.removeItem(at: directory) }
    let outcome = try MPI.run(2, ["--set", "slip=\(slip)"], in: directory)
    #expect(outcome.code != 0 && outcome.errors.contains(words), "\(outcome.errors)")
  }

  /// SIGKILL of a rank ends the job, which goes on to the bits of a run that nothing stopped.
  @Test func aKilledRankEndsTheJobWhichGoesOn() throws {
    let (calm, directory) = (try folder(), try folder())
    defer { for place in [calm, directory] { try? FileManager.default.removeItem(at: place) } }
    #expect(try MPI.run(1, [], in: calm).code == 0)
    let process = Program.process(
      ["-n", "3", Program.executable.path, "--quiet", "--set", "pause=1", "--set", "save_every=1", "r.lua"],
      in: directory, environment: MPI.environment, program: MPI.launcher)
    (process.standardOutput, process.standardError) = (FileHandle.nullDevice, FileHandle.nullDevice)
    try process.run()
    let wanted = directory.appendingPathComponent("run/checkpoint-000002").path
    for _ in 0..<6000 where !FileManager.default.fileExists(atPath: wanted) { usleep(10_000) }
    let victims = try MPI.processes(in: directory)
    #expect(victims.count == 3, "\(victims)")
    if let victim = victims.randomElement() { kill(victim, SIGKILL) }
    process.waitUntilExit()
    #expect(process.terminationStatus != 0)
    #expect(try MPI.processes(in: directory).isEmpty)
    let last = try MPI.run(2, ["--resume", "run"], in: directory)
    #expect(last.code == 0, "\(last.errors)")
    #expect(try files(directory, step: "000006") == files(calm, step: "000006"))
  }

  @Test func moreRanksThanLayersAreRefused() throws {
    let directory = try folder()
    defer { try? FileManager.default.removeItem(at: directory) }
    let outcome = try MPI.run(6, [], in: directory)
    #expect(outcome.code != 0 && outcome.errors.contains("6 ranks cannot share out 5 layers"), "\(outcome.errors)")
  }

  @Test func aStageThatTrainsNothingIsRefused() throws {
    let directory = try folder()
    defer { try? FileManager.default.removeItem(at: directory) }
    let outcome = try MPI.run(2, ["--set", "from=3"], in: directory)
    #expect(outcome.code != 0 && outcome.errors.contains("rank 0 holds layers 0 to 1 and nothing"), "\(outcome.errors)")
  }
}
