import CPUBackend
import Tensors
import Testing

@Suite struct SequenceTests {
  private let backend = CPUBackend(threadCount: 2)

  @Test func ranges() throws {
    #expect(try Tensor(from: 0, to: 4, on: backend).floats() == [0, 1, 2, 3])
    #expect(try Tensor(from: 1, to: 0, by: -0.25, on: backend).floats() == [1, 0.75, 0.5, 0.25])
    #expect(try Tensor(from: 3, to: 1, on: backend).elementCount == 0)
    let none: [(Double, Double, Double)] = [(0, 1, 0), (0, .infinity, 1), (0, .nan, 1), (0, 1e12, 1)]
    for (start, stop, step) in none {
      let error = #expect(throws: TensorError.self) { try Tensor(from: start, to: stop, by: step, on: backend) }
      #expect(error?.description.contains("arange: start, stop and step") == true)
    }
  }

  @Test func unitMatrices() throws {
    #expect(try Tensor(identity: 3, on: backend).floats() == [1, 0, 0, 0, 1, 0, 0, 0, 1])
    #expect(try Tensor(identity: 0, on: backend).elementCount == 0)
    #expect(throws: TensorError.self) { try Tensor(identity: -1, on: backend) }
  }

  @Test func countingIsExact() throws {
    let large = [16_777_216, 16_777_217, Int(Int32.max), 1 << 60, -5]
    let tensor = try Tensor(integers: large, on: backend)
    #expect(try tensor.integers() == large)
    #expect(try tensor.shifted(by: 1).integers() == large.map { $0 + 1 })
    #expect(throws: TensorError.self) { try Tensor([1], on: backend).shifted(by: 1) }
  }

  @Test func aRangeAsksForItsMemoryFirst() throws {
    let backend = CPUBackend(threadCount: 1)
    backend.memory.limit = 64 << 20
    #expect(throws: TensorError.self) { try Tensor(from: 0, to: 1e8, by: 1, on: backend) }
    #expect(backend.memory.peak < 64 << 20)
  }
}
