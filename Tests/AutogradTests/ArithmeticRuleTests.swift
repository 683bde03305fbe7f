import Tensors
import Testing

@testable import Autograd

@Suite struct ArithmeticRuleTests {
  @Test(arguments: UnaryOperation.allCases)
  func unaryGradientsMatchFiniteDifferences(operation: UnaryOperation) throws {
    let needsPositive: Set<UnaryOperation> = [.log, .sqrt, .rsqrt, .reciprocal]
    // Away from the kinks of abs, relu, sign and the jumps of floor, ceil and round.
    let x =
      try needsPositive.contains(operation)
      ? sample([3, 5], low: 0.5, high: 2)
      : Tensor([-1.7, -1.2, -0.8, -0.3, 0.2, 0.35, 0.7, 1.1, 1.3, 1.8], shape: [2, 5], on: testBackend)
    try checkGradients(String(describing: operation), inputs: [x]) { try unary(operation, $0[0]) }
  }

  @Test(arguments: [BinaryOperation.add, .subtract, .multiply, .divide, .power, .maximum, .minimum])
  func binaryGradientsMatchFiniteDifferences(operation: BinaryOperation) throws {
    let a = try sample([3, 4], seed: 3, low: 0.5, high: 2)
    for shape in [[3, 4], [4], [3, 1], [1]] {
      let b = try sample(shape, seed: 4, low: 0.6, high: 1.9)
      // A small step for maximum and minimum, so that no pair of elements changes order within it.
      try checkGradients("\(operation) \(shape)", inputs: [a, b], step: 2e-3, tolerance: 2e-2) {
        try binary(operation, $0[0], $0[1])
      }
    }
  }

  @Test func mismatchedShapesAreNamed() throws {
    let (a, b) = (try sample([2, 3]), try sample([4]))
    #expect(throws: TensorError.shapeMismatch(operation: "add", lhs: [2, 3], rhs: [4])) { try binary(.add, a, b) }
  }

  @Test func gradientsOfASharedInputAdd() throws {
    let x = try Tensor([3], on: testBackend)
    x.requiresGradient = true
    try binary(.add, try binary(.multiply, x, x), x).backward()
    #expect(try x.gradient?.item() == 7)
  }

  @Test func aSecondPassOverAGraphIsAnError() throws {
    let x = try Tensor([3], on: testBackend)
    x.requiresGradient = true
    let y = try binary(.multiply, x, x)
    try y.backward()
    #expect(throws: TensorError.noGraph(operation: "backward (second time)")) { try y.backward() }
    #expect(try x.gradient?.item() == 6)
  }
}
