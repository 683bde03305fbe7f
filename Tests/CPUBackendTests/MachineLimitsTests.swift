import CPUBackend
import Testing

@Suite struct MachineLimitsTests {
  @Test func limitsArePositiveAndTheProcessorHasAName() throws {
    let limits = try MachineLimits(CPUBackend(threadCount: 2), seconds: 0)
    for rate in [limits.floatGFLOPS, limits.pairGFLOPS, limits.readGBps, limits.copyGBps, limits.updateGBps] {
      #expect(rate.isFinite && rate > 0)
    }
    #expect(!Processor.name.isEmpty && Processor.count >= 1)
  }

  @Test func measuringAsksForItsMemory() throws {
    let backend = CPUBackend(threadCount: 1)
    backend.memory.limit = 64 << 20
    #expect(throws: (any Error).self) { try MachineLimits(backend, seconds: 0) }
  }
}
