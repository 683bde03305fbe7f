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
  qlora.train {
    model = model, data = data, steps = 30, batch = 4, micro_batch = 2, seed = 3, save_every = 1, dir = "run",
    checkpointing = 2, offload = true,
    optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3, bits = 8, paged = true, budget = "256KiB", \
  spill = "." }),
  }
  model:save_adapter "adapter"
  """

@Suite struct KillResumeTests {
  /// Killed at twenty random moments of runs that save after every step: each time the run goes on from a complete
  /// checkpoint, and the adapter ends with the bytes of the run that was never stopped.
  @Test func aKilledRunResumesToTheSameBits() throws {
    let calm = try Program.temporaryDirectory()
    try recipe.write(to: calm.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
    let whole = try Program.run(["--quiet", "r.lua"], in: calm)
    #expect(whole.code == 0, "\(whole.errors)")
    let wanted = try Data(contentsOf: calm.appendingPathComponent("adapter/adapter_model.safetensors"))

    var kills = 0
    while kills < 20 {
      let directory = try Program.temporaryDirectory()
      try recipe.write(to: directory.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
      let adapter = directory.appendingPathComponent("adapter/adapter_model.safetensors")
      for attempt in 0..<12 {
        let isLast = attempt == 11 || kills >= 20
        let hasCheckpoint =
          (try? FileManager.default.contentsOfDirectory(
            atPath: directory.appendingPathComponent("run").path))?.contains {
            $0.hasPrefix("checkpoint") && !$0.contains(".")
          } ?? false
        let arguments = hasCheckpoint ? ["--quiet", "--resume", "run", "r.lua"] : ["--quiet", "r.lua"]
        if !hasCheckpoint { try? FileManager.default.removeItem(at: directory.appendingPathComponent("run")) }
        let process = Program.process(arguments, in: directory)
        process.standardOutput = FileHandle.nullDevice
        let log = directory.appendingPathComponent("errors.txt")
        _ = FileManager.default.createFile(atPath: log.path, contents: nil)
        process.standardError = try FileHandle(forWritingTo: log)
        try process.run()
        if !isLast {
          usleep(UInt32.random(in: 150_000...900_000))
          if process.isRunning {
            kill(process.processIdentifier, SIGKILL)
            kills += 1
          }
        }
        process.waitUntilExit()
        try checkpointsAreWhole(directory.appendingPathComponent("run").path)
        if process.terminationReason == .exit {
          let errors = try String(contentsOf: log, encoding: .utf8)
          #expect(process.terminationStatus == 0, "\(errors)")
          break
        }
      }
      #expect(try Data(contentsOf: adapter) == wanted)
      try FileManager.default.removeItem(at: directory)
    }
    try FileManager.default.removeItem(at: calm)
  }

  /// Also one that was being deleted has no name of a checkpoint any more.
  private func checkpointsAreWhole(_ run: String) throws {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: run)) ?? []
    for name in names where name.hasPrefix("checkpoint-") && !name.contains(".") {
      let check = Process()
      check.executableURL = URL(fileURLWithPath: "/usr/bin/env")
      check.arguments = ["sha256sum", "--check", "--status", "--strict", "SHA256SUMS"]
      check.currentDirectoryURL = URL(fileURLWithPath: "\(run)/\(name)")
      try check.run()
      check.waitUntilExit()
      #expect(check.terminationStatus == 0, "\(name)")
    }
  }
}
