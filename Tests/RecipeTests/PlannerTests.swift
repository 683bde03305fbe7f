import Foundation
import Testing

/// The planner against what a process really used, on the tiny model that ships, and its exit codes.
@Suite(.serialized) struct PlannerTests {
  private func run(_ arguments: [String]) throws -> (code: Int32, output: String) {
    let outcome = try Program.run(arguments, in: Program.root)
    return (outcome.code, outcome.output + outcome.errors)
  }

  private func field(_ name: String, _ text: String) throws -> Double {
    let line = try #require(text.split(separator: "\n").first { $0.hasPrefix(name + " ") }, "\(name) in \(text)")
    return try #require(Double(line.dropFirst(name.count + 1)))
  }

  @Test(arguments: [[], ["checkpointing=true"], ["compute=f32", "micro_batch=4"], ["bits=8", "rank=64"]])
  func thePlannedPeakIsWhatAProcessUses(changes: [String]) throws {
    let settings = (["model=models/tiny", "batch=16", "micro_batch=16"] + changes).flatMap { ["--set", $0] }
    let recipe = "Benchmarks/memory/step.lua"
    let plan = try field("plan_peak", run(["--plan"] + settings + [recipe]).output)
    let peak = try field("measured_peak", run(settings + [recipe]).output)
    // Half of it is the program itself; the grid in docs/planner.md holds 3 % on a real model.
    #expect((0.94...1.2).contains(plan / peak), "\(changes): planned \(plan), measured \(peak)")
  }

  @Test func whatDoesNotFitLeavesWithThree() throws {
    let recipe = "recipes/llama65b.lua"
    let small = try run(["--plan", "--memory", "24GiB", recipe])
    #expect(small.code == 3 && small.output.contains("does NOT fit into 24.0 GiB"), "\(small.output)")
    let large = try run(["--plan", "--memory", "64GiB", recipe])
    #expect(large.code == 0 && large.output.contains("fits into 64.0 GiB"), "\(large.output)")
    let levers = ["checkpointing = true", "batch = 8", "length = 264", "optimizer bits = 8", "optimizer paged = false"]
    for lever in levers {
      #expect(large.output.contains(lever), "\(lever) in \(large.output)")
    }
  }

  @Test func mistakesInPlanAreNamed() throws {
    for (options, message) in [
      ("batch = 2", "length"), ("batch = 2, lenght = 8", "did you mean \"length\""),
      ("batch = 2, length = 8, micro_batch = 4", "micro_batch (4) is larger"),
      ("batch = 2, length = 1000000", "1000000"),
    ] {
      let result = try run(["-e", "require 'qlora'.load('models/tiny', { header_only = true }):plan { \(options) }"])
      #expect(result.code == 1 && result.output.contains(message), "\(options): \(result.output)")
    }
  }
}
