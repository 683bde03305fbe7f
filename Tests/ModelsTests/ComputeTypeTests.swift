import CPUBackend
import Models
import Testing

@Suite struct ComputeTypeTests {
  @Test(arguments: InstructionSet.allCases.filter(\.isSupported))
  func theDefaultFollowsTheInstructionSet(set: InstructionSet) {
    let backend = CPUBackend(threadCount: 1, instructionSet: set)
    let hasPairs = [.avx512bf16, .amx].contains(set)
    #expect(backend.multipliesBFloat16 == hasPairs)
    #expect(LoadOptions.defaultComputeType(on: backend) == (hasPairs ? .bf16 : .f32))
  }
}
