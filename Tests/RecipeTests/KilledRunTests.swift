import Foundation
import Testing

private let recipe = """
  local qlora = require "qlora"
  local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4", compute = "f32" })
  model:add_lora { select = { "q_proj" }, rank = 2, alpha = 4 }
  local data = qlora.data.load({ { text = "At the market, Rosa lost a kite." } },
    { format = "completion", tokenizer = model.tokenizer })
  qlora.train { model = model, data = data, steps = 100000, batch = 1, dir = "runs/killed",
    optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3 }) }
  """

@Suite struct KilledRunTests {
  /// Killed at ten random moments, from the first files on: what each run left behind reads, is in the index and gives
  /// a report.
  @Test func aKilledRunLeavesReadableFiles() throws {
    let directory = try Program.temporaryDirectory()
    try recipe.write(to: directory.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
    for _ in 0..<10 {
      let process = Program.process(["--quiet", "r.lua"], in: directory)
      process.standardOutput = FileHandle.nullDevice
      process.standardError = FileHandle.nullDevice
      try process.run()
      usleep(UInt32.random(in: 30_000...400_000))
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
      #expect(process.terminationReason == .uncaughtSignal)
    }
    let check = Program.root.appendingPathComponent("Tests/LuaTests/check_killed.lua").path
    let outcome = try Program.run([check, directory.path])
    #expect(outcome.code == 0, "\(outcome.errors)")
    let counts = outcome.output.split(whereSeparator: \.isWhitespace).compactMap { Int($0) }
    #expect(counts.count == 2 && counts[0] >= 1 && counts[1] >= 10, "\(outcome.output)")
    try FileManager.default.removeItem(at: directory)
  }
}
