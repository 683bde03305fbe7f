import CPUBackend
import Tensors
import Testing

/// Copies and operations on views, against one element at a time.
@Suite struct StridedTests {
  static let types: [DType] = [.f32, .bf16, .f16, .i64, .i32, .u8]

  /// Views of a tensor [37, 5, 53], or of a column of it, and views of those.
  static let views: [(name: String, view: @Sendable (Tensor) throws -> Tensor)] = [
    ("itself", { $0 }),
    ("transposed", { try $0.transposed(0, 2) }),
    ("transposed rows", { try $0.transposed(1, 2) }),
    ("transposed heads", { try $0.transposed(0, 1) }),
    ("narrowed", { try $0.narrowed(2, 3..<52) }),
    ("narrowed rows", { try $0.narrowed(0, 1..<35).narrowed(1, 1..<4) }),
    ("transposed and narrowed", { try $0.transposed(1, 2).narrowed(1, 2..<49).narrowed(2, 1..<5) }),
    ("narrowed and transposed", { try $0.narrowed(2, 7..<8).transposed(0, 2) }),
    ("a matrix", { try $0.selected(1, 2).transposed(0, 1) }),
    ("a column", { try $0.selected(2, 9).selected(1, 4) }),
    ("one element", { try $0.narrowed(0, 3..<4).narrowed(1, 2..<3).narrowed(2, 5..<6) }),
    ("stretched rows", { try $0.narrowed(1, 2..<3).broadcasted(to: [37, 6, 53]) }),
    ("stretched elements", { try $0.narrowed(2, 2..<3).broadcasted(to: [4, 37, 5, 9]) }),
    ("stretched columns", { try $0.selected(1, 1).narrowed(1, 4..<5).broadcasted(to: [37, 20]).transposed(0, 1) }),
    ("nothing", { try $0.narrowed(1, 2..<2).transposed(0, 2) }),
  ]

  private let shape = [37, 5, 53]

  private func counting(_ dtype: DType, on backend: CPUBackend) throws -> Tensor {
    let x = try Tensor(empty: shape, dtype: dtype, on: backend)
    let size = dtype.byteCount
    // Any bits, so that a number that took a way over another type shows: large i64, NaN that signal, both zeros.
    try x.withMutableHostBytes { bytes in
      for index in bytes.indices { bytes[index] = UInt8(truncatingIfNeeded: index &* 167 &+ index / size &* 29 &+ 13) }
    }
    return x
  }

  /// The elements of a view by its strides.
  private func elements(_ view: Tensor, of whole: Tensor) throws -> [[UInt8]] {
    let bytes = try whole.withHostBytes { Array($0) }
    let size = view.dtype.byteCount
    return places(view).map { Array(bytes[$0 * size..<($0 + 1) * size]) }
  }

  private func places(_ view: Tensor) -> [Int] {
    zip(view.shape, view.strides).reduce([view.offset]) { places, axis in
      places.flatMap { place in (0..<axis.0).map { place + $0 * axis.1 } }
    }
  }

  private func elements(_ packed: Tensor) throws -> [[UInt8]] {
    let size = packed.dtype.byteCount
    let bytes = try packed.withHostBytes { Array($0) }
    return (0..<packed.elementCount).map { Array(bytes[$0 * size..<($0 + 1) * size]) }
  }

  @Test(arguments: views.indices, types)
  func copiesOfViewsHaveTheirBits(index: Int, dtype: DType) throws {
    for backend in [CPUBackend(threadCount: 1), CPUBackend(threadCount: 3)] {
      let whole = try counting(dtype, on: backend)
      let view = try Self.views[index].view(whole)
      let wanted = try elements(view, of: whole)
      let packed = try view.copied()
      #expect(try elements(packed) == wanted, "\(Self.views[index].name) of \(dtype)")
      guard places(view).count == Set(places(view)).count else { continue }
      // Into a view: the elements around it stay.
      let other = try Tensor(full: shape, value: 7, dtype: dtype, on: backend)
      let before = try elements(other)
      let target = try Self.views[index].view(other)
      try backend.copy(packed, into: target)
      #expect(try elements(target, of: other) == wanted, "into \(Self.views[index].name) of \(dtype)")
      let inside = Set(places(target))
      let after = try elements(other)
      #expect(after.indices.allSatisfy { inside.contains($0) || after[$0] == before[$0] })
      // From a view to a view.
      let third = try Tensor(full: shape, value: 7, dtype: dtype, on: backend)
      let last = try Self.views[index].view(third)
      try backend.copy(view, into: last)
      #expect(try elements(last, of: third) == wanted, "\(Self.views[index].name) of \(dtype) to its like")
    }
  }

