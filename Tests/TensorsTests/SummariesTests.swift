import CPUBackend
import Testing

@testable import Tensors

private let backend = CPUBackend(threadCount: 1)

@Suite struct SummariesTests {
  @Test func theLargestComeInOrder() throws {
    let x = try Tensor([3, .nan, 7, 7, -1, 0, 2, 2, .infinity, -.infinity], shape: [2, 5], on: backend)
    let (values, positions) = try x.largest(3)
    #expect(values.shape == [2, 3])
    let found = try values.floats()
    #expect(found[0].isNaN && Array(found[1...]) == [7, 7, .infinity, 2, 2])
    #expect(positions == [1, 2, 3, 3, 1, 2])
    let all = try x.largest(5)
    #expect(all.positions == [1, 2, 3, 0, 4, 3, 1, 2, 0, 4])
    #expect(throws: TensorError.self) { try x.largest(6) }
    // Many are sorted, few are put into a list: the same order, of equal ones and of NaN too.
    let long = try Tensor((0..<200).map { $0 % 7 == 3 ? Float.nan : Float($0 * 37 % 50) }, on: x.backend)
    let (many, few) = (try long.largest(200).positions, try long.largest(64).positions)
    #expect(Array(many.prefix(64)) == few && Set(many).count == 200 && many.prefix(29).allSatisfy { $0 % 7 == 3 })
    #expect(throws: TensorError.self) { try x.largest(0) }
  }

  @Test func histogramsCountEveryElement() throws {
    let x = try Tensor([0, 0.5, 1, 1, 2, 4, .nan, .infinity], on: backend)
    let whole = try x.histogram(bins: 4)
    #expect((whole.low, whole.high) == (0, 4))
    #expect(whole.counts == [2, 2, 1, 1])
    #expect(whole.outside == 2)
    let part = try x.histogram(bins: 2, low: 1, high: 2)
    #expect(part.counts == [2, 1] && part.outside == 5)
    #expect(try Tensor([5, 5], on: backend).histogram(bins: 3).counts == [2, 0, 0])
    #expect(try Tensor([Float.nan], on: backend).histogram(bins: 2).outside == 1)
  }

  @Test func poolingAverages() throws {
    let x = try Tensor((0..<12).map { Float($0) }, shape: [3, 4], on: backend)
    #expect(try x.pooled(rows: 3, columns: 4).floats() == x.floats())
    #expect(try x.pooled(rows: 1, columns: 2).floats() == [4.5, 6.5])
    #expect(try x.pooled(rows: 99, columns: 1).floats() == [1.5, 5.5, 9.5])
    #expect(throws: TensorError.badShape(operation: "pooled", shape: [2], problem: .emptyMatrix)) {
      try Tensor([1, 2], on: backend).pooled(rows: 1, columns: 1)
    }
    #expect(throws: TensorError.self) { try x.pooled(rows: 0, columns: 1) }
  }
}
