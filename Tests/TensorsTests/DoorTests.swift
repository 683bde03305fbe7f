import CPUBackend
import Tensors
import Testing

/// The ways into a tensor's bytes, on parts of a storage too.
@Suite struct DoorTests {
  let backend = CPUBackend(threadCount: 1)

  @Test func aPartIsReadWrittenAndCleared() throws {
    let whole = try Tensor((0..<12).map(Float.init), shape: [4, 3], on: backend)
    let part = try whole.narrowed(0, 1..<3)
    var values = [Float](repeating: -1, count: 6)
    try values.withUnsafeMutableBytes { try backend.read(part, into: $0) }
    #expect(values == [3, 4, 5, 6, 7, 8])
    try [Float](repeating: 9, count: 6).withUnsafeBytes { try backend.write($0, to: part) }
    #expect(try whole.floats() == [0, 1, 2, 9, 9, 9, 9, 9, 9, 9, 10, 11])
    try backend.zero(try whole.narrowed(0, 2..<4))
    #expect(try whole.floats() == [0, 1, 2, 9, 9, 9, 0, 0, 0, 0, 0, 0])
  }

  @Test func aSpilledPartComesBack() throws {
    let whole = try Tensor((0..<12).map(Float.init), shape: [4, 3], on: backend)
    let part = try whole.narrowed(0, 1..<3)
    let file = try SpillFile(directory: "/tmp", content: .activations)
    let checksum = try file.write(part, at: 0)
    try backend.zero(whole)
    try file.read(into: part, at: 0, checksum: checksum)
    #expect(try whole.floats() == [0, 0, 0, 3, 4, 5, 6, 7, 8, 0, 0, 0])
    #expect(throws: TensorError.self) { try file.read(into: part, at: 0, checksum: checksum &+ 1) }
  }
}