  @Test(arguments: views.indices) func conversionsOfViewsAreThoseOfTheirCopies(index: Int) throws {
    for backend in [CPUBackend(threadCount: 1), CPUBackend(threadCount: 3)] {
      let whole = try Tensor(
        (0..<shape.reduce(1, *)).map { Float(($0 * 7919) % 4001) / 17 }, shape: shape, on: backend)
      let view = try Self.views[index].view(whole)
      for dtype in Self.types where dtype != .f32 {
        #expect(try elements(view.converted(to: dtype)) == elements(try view.copied().converted(to: dtype)))
      }
      let filled = try Self.views[index].view(whole)
      try backend.fill(filled, 3)
      #expect(try filled.floats().allSatisfy { $0 == 3 })
    }
  }

  /// a is any view, b one with the same shape, a row, a column, one number or a tensor with another order of strides.
  @Test(arguments: views.indices, BinaryOperation.allCases)
  func operationsOnViewsAreThoseOnCopies(index: Int, operation: BinaryOperation) throws {
    let backend = CPUBackend(threadCount: index % 2 + 1)
    func numbers(_ seed: Int) throws -> Tensor {
      try Tensor(
        (0..<shape.reduce(1, *)).map { $0 % 97 == seed ? .nan : Float(($0 &* 7919 &* seed) % 41) / 8 - 1 },
        shape: shape, on: backend)
    }
    let a = try Self.views[index].view(numbers(3))
    let same = try Self.views[index].view(numbers(5))
    var others = [same, try same.copied(), try Tensor([0.75], on: backend)]
    if a.rank > 1, a.elementCount > 0 {
      others.append(try same.narrowed(0, 0..<1))
      others.append(try same.narrowed(a.rank - 1, 0..<1))
      let turned = try same.copied().transposed(0, a.rank - 1).copied()
      others.append(try turned.transposed(0, a.rank - 1))
    }
    for b in others {
      for (left, right) in [(a, b), (b, a)] {
        let (y, wanted) = (try Tensor(empty: a.shape, on: backend), try Tensor(empty: a.shape, on: backend))
        try backend.binary(operation, left, right, into: y)
        // One element at a time.
        let (p, q) = (
          try left.broadcasted(to: a.shape).copied().viewed([a.elementCount]),
          try right.broadcasted(to: a.shape).copied().viewed([a.elementCount])
        )
        let flat = try wanted.viewed([a.elementCount])
        for element in stride(from: 0, to: a.elementCount, by: max(1, a.elementCount / 301)) {
          let range = element..<element + 1
          try backend.binary(operation, p.narrowed(0, range), q.narrowed(0, range), into: flat.narrowed(0, range))
        }
        let (got, expected) = (try y.floats(), try wanted.floats())
        for element in stride(from: 0, to: a.elementCount, by: max(1, a.elementCount / 301)) {
          let isSame = got[element].bitPattern == expected[element].bitPattern
          #expect(
            isSame || got[element].isNaN && expected[element].isNaN,
            "\(operation) of \(Self.views[index].name) at \(element): \(got[element]), wanted \(expected[element])")
        }
        // Operands of other types are widened on the way, and results may lie apart.
        if index % 3 == 0 {
          let (c, d) = (try left.converted(to: .bf16), try right.converted(to: .f16))
          let last = max(0, a.rank - 1)
          let apart = try Tensor(empty: a.transposed(0, last).shape, on: backend).transposed(0, last)
          try backend.binary(operation, c, d, into: apart)
          try backend.binary(operation, try c.converted(to: .f32), try d.converted(to: .f32), into: wanted)
          let pairs = zip(try apart.floats(), try wanted.floats())
          #expect(pairs.allSatisfy { $0.bitPattern == $1.bitPattern || $0.isNaN && $1.isNaN })
        }
      }
    }
  }

  @Test(arguments: [DType.f32, .bf16, .f16])
  func sumsOfSquaresAreInDoublePrecision(type: DType) throws {
    let backend = CPUBackend(threadCount: 2)
    for count in [1, 7, 8, 9, 16385, 40_003] {
      let x = try GuardedTensor(random: 1, [count], type, on: backend)
      let wanted = try x.values().reduce(0.0) { $0 + Double($1) * Double($1) }
      #expect(abs(try backend.sumOfSquares([x.tensor]) - wanted) <= 1e-12 * wanted)
    }
  }
}
