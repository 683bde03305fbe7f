import CPUBackend
import Tensors
import Testing

@testable import Autograd

@Suite struct ShapeRuleTests {
  @Test func shapeChangesPassGradientsThrough() throws {
    let x = try sample([2, 3, 4])
    try checkGradients("view", inputs: [x]) { try reshape($0[0], [4, -1]) }
    try checkGradients("transpose", inputs: [x]) { try unary(.square, try transpose($0[0], 0, 2)) }
    try checkGradients("narrow", inputs: [x]) { try narrow($0[0], 1, 1..<3) }
    try checkGradients("select", inputs: [x]) { try select($0[0], 2, 1) }
    try checkGradients("cat", inputs: [x, try sample([2, 1, 4])]) { try concatenate($0, axis: 1) }
    try checkGradients("contiguous", inputs: [x]) { try packed(try transpose($0[0], 0, 1)) }
  }

  @Test(arguments: [Reduction.sum, .mean, .maximum, .minimum])
  func reductionsOverEachAxis(operation: Reduction) throws {
    let x = try Tensor((0..<24).map { Float(($0 * 7) % 24) / 5 }, shape: [2, 3, 4], on: testBackend)
    for axis in [nil, 0, 1, 2] {
      try checkGradients("\(operation) \(String(describing: axis))", inputs: [x]) {
        try reduce(operation, $0[0], axis: axis)
      }
    }
  }

  /// 2^24 + 1 is no f32.
  @Test(arguments: [DType.i64, .i32]) func integersAreReducedExactly(dtype: DType) throws {
    let x = try Tensor(integers: [1 << 24, 3, (1 << 24) + 1, 2, 3, 2], shape: [3, 2], on: testBackend)
      .converted(to: dtype)
    func found(_ operation: Reduction, _ axis: Int?, _ type: DType) throws -> [Int] {
      let y = try reduce(operation, x, axis: axis)
      #expect(y.dtype == type && !y.requiresGradient)
      return try y.integers()
    }
    #expect(try found(.maximum, 0, dtype) == [(1 << 24) + 1, 3] && found(.maximum, nil, dtype) == [(1 << 24) + 1])
    #expect(try found(.minimum, 1, dtype) == [3, 2, 2] && found(.minimum, nil, dtype) == [2])
    #expect(try found(.argmax, 0, .i64) == [1, 0] && found(.argmax, nil, .i64) == [2])
    #expect(try found(.sum, 0, .i64) == [(1 << 25) + 4, 7])
    #expect(try found(.sum, 1, .i64) == [(1 << 24) + 3, (1 << 24) + 3, 5])
    #expect(try reduce(.mean, x, axis: 1).floats() == [8_388_609.5, 8_388_609.5, 2.5])
    let bytes = try Tensor(integers: [1, 255, 7], on: testBackend).converted(to: .u8)
    #expect(try reduce(.maximum, bytes).dtype == .u8 && reduce(.sum, bytes).integers() == [263])
    #expect(throws: TensorError.self) { try reduce(.maximum, try x.narrowed(0, 0..<0), axis: 0) }
    #expect(try reduce(.sum, try x.narrowed(0, 0..<0), axis: 0).integers() == [0, 0])
  }

  @Test func softmaxAndLogSoftmax() throws {
    let x = try sample([3, 5])
    try checkGradients("softmax", inputs: [x]) { try softmax($0[0]) }
    try checkGradients("log_softmax", inputs: [x]) { try softmax($0[0], logarithm: true) }
  }

