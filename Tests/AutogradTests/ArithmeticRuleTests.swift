import Foundation
import Tensors
import Testing

@testable import Autograd

@Suite struct ArithmeticRuleTests {
  /// Slopes against central differences of the definition in double precision, on either side of the kinks.
  @Test(arguments: UnaryOperation.allCases)
  func unarySlopesAreThoseOfTheDefinition(operation: UnaryOperation) throws {
    let needsPositive: Set<UnaryOperation> = [.log, .sqrt, .rsqrt, .reciprocal]
    let signed: [Float] = [-4.3, -1.7, -1.2, -0.8, -0.3, 0.2, 0.35, 0.7, 1.1, 1.3, 1.8, 4.3]
    let x = try Tensor(needsPositive.contains(operation) ? signed.map(abs) : signed, on: testBackend)
    x.requiresGradient = true
    // The gradient that arrives is not one, so that forgetting it shows.
    let seed = try sample(x.shape, seed: 7, low: 0.5, high: 1.5)
    try unary(operation, x).backward(seed: seed)
    let got = zip(try #require(x.gradient).floats(), try seed.floats()).map { Double($0) / Double($1) }
    for (value, slope) in zip(try x.floats().map(Double.init), got) {
      let h = 1e-5
      let wanted = (definition(operation, value + h) - definition(operation, value - h)) / (2 * h)
      #expect(abs(slope - wanted) < 2e-6 * max(1, abs(wanted)), "at \(value): \(slope), wanted \(wanted)")
    }
    #expect((unarySlopes[operation] == nil) == [.sign, .floor, .ceil, .round].contains(operation))
  }

  @Test(arguments: BinaryOperation.allCases, [[3, 4], [4], [3, 1], [1]])
  func binaryGradientsAreThoseOfTheDefinition(operation: BinaryOperation, shape: [Int]) throws {
    let (a, b) = (try sample([3, 4], seed: 3, low: 0.5, high: 2), try sample(shape, seed: 4, low: 0.6, high: 1.9))
    for input in [a, b] { input.requiresGradient = true }
    let y = try binary(operation, a, b)
    let comparisons: Set<BinaryOperation> = [.equal, .notEqual, .less, .lessEqual, .greater, .greaterEqual]
    #expect(y.requiresGradient != comparisons.contains(operation))
    guard y.requiresGradient else {
      #expect([0, 1].contains(definition(operation, 1, 2)))
      return
    }
    let seed = try sample(y.shape, seed: 7, low: 0.5, high: 1.5)
    try y.backward(seed: seed)
    let seeds = try seed.floats().map(Double.init)
    let (x1, x2) = (try a.floats().map(Double.init), try b.broadcasted(to: [3, 4]).floats().map(Double.init))
    let h = 1e-5
    func difference(_ f: (Double) -> Double) -> Double { (f(h) - f(-h)) / (2 * h) }
    let first = x1.indices.map { i in seeds[i] * difference { definition(operation, x1[i] + $0, x2[i]) } }
    let second = x1.indices.map { i in seeds[i] * difference { definition(operation, x1[i], x2[i] + $0) } }
    let sums = try reduced(try Tensor(second.map(Float.init), shape: [3, 4], on: testBackend), to: shape).floats()
    for (got, wanted) in zip(try #require(a.gradient).floats(), first) {
      #expect(abs(Double(got) - wanted) < 2e-6 * max(1, abs(wanted)))
    }
    for (got, wanted) in zip(try #require(b.gradient).floats(), sums) {
      #expect(abs(got - wanted) < 1e-5 * max(1, abs(wanted)))
    }
  }

  /// An element of a vector has no dimensions: neither have results and gradients of it.
  @Test(arguments: UnaryOperation.allCases)
  func unaryOperationsOfANumberKeepItsShape(operation: UnaryOperation) throws {
    let x = try Tensor([0.7, 1.3], on: testBackend)
    x.requiresGradient = true
    let y = try unary(operation, try select(x, 0, 0))
    #expect(y.shape == [])
    try y.backward()
    #expect(try x.gradient?.floats()[1] == 0)
    #expect(try exactGELU(try select(x, 0, 1)).shape == [])
  }

  @Test(arguments: BinaryOperation.allCases)
  func binaryOperationsOfNumbersKeepTheirShape(operation: BinaryOperation) throws {
    let x = try Tensor([0.7, 1.3], on: testBackend)
    x.requiresGradient = true
    let y = try binary(operation, try select(x, 0, 0), try select(x, 0, 1))
    #expect(y.shape == [])
    guard y.requiresGradient else { return }
    try y.backward()
    #expect(x.gradient?.shape == [2])
  }

  /// As in PyTorch: what the gradient is computed from must be what it was. Views and detached tensors share it.
  @Test func aChangeOfWhatWasSavedIsAnError() throws {
    let aliases: [(Tensor) throws -> Tensor] = [
      { $0 }, { $0.detached() }, { try $0.narrowed(0, 1..<2) }, { try $0.viewed([3, 1]) },
    ]
    let operations: [(name: String, body: (Tensor) throws -> Tensor)] = [
      ("multiply", { try binary(.multiply, $0, $0) }), ("power", { try binary(.power, $0, $0) }),
      ("divide", { try binary(.divide, try Tensor([1], on: testBackend), $0) }), ("log", { try unary(.log, $0) }),
      ("maximum", { try reduce(.maximum, $0, axis: 0) }),
      ("matmul", { try matmul(try reshape($0, [1, 3]), try reshape($0, [3, 1])) }),
    ]
    for (name, body) in operations {
      for alias in aliases {
        let x = try Tensor([1, 2, 3], on: testBackend)
        x.requiresGradient = true
        let loss = try reduce(.sum, try body(x))
        try alias(x).noteChange()
        #expect(throws: TensorError.changedInPlace(operation: "backward", recorded: name)) { try loss.backward() }
      }
    }
    // Of the exponential it is the result.
    let x = try Tensor([1, 2, 3], on: testBackend)
    x.requiresGradient = true
    let y = try unary(.exp, x)
    y.detached().noteChange()
    #expect(throws: TensorError.self) { try reduce(.sum, y).backward() }
  }

  @Test func aChangeOfWhatNobodyNeedsIsNone() throws {
    let operations: [(Tensor) throws -> Tensor] = [
      { try binary(.add, $0, try Tensor([1], on: testBackend)) },
      { try binary(.divide, $0, try Tensor([2], on: testBackend)) },
      { try binary(.multiply, $0, try Tensor([2], on: testBackend)) }, { try unary(.negate, $0) },
      { try unary(.exp, $0) }, { try reduce(.mean, $0, axis: 0) }, { try reshape($0, [3, 1]) },
    ]
    for body in operations {
      let x = try Tensor([1, 2, 3], on: testBackend)
      x.requiresGradient = true
      let loss = try reduce(.sum, try body(x))
      x.noteChange()
      try loss.backward()
      #expect(x.gradient != nil)
      // Neither is one between passes.
      try reduce(.sum, try binary(.multiply, x, x)).backward()
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
    #expect(throws: TensorError.graphConsumed(operation: "backward")) { try y.backward() }
    #expect(try x.gradient?.item() == 6)
  }
}

/// The operation in double precision, written apart from the kernels.
private func definition(_ operation: UnaryOperation, _ x: Double) -> Double {
  switch operation {
  case .negate: -x
  case .abs: abs(x)
  case .exp: exp(x)
  case .log: log(x)
  case .sqrt: x.squareRoot()
  case .rsqrt: 1 / x.squareRoot()
  case .sin: sin(x)
  case .cos: cos(x)
  case .tanh: tanh(x)
  case .sigmoid: 1 / (1 + exp(-x))
  case .silu: x / (1 + exp(-x))
  case .relu: max(0, x)
  case .gelu: 0.5 * x * (1 + tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
  case .erf: erf(x)
  case .square: x * x
  case .reciprocal: 1 / x
  case .sign: x > 0 ? 1 : -1
  case .floor: x.rounded(.down)
  case .ceil: x.rounded(.up)
  case .round: x.rounded()
  }
}

private func definition(_ operation: BinaryOperation, _ a: Double, _ b: Double) -> Double {
  switch operation {
  case .add: a + b
  case .subtract: a - b
  case .multiply: a * b
  case .divide: a / b
  case .power: pow(a, b)
  case .maximum: max(a, b)
  case .minimum: min(a, b)
  case .equal: a == b ? 1 : 0
  case .notEqual: a != b ? 1 : 0
  case .less: a < b ? 1 : 0
  case .lessEqual: a <= b ? 1 : 0
  case .greater: a > b ? 1 : 0
  case .greaterEqual: a >= b ? 1 : 0
  }
}
