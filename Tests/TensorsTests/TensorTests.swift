import CPUBackend
import Tensors
import Testing

@Suite struct TensorTests {
  let backend = CPUBackend(threadCount: 2)

  private func counting(_ shape: [Int]) throws -> Tensor {
    try Tensor((0..<shape.reduce(1, *)).map(Float.init), shape: shape, on: backend)
  }

  @Test func viewsShareMemoryAndCopiesDoNot() throws {
    let x = try counting([2, 3, 4])
    let turned = try x.transposed(0, 2)
    #expect(turned.shape == [4, 3, 2] && !turned.isContiguous)
    #expect(try turned.floats().prefix(4) == [0, 12, 4, 16])
    let part = try x.narrowed(1, 1..<3)
    #expect(try part.floats() == [4, 5, 6, 7, 8, 9, 10, 11, 16, 17, 18, 19, 20, 21, 22, 23])
    let row = try x.selected(0, 1).selected(0, 2)
    #expect(try row.shape == [4] && row.floats() == [20, 21, 22, 23])
    let copy = try part.contiguous()
    try backend.fill(x, -1)
    #expect(try row.floats() == [-1, -1, -1, -1] && copy.floats().first == 4)
    #expect(try counting([6]).viewed([2, -1]).shape == [2, 3])
    #expect(try counting([3, 1]).broadcasted(to: [2, 3, 2]).floats() == [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2])
  }

  @Test func impossibleViewsAreErrors() throws {
    let x = try counting([2, 3])
    let cases: [(text: String, body: () throws -> Any)] = [
      ("view: cannot view [2, 3] as [4]: 6 elements against 4", { try x.viewed([4]) }),
      (
        "view: shape [-1, -1] has more negative dimensions than one of -1, which follows from the others",
        { try x.viewed([-1, -1]) }
      ),
      (
        "view: shape [-1, -2] has more negative dimensions than one of -1, which follows from the others",
        { try x.viewed([-1, -2]) }
      ),
      ("transpose: dimension 2 does not exist, the tensor has 2, counted from 0", { try x.transposed(0, 2) }),
      ("narrow: index 3 is outside 0..<3", { try x.narrowed(1, 2..<4) }),
      ("narrow: index -2 is outside 0..<3", { try x.narrowed(1, -2..<4) }),
      ("narrow: index 5 is outside 0..<3", { try x.narrowed(1, 5..<5) }),
      ("select: index 2 is outside 0..<2", { try x.selected(0, 2) }),
      ("expand: shapes do not match: [2, 3] and [2, 4]", { try x.broadcasted(to: [2, 4]) }),
      ("item: expected a tensor with one element, got shape [2, 3]", { try x.item() }),
      ("tensor: shape [-1] has a negative dimension", { try Tensor(empty: [-1], on: backend) }),
      (
        "tensor: shape [1099511627776, 1099511627776] has too many elements",
        { try Tensor(empty: [1 << 40, 1 << 40], on: backend) }
      ),
      ("tensor: cannot view [3] as [2]: 3 elements against 2", { try Tensor([1, 2, 3], shape: [2], on: backend) }),
    ]
    for (text, body) in cases {
      let error = #expect(throws: TensorError.self) { try body() }
      #expect(error.map(String.init(describing:)) == text)
    }
  }

  @Test func conversionsRoundToNearestEven() throws {
    let values: [Float] = [
      1, 1.00390625, 1.01171875, 3.4e38, Float(bitPattern: 0x0001_16C2), -0.0, .infinity, 65520, 5.9604645e-8,
    ]
    let x = try Tensor(values, on: backend)
    // 1 + 2^-8 and 1 + 3 * 2^-8 lie between two bf16 numbers.
    #expect(try Array(x.converted(to: .bf16).floats().prefix(3)) == [1, 1, 1.015625])
    #expect(try x.converted(to: .bf16).floats()[3] == .infinity)
    let half = try x.converted(to: .f16).floats()
    #expect(half == values.map { Float(Float16($0)) })
    #expect(try Tensor([.nan], on: backend).converted(to: .bf16).floats()[0].isNaN)
    #expect(try Tensor([2.9, -2.9], on: backend).converted(to: .i32).integers() == [2, -2])
  }

  @Test func memoryIsAccountedAndBounded() throws {
    let small = CPUBackend(threadCount: 1)
    let before = small.memory.total
    do {
      let x = try Tensor(empty: [1000], on: small)
      #expect(small.memory.total - before >= x.byteCount)
    }
    #expect(small.memory.total == before)
    small.memory.limit = 1 << 20
    #expect(throws: TensorError.self) { try Tensor(empty: [1 << 20], on: small) }
    #expect(small.memory.total == before && small.memory.peak >= 4000)
  }
}
