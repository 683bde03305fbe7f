import Foundation
import Testing

/// The drivers of Fuzz on a few inputs each: they start, their seeds are read, and no input ends them.
@Suite struct FuzzTests {
  private static let program: String = {
    let builds = ["release", "debug"].map { Program.root.appendingPathComponent(".build/\($0)/fuzz").path }
    return builds.first { FileManager.default.isExecutableFile(atPath: $0) } ?? builds[0]
  }()

  private func fuzz(_ arguments: [String], seconds: Double = 240) throws -> Program.Outcome {
    try Program.run(["--root", Program.root.path] + arguments, seconds: seconds, program: Self.program)
  }

  @Test func aFewThousandInputsEndNoDriver() throws {
    let outcome = try fuzz(["--inputs", "3000", "--calls", "500", "--seed", "1", "--timeout", "60"])
    #expect(outcome.code == 0, "\(outcome.output)\(outcome.errors)")
    let rows = outcome.output.split(separator: "\n").filter { $0.hasPrefix("| ") && !$0.hasPrefix("| driver") }
    let drivers = Set(rows.map { $0.split(separator: "|")[0].trimmingCharacters(in: .whitespaces) })
    #expect(drivers.count == 14, "\(drivers.sorted())")
    for row in rows {
      let cells = row.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
      let (inputs, read, refused) = (Int(cells[2]) ?? 0, Int(cells[3]) ?? 0, Int(cells[4]) ?? 0)
      #expect(inputs > 0 && read > 0 && refused > 0 && read + refused == inputs, "\(row)")
    }
  }

  /// A worker that a signal ends is counted, and its input is kept.
  @Test func whatEndsAWorkerIsKept() throws {
    let root = try Program.temporaryDirectory()
    for name in ["stdlib", "models", "Tests"] {
      try FileManager.default.createSymbolicLink(
        at: root.appendingPathComponent(name), withDestinationURL: Program.root.appendingPathComponent(name))
    }
    let lua = root.appendingPathComponent("Fuzz/Lua")
    try FileManager.default.createDirectory(at: lua, withIntermediateDirectories: true)
    let script = """
      local _, _, note = ...
      local number = 0
      return { read = function()
        number = number + 1
        note("call " .. number)
        if number == 3 then os.execute("kill -SEGV $PPID") end
      end }
      """
    try script.write(to: lua.appendingPathComponent("calls.lua"), atomically: true, encoding: .utf8)
    let outcome = try Program.run(
      ["--root", root.path, "--drivers", "calls", "--calls", "5", "--jobs", "1", "--seed", "9"], program: Self.program)
    #expect(outcome.code == 1, "\(outcome.output)\(outcome.errors)")
    #expect(outcome.output.contains("Fuzz/crashes/calls-9-2: signal 11: call 3"), "\(outcome.output)")
    let kept = root.appendingPathComponent("Fuzz/crashes/calls-9-2.txt")
    #expect(try String(contentsOf: kept, encoding: .utf8).hasPrefix("signal 11\ncall 3"))
  }
}
