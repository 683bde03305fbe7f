import Foundation
import Testing

/// The sides of the comparisons under Benchmarks/steps: each line of input is answered by one of JSON, until the end of
/// the input asks for the last.
@Suite struct BenchmarkSideTests {
  private func answers(_ lines: String, _ recipe: String, _ flags: String) throws -> [[String: Any]] {
    let command =
      "printf '\(lines)' | '\(Program.executable.path)' --quiet --threads 1 --set turns=true \(flags) "
      + "'\(Program.root.appendingPathComponent("Benchmarks/steps/\(recipe)").path)'"
    let outcome = try Program.run(["-c", command], in: Program.root, program: "/bin/sh")
    #expect(outcome.code == 0, "\(outcome.errors)")
    return try outcome.output.split(separator: "\n").map {
      try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
  }

  @Test func aLineOfInputIsAStep() throws {
    let rows = try answers("\\n\\n\\n", "engine.lua", "--set model=models/tiny --set compute=f32 --set length=32")
    try #require(rows.count == 5)
    #expect(rows[0]["load_s"] is Double && rows[0]["isa"] is String)
    let losses = rows[1...3].compactMap { $0["loss"] as? Double }
    #expect(losses.count == 3 && rows[1...3].allSatisfy { ($0["seconds"] as? Double ?? 0) > 0 })
    #expect(Set(losses).count == 3, "each step has a batch of its own: \(losses)")
    #expect(rows[4]["flops"] as? Double ?? 0 > 1e6 && rows[4]["peak_mb"] as? Double ?? 0 > 1)
  }

  @Test func aLineOfInputNamesWhatIsGenerated() throws {
    let rows = try answers(
      "prompt\\ngreedy\\n", "generation.lua", "--set model=models/tiny --set prompt=16 --set tokens=4")
    try #require(rows.count == 4)
    #expect(rows[1]["tokens"] as? Int == 16)
    #expect(rows[2]["tokens"] as? Int ?? 0 > 0)
    #expect(rows[1...2].allSatisfy { ($0["seconds"] as? Double ?? 0) > 0 })
  }
}
