import CPUBackend
import Models
import Testing

@Suite struct ComputeTypeTests {
  @Test(arguments: InstructionSet.allCases.filter(\.isSupported))
  func theDefaultFollowsTheInstructionSet(set: InstructionSet) {
    let backend = CPUBackend(threadCount: 1, instructionSet: set)
    #expect(backend.multipliesBFloat16 == (set == .avx512bf16))
    #expect(LoadOptions.defaultComputeType(on: backend) == (set == .avx512bf16 ? .bf16 : .f32))
  }
}
