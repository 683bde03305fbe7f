import Foundation
import Testing

private let recipe = """
  local qlora = require "qlora"
  local world = require "qlora.world"
  local p = qlora.params { steps = 10, lr = 1e-3, save_every = 0, pause = 0, parts = 8, slip = "" }
  local slip = qlora.ranks().rank == 1 and p.slip or ""
  local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4", compute = "bf16" })
  local data = qlora.data.load(world.scenes(slip == "data" and 63 or 64, 1), {
    format = function(s) return { { text = s.sentence .. "\\n" }, { text = s.who, train = true } } end,
    tokenizer = model.tokenizer, max_length = 64,
  })
  model:add_lora { select = "all-linear", rank = 4, alpha = 8, dropout = 0.1 }
  if slip == "alone" then return model:save_adapter "alone" end
  local result = qlora.train {
    model = model, data = data, steps = p.steps, batch = 16, micro_batch = 2, seed = 3, dir = "run",
    parts = p.parts > 0 and p.parts or nil, save_every = p.save_every > 0 and p.save_every or nil,
    checkpointing = 2, group_by_length = true, max_grad_norm = 0.3, eval_data = data, eval_limit = 5,
    optimizer = qlora.optim.adamw(model:trainable(),
      { lr = slip == "lr" and 1e-4 or p.lr, bits = 8, paged = true, budget = "256KiB" }),
    on_step = function(s)
      if slip == "error" and s.step == 3 then error "the disk of this rank is full" end
      local wake = os.time() + p.pause
      while p.pause > 0 and os.time() < wake do end
    end,
  }
  model:save_adapter "adapter"
  print(qlora.native.hash(model:trainable()), ("%.17g"):format(result.last_loss), \
  ("%.17g"):format(result.eval_losses[2]))
  """

private let launcher = MPI.launcher
private let environment = MPI.environment