  @Test func matrixProducts() throws {
    let (a, b) = (try sample([2, 3, 4]), try sample([4, 5], seed: 2))
    try checkGradients("matmul 3d x 2d", inputs: [a, b]) { try matmul($0[0], $0[1]) }
    try checkGradients("matmul batched", inputs: [a, try sample([2, 4, 2], seed: 5)]) { try matmul($0[0], $0[1]) }
    try checkGradients("matmul vector", inputs: [try sample([4]), b]) { try matmul($0[0], $0[1]) }
    #expect(throws: TensorError.innerDimensions(operation: "matmul", lhs: [4, 3], rhs: [5, 2])) {
      try matmul(try sample([4, 3]), try sample([5, 2]))
    }
  }

  /// Operands as users write them.
  static let operands: [(name: String, view: @Sendable (Tensor) throws -> Tensor)] = [
    ("packed", { try reshape($0, [7, 15]) }),
    ("transposed", { try transpose(try reshape($0, [15, 7]), 0, 1) }),
    ("rows", { try narrow(try reshape($0, [15, 7]), 0, 4..<11) }),
    ("columns", { try narrow(try reshape($0, [7, 15]), 1, 2..<13) }),
    ("transposed columns", { try transpose(try narrow(try reshape($0, [15, 7]), 1, 1..<6), 0, 1) }),
    ("columns of a transpose", { try narrow(try transpose(try reshape($0, [15, 7]), 0, 1), 1, 3..<14) }),
    ("twice transposed", { try transpose(try transpose(try reshape($0, [7, 15]), 0, 1), 0, 1) }),
    ("one row", { try narrow(try reshape($0, [7, 15]), 0, 3..<4) }),
    ("one column", { try narrow(try reshape($0, [7, 15]), 1, 3..<4) }),
    ("a transposed column", { try transpose(try narrow(try reshape($0, [7, 15]), 1, 3..<4), 0, 1) }),
    ("both dimensions apart", { try select(try reshape($0, [7, 5, 3]), 2, 1) }),
    ("one number", { try narrow(try narrow(try reshape($0, [7, 15]), 0, 3..<4), 1, 2..<3) }),
    ("nothing", { try transpose(try narrow(try reshape($0, [7, 15]), 1, 4..<4), 0, 1) }),
    ("a plane", { try select(try transpose(try reshape($0, [3, 5, 7]), 0, 2), 1, 2) }),
  ]

  @Test(arguments: operands.indices)
  func productsTakeViews(index: Int) throws {
    for other in Self.operands.indices {
      let (first, second) = (Self.operands[index], Self.operands[other])
      let (x, z) = (try sample([105], seed: 3), try sample([105], seed: 8))
      // The inner dimensions are made to agree by a part of the longer one.
      func operands(_ x: Tensor, _ z: Tensor) throws -> (Tensor, Tensor) {
        let (a, b) = (try first.view(x), try second.view(z))
        let depth = min(a.shape[1], b.shape[0])
        return (try narrow(a, 1, 0..<depth), try narrow(b, 0, 0..<depth))
      }
      func gradients(_ copy: (Tensor) throws -> Tensor) throws -> [[Float]] {
        for input in [x, z] { (input.requiresGradient, input.gradient) = (true, nil) }
        let (a, b) = try operands(x, z)
        let y = try matmul(try copy(a), try copy(b))
        #expect(y.isContiguous && y.shape == [a.shape[0], b.shape[1]])
        try y.backward(seed: try sample(y.shape, seed: 5))
        return try [y, try #require(x.gradient), try #require(z.gradient)].map { try $0.floats() }
      }
      for (mine, theirs) in zip(try gradients { $0 }, try gradients(packed)) {
        #expect(
          zip(mine, theirs).allSatisfy { abs($0 - $1) < 2e-6 * max(1, abs($1)) }, "\(first.name) x \(second.name)")
      }
    }
  }

  @Test(arguments: operands.indices)
  func gradientsOfProductsOfViews(index: Int) throws {
    let other = (index * 5 + 1) % Self.operands.count
    try checkGradients(
      "\(Self.operands[index].name) x \(Self.operands[other].name)",
      inputs: [try sample([105], seed: 3), try sample([105], seed: 8)]
    ) {
      let (a, b) = (try Self.operands[index].view($0[0]), try Self.operands[other].view($0[1]))
      let depth = min(a.shape[1], b.shape[0])
      return try matmul(try narrow(a, 1, 0..<depth), try narrow(b, 0, 0..<depth))
    }
    let batched = [try sample([2, 3, 4]), try sample([2, 5, 4], seed: 5)]
    try checkGradients("batch of transposed", inputs: batched) { try matmul($0[0], try transpose($0[1], 1, 2)) }
    try checkGradients("batch of turned", inputs: batched) {
      try matmul(try transpose($0[0], 1, 2), try transpose(try narrow($0[1], 1, 1..<4), 1, 1))
    }
  }

  /// Rows that are the same row, or elements the same element, are no matrix that a device takes.
  @Test func stretchedOperandsOfProducts() throws {
    let (row, column) = (try sample([1, 33]), try sample([33, 1], seed: 2))
    let views = [
      try row.broadcasted(to: [33, 33]), try column.broadcasted(to: [33, 33]),
      try row.broadcasted(to: [33, 33]).transposed(0, 1), try column.broadcasted(to: [33, 33]).transposed(0, 1),
      try row.narrowed(1, 4..<5).broadcasted(to: [33, 33]),
    ]
    for a in views {
      for b in views { #expect(try matmul(a, b).floats() == matmul(a.copied(), b.copied()).floats()) }
    }
  }

  /// Neither for the product nor for the gradient, which lies in memory as its operand does.
  @Test func transposedOperandsAreNotCopied() throws {
    let backend = CPUBackend(threadCount: 1)
    func ones(_ rows: Int, _ columns: Int) throws -> Tensor {
      try Tensor(full: [rows, columns], value: 1, on: backend)
    }
    let (x, w) = (try ones(3, 600), try ones(500, 600))
    _ = try matmul(x, try w.transposed(0, 1))
    backend.memory.resetPeak()
    let before = backend.memory.total
    _ = try matmul(x, try w.transposed(0, 1))
    _ = try matmul(try w.narrowed(1, 7..<507).transposed(0, 1), try ones(500, 3))
    #expect(backend.memory.peak - before < w.byteCount / 2)
    let turned = try w.transposed(0, 1)
    for (a, b) in [(x, turned), (turned, try ones(3, 500).transposed(0, 1)), (try ones(3, 500), w)] {
      for operand in [a, b] { operand.requiresGradient = true }
      let y = try matmul(a, b)
      let backward = try #require((y.producer as? GraphEdge)?.node.backward)
      for (operand, gradient) in zip([a, b], try backward([try ones(y.shape[0], y.shape[1])])) {
        #expect(try #require(gradient).strides == operand.strides)
      }
    }
  }

  @Test(arguments: [DType.bf16, .f16]) func productsOfViewsOfHalvesConvertOnTheWay(dtype: DType) throws {
    let (x, w) = (try sample([9, 33]).converted(to: dtype), try sample([21, 33], seed: 2).converted(to: dtype))
    for (x, w) in [(x, w), (try x.narrowed(1, 1..<32), try w.narrowed(1, 2..<33))] {
      for input in [x, w] { input.requiresGradient = true }
      let y = try matmul(x, try transpose(w, 0, 1))
      let (wideX, wideW) = (try x.converted(to: .f32), try w.converted(to: .f32))
      for input in [wideX, wideW] { input.requiresGradient = true }
      let wide = try matmul(wideX, try packed(try transpose(wideW, 0, 1)))
      #expect(zip(try y.floats(), try wide.floats()).allSatisfy { abs($0 - $1) < 1e-5 })
      try reduce(.sum, y).backward()
      try reduce(.sum, wide).backward()
      for (mine, theirs) in [(x, wideX), (w, wideW)] {
        let (got, wanted) = (try #require(mine.gradient).floats(), try #require(theirs.gradient).floats())
        #expect(zip(got, wanted).allSatisfy { abs($0 - $1) < 2e-2 * max(1, abs($1)) })
      }
    }
  }

  @Test func convertingTakesTheGradientBack() throws {
    let x = try sample([3])
    x.requiresGradient = true
    try reduce(.sum, try convert(x, to: .bf16)).backward()
    #expect(try x.gradient?.floats() == [1, 1, 1])
  }
}
