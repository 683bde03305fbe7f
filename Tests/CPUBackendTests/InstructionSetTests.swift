import CPUBackend
import Foundation
import Testing

@Suite struct InstructionSetTests {
  @Test func theBestSetIsTheMostDemandingOneThatIsNotSlow() {
    let usable = InstructionSet.allCases.filter { $0.isSupported && !$0.isSlow && $0 != .amx }
    #expect(InstructionSet.best == usable.last)
  }

  /// Intel's processors with bf16 but Cooper Lake (family 6, model 85) multiply pairs at half the speed of floats.
  @Test func pairsAreSlowOnIntelsProcessorsWithTiles() throws {
    guard let text = try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8) else { return }
    func has(_ field: String, _ value: String) -> Bool {
      text.split(separator: "\n").contains { line in
        let parts = line.split(separator: ":", maxSplits: 1).map { $0.trimmingCharacters(in: .whitespaces) }
        return parts == [field, value]
      }
    }
    let isIntel = has("vendor_id", "GenuineIntel") && !has("model", "85")
    #expect(InstructionSet.avx512bf16.isSlow == (InstructionSet.avx512bf16.isSupported && isIntel))
    #expect(InstructionSet.allCases.filter { $0 != .avx512bf16 }.allSatisfy { !$0.isSlow })
  }
}
