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

  @Test func convertingTakesTheGradientBack() throws {
    let x = try sample([3])
    x.requiresGradient = true
    try reduce(.sum, try convert(x, to: .bf16)).backward()
    #expect(try x.gradient?.floats() == [1, 1, 1])
  }
}