@Suite(.enabled(if: launcher != nil, "no mpirun: the package openmpi-bin has it")) struct RanksTests {
  private func folder() throws -> URL {
    let directory = try Program.temporaryDirectory()
    try recipe.write(to: directory.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
    return directory
  }

  private func run(_ ranks: Int, _ arguments: [String], in directory: URL) throws -> Program.Outcome {
    let arguments = ["--quiet"] + arguments + ["r.lua"]
    if ranks == 1 { return try Program.run(arguments, in: directory) }
    return try Program.run(
      ["-n", "\(ranks)", Program.executable.path] + arguments, in: directory, environment: environment,
      program: launcher)
  }

  @Test func anyNumberOfProcessesGivesTheSameBits() throws {
    let directory = try folder()
    defer { try? FileManager.default.removeItem(at: directory) }
    var outputs: [String] = []
    for ranks in [1, 2, 4, 8] {
      let outcome = try run(ranks, [], in: directory)
      #expect(outcome.code == 0, "\(ranks): \(outcome.errors)")
      outputs.append(outcome.output)
    }
    #expect(outputs[0].split(separator: "\t").count == 3 && Set(outputs).count == 1, "\(outputs)")
    // Another shape has other bits, so that the test would see a sum of another order.
    let plain = try run(1, ["--set", "parts=1"], in: directory)
    #expect(plain.code == 0 && plain.output != outputs[0])
    // The first wrote everything, each of the others a journal.
    let names = try FileManager.default.contentsOfDirectory(atPath: directory.appendingPathComponent("run-4").path)
    #expect(names.filter { $0.hasPrefix("journal.rank-") }.count == 7 && names.contains("report.html"), "\(names)")
  }

  /// What one rank has another of is named before the first step.
  @Test(arguments: ["data", "lr"]) func aRankThatDiffersIsNamed(slip: String) throws {
    let directory = try folder()
    defer { try? FileManager.default.removeItem(at: directory) }
    let outcome = try run(2, ["--set", "slip=\(slip)"], in: directory)
    #expect(outcome.code != 0)
    #expect(outcome.errors.contains("start of training: rank 1 on ") && outcome.errors.contains("another \(slip)"))
  }

  @Test func aRankThatGoesItsOwnWayEndsAll() throws {
    let directory = try folder()
    defer { try? FileManager.default.removeItem(at: directory) }
    let outcome = try run(2, ["--set", "slip=alone"], in: directory)
    #expect(outcome.code != 0)
    #expect(outcome.errors.contains("'save_adapter'") && outcome.errors.contains("all ranks must do the same"))
  }

  @Test func aRankThatFailsEndsAllAndIsNamed() throws {
    let directory = try folder()
    defer { try? FileManager.default.removeItem(at: directory) }
    let outcome = try run(2, ["--set", "slip=error", "--set", "steps=100000"], in: directory)
    #expect(outcome.code != 0)
    #expect(outcome.errors.contains("rank 1 on ") && outcome.errors.contains("the disk of this rank is full"))
  }

  @Test func ranksThatShareNothingAreTold() throws {
    let directory = try Program.temporaryDirectory()
    defer { try? FileManager.default.removeItem(at: directory) }
    try "print 'once'".write(to: directory.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
    let outcome = try run(3, [], in: directory)
    #expect(outcome.code == 0 && outcome.output == "once\n", "\(outcome.output)")
    #expect(outcome.errors.components(separatedBy: "each of the 3 ranks did the whole program").count == 2)
  }

  /// Each rank computes its variants alone; one that fails is a row, and so is one without a base.
  @Test func ranksShareTheVariantsOfASweep() throws {
    let directory = try Program.temporaryDirectory()
    defer { try? FileManager.default.removeItem(at: directory) }
    try """
    local qlora = require "qlora"
    local rows = qlora.sweep {
      variants = { { rank = 1, quant = "typo" }, { rank = 2 }, { rank = 3, quant = "typo" }, { rank = 4 }, \
    { rank = 5 } },
      dir = "out", lowest = "bytes",
      base = function(v) return qlora.load(qlora.resource "models/tiny", { quant = v.quant }) end,
      run = function(v, model)
        assert(qlora.ranks().size == 1)
        if v.rank == 4 then error "no such luck" end
        return { bytes = model:add_lora({ select = { "q_proj" }, rank = v.rank, quiet = true }).bytes }
      end,
    }
    for _, row in ipairs(rows) do print(row.rank, row.bytes, row.error) end
    """.write(to: directory.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
    let outcome = try run(2, [], in: directory)
    #expect(outcome.code == 0, "\(outcome.errors)")
    let rows = outcome.output.split(separator: "\n").map { $0.split(separator: "\t") }
    #expect(rows.map(\.first) == ["1", "2", "3", "4", "5"], "\(outcome.output)")
    for (row, part) in [(0, "typo"), (2, "typo"), (3, "no such luck")] {
      #expect(rows.count == 5 && rows[row][1] == "nil" && rows[row][2].contains(part), "\(outcome.output)")
    }
    #expect(rows.count == 5 && rows[4][1] != "nil", "\(outcome.output)")
    let names = try FileManager.default.contentsOfDirectory(atPath: directory.appendingPathComponent("out").path)
    #expect(names.sorted() == ["sweep.jsonl", "sweep.rank-0.jsonl", "sweep.rank-1.jsonl", "sweep.txt"])
  }

  /// SIGKILL of a random rank ends the job, which goes on from the last checkpoint with 1, 2 and 4 to the bits of a run
  /// that nothing stopped. Fuzz/rank_kills.py does so any number of times.
  @Test func aKilledRankEndsTheJobWhichGoesOn() throws {
    let directory = try folder()
    defer { try? FileManager.default.removeItem(at: directory) }
    let calm = try run(1, ["--set", "steps=12"], in: try folder())
    let settings = ["--quiet", "--set", "save_every=1", "--set", "steps=12"]
    for (number, ranks) in [4, 2, 4].enumerated() {
      let resumed = number > 0 ? ["--resume", "run"] : []
      let process = Program.process(
        ["-n", "\(ranks)", Program.executable.path] + settings + resumed + ["--set", "pause=1", "r.lua"],
        in: directory, environment: environment, program: launcher)
      (process.standardOutput, process.standardError) = (FileHandle.nullDevice, FileHandle.nullDevice)
      try process.run()
      let wanted = "checkpoint-\(String(format: "%06d", 2 * number + 2))"
      for _ in 0..<6000
      where !FileManager.default.fileExists(atPath: directory.appendingPathComponent("run/\(wanted)").path) {
        usleep(10_000)
      }
      let victims = try MPI.processes(in: directory)
      #expect(victims.count == ranks, "\(victims)")
      if let victim = victims.randomElement() { kill(victim, SIGKILL) }
      process.waitUntilExit()
      #expect(process.terminationStatus != 0)
      #expect(try MPI.processes(in: directory).isEmpty)
    }
    let last = try run(1, Array(settings.dropFirst()) + ["--resume", "run"], in: directory)
    #expect(last.code == 0, "\(last.errors)")
    #expect(last.output == calm.output && !calm.output.isEmpty)
  }

  /// Stopped after the same step with a checkpoint, then on with other numbers of ranks to the bits of the calm run.
  @Test func aStoppedRunGoesOnWithAnyNumberOfRanks() throws {
    let directory = try folder()
    defer { try? FileManager.default.removeItem(at: directory) }
    let calm = try run(1, [], in: try folder())
    let process = Program.process(
      ["-n", "4", Program.executable.path, "--quiet", "--set", "pause=1", "r.lua"], in: directory,
      environment: environment, program: launcher)
    let log = directory.appendingPathComponent("errors.txt")
    _ = FileManager.default.createFile(atPath: log.path, contents: nil)
    process.standardError = try FileHandle(forWritingTo: log)
    process.standardOutput = FileHandle.nullDevice
    try process.run()
    let journal = directory.appendingPathComponent("run/journal.jsonl")
    for _ in 0..<6000 where !((try? String(contentsOf: journal, encoding: .utf8))?.contains("\"step\":2") ?? false) {
      usleep(10_000)
    }
    try Data().write(to: directory.appendingPathComponent("run/stop"))
    process.waitUntilExit()
    let errors = try String(contentsOf: log, encoding: .utf8)
    #expect(process.terminationStatus == 130, "\(errors)")
    #expect(errors.contains("stopped after step") && errors.contains("go on with --resume run"), "\(errors)")
    #expect(errors.components(separatedBy: "stopped after step").count == 2, "told more than once: \(errors)")

    let three = try run(3, ["--resume", "--set", "parts=0"], in: directory)
    #expect(three.code != 0 && three.errors.contains("1, 2, 4, 8 can"), "\(three.errors)")
    let other = try run(2, ["--resume", "--set", "parts=4"], in: directory)
    #expect(other.code != 0 && other.errors.contains("parts was 8 and is 4 now"), "\(other.errors)")
    // Without the option the parts are those of the checkpoint.
    let two = try run(2, ["--resume", "--set", "parts=0"], in: directory)
    #expect(two.code == 0, "\(two.errors)")
    #expect(two.output == calm.output && !calm.output.isEmpty)
  }
}

/// What needs no launcher.
@Suite struct PartsTests {
  private let recipe = """
    local qlora = require "qlora"
    local p = qlora.params { batch = 4, parts = 4, stop = false }
    local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4", compute = "f32" })
    model:add_lora { select = { "q_proj" }, rank = 2, alpha = 4 }
    local data = qlora.data.load({ { text = "At the market, Rosa lost a kite." } },
      { format = "completion", tokenizer = model.tokenizer })
    qlora.train { model = model, data = data, steps = 9, batch = p.batch, micro_batch = p.batch, parts = p.parts,
      dir = "run", optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3 }),
      on_step = function(s)
        if p.stop and s.step == 2 then qlora.native.write_file("run/stop", "") end
      end }
    """

  private func run(_ settings: String...) throws -> (outcome: Program.Outcome, directory: URL) {
    let directory = try Program.temporaryDirectory()
    try recipe.write(to: directory.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
    return (try Program.run(settings.flatMap { ["--set", $0] } + ["r.lua"], in: directory), directory)
  }

  @Test func aMicroBatchIsMadeSmallerForEachPart() throws {
    let (outcome, _) = try run("batch=8")
    #expect(outcome.code == 0 && outcome.output.contains("micro_batch is 2 instead of 8"), "\(outcome.output)")
    let (few, _) = try run("batch=3")
    #expect(few.code == 1 && few.errors.contains("batch (3) is smaller than parts (4"), "\(few.errors)")
  }

  @Test func aFileCalledStopEndsARunWithACheckpoint() throws {
    let (outcome, directory) = try run("stop=true")
    #expect(outcome.code == 130, "\(outcome.errors)")
    #expect(outcome.errors.contains("stopped after step 3; checkpoint in run/checkpoint-000003"), "\(outcome.errors)")
    #expect(!FileManager.default.fileExists(atPath: directory.appendingPathComponent("run/stop").path))
    #expect(FileManager.default.fileExists(atPath: directory.appendingPathComponent("run/checkpoint-000003").path))
  }
}

/// Launchers that are not there: what their variables would say.
@Suite struct LauncherVariablesTests {
  private func run(_ variables: [String: String]) throws -> Program.Outcome {
    try Program.run(["-e", "print(require('qlora.native').gather('here', 'x')[1])"], environment: variables)
  }

  @Test func aMissingLibraryIsAnError() throws {
    let outcome = try run(["OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "QLORA_MPI": "/none/libmpi.so"])
    #expect(outcome.code == 2 && outcome.output.isEmpty)
    for part in ["mpirun of Open MPI started 2", "/none/libmpi.so", "openmpi-bin"] {
      #expect(outcome.errors.contains(part), "\(outcome.errors)")
    }
  }

  @Test func srunWithoutPMIIsAnErrorOnceRanksMeet() throws {
    let outcome = try run(["SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"])
    #expect(outcome.code == 1 && outcome.errors.contains("srun --mpi=pmix"), "\(outcome.errors)")
  }

  /// The library is there, its launcher is not: each process would be the first of one.
  @Test(.enabled(if: launcher != nil, "no mpirun: the package openmpi-bin has it"))
  func anotherLauncherIsAnError() throws {
    let outcome = try run(["PMI_SIZE": "2", "PMI_RANK": "0", "QLORA_MPI": "libmpi.so.40"].merging(environment) { $1 })
    #expect(outcome.code == 2 && outcome.output.isEmpty)
    for part in ["mpiexec of MPICH started 2", "Open MPI", "sees 1", "QLORA_MPI"] {
      #expect(outcome.errors.contains(part), "\(outcome.errors)")
    }
  }
}
