import Foundation
import Tensors
import Testing

@testable import Autograd

/// Choices, orders, spreads, norms, sums of products and decompositions against values and gradients of PyTorch
/// (Tests/Fixtures/peers/make_operations_golden.py), and against central differences.
@Suite struct OperationGoldenTests {
  private struct Operand: Decodable {
    let shape: [Int]
    let values: [String]
  }
  private struct Index: Decodable {
    let shape: [Int]
    let values: [Int]
  }
  private struct Case: Decodable {
    let name: String
    let shape: [Int]
    let axis: Int?
    let correction: Int?
    let p: String?
    let equation: String?
    let index: Index?
    let operands: [Operand]
    let result: [String]
    let gradients: [[String]]
  }
  private struct Golden: Decodable { let cases: [Case] }

  private func evaluate(_ golden: Case, _ x: [Tensor]) throws -> Tensor {
    let index = try golden.index.map { try Tensor(integers: $0.values, shape: $0.shape, on: testBackend) }
    let axis = golden.axis ?? 0
    switch golden.name {
    case "where": return try choose(try #require(index), x[0], x[1])
    case "gather": return try gather(x[0], axis: axis, index: try #require(index))
    case "scatter": return try scatter(x[0], axis: axis, index: try #require(index), x[1], adds: false)
    case "scatter_add": return try scatter(x[0], axis: axis, index: try #require(index), x[1], adds: true)
    case "cumsum": return try cumulativeSum(x[0], axis: axis)
    case "sort": return try sort(x[0], axis: axis).values
    case "sort descending": return try sort(x[0], axis: axis, descending: true).values
    case "var", "std":
      return try variance(
        x[0], axis: golden.axis, correction: try #require(golden.correction), isDeviation: golden.name == "std")
    case "norm": return try norm(x[0], axis: golden.axis, p: try #require(golden.p.flatMap { Double($0) }))
    case "einsum": return try einsum(try #require(golden.equation), x)
    case "qr q": return try orthogonalFactors(x[0]).q
    case "qr r": return try orthogonalFactors(x[0]).r
    case "svd s": return try singularValues(x[0]).s
    case "svd usv":
      let (u, s, v) = try singularValues(x[0])
      return try matmul(try binary(.multiply, u, try unary(.square, s)), try transpose(v, 0, 1))
    default: throw TensorError.unsupported(device: "golden", operation: golden.name)
    }
  }

  private func agree(_ got: [Float], _ wanted: [String], within tolerance: Float, _ what: String) throws {
    let wanted = try wanted.map { try #require(Float($0)) }
    #expect(got.count == wanted.count, "\(what)")
    for (index, (a, b)) in zip(got, wanted).enumerated() {
      let isClose = a == b || a.isNaN && b.isNaN || abs(a - b) <= tolerance * max(1, abs(b))
      #expect(isClose, "\(what) [\(index)]: \(a), PyTorch \(b)")
    }
  }

  @Test func valuesAndGradientsAreThoseOfPyTorch() throws {
    let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("Fixtures/peers/operations.json")
    let cases = try JSONDecoder().decode(Golden.self, from: Data(contentsOf: file)).cases
    #expect(cases.count == 64)
    for golden in cases {
      let detail = golden.equation ?? golden.p ?? ""
      let what = "\(golden.name) \(detail) dim \(golden.axis ?? -1) \(golden.operands.map(\.shape))"
      let inputs = try golden.operands.map { operand in
        try Tensor(try operand.values.map { try #require(Float($0)) }, shape: operand.shape, on: testBackend)
      }
      for input in inputs { input.requiresGradient = true }
      let y = try evaluate(golden, inputs)
      // Decompositions round in the last digits of f32 elsewhere.
      let tolerance: Float = golden.name.hasPrefix("qr") || golden.name.hasPrefix("svd") ? 2e-4 : 4e-6
      #expect(y.shape == golden.shape || y.elementCount == 1, "\(what): \(y.shape), PyTorch \(golden.shape)")
      try agree(try y.floats(), golden.result, within: tolerance, what)
      let seed = (0..<y.elementCount).map { Float($0 + 1) }
      try y.backward(seed: try Tensor(seed, shape: y.shape, on: testBackend))
      for (index, input) in inputs.enumerated() {
        try agree(
          try #require(input.gradient).floats(), golden.gradients[index], within: 5 * tolerance,
          "\(what) gradient \(index)")
      }
    }
  }

  @Test func gradientsAreThoseOfCentralDifferences() throws {
    let (x, y, z) = (try sample([4, 3], seed: 1), try sample([4, 3], seed: 2), try sample([2, 4, 3], seed: 3))
    let index = try Tensor(integers: [0, 2, 1, 1, 0, 0], shape: [2, 3], on: testBackend)
    let flags = try Tensor([1, 0, 1], on: testBackend)
    try checkGradients("where", inputs: [x, y]) { try choose(flags, $0[0], $0[1]) }
    try checkGradients("gather", inputs: [x]) { try gather($0[0], axis: 0, index: index) }
    try checkGradients("scatter_add", inputs: [x, try sample([2, 3], seed: 4)]) {
      try scatter($0[0], axis: 0, index: index, $0[1], adds: true)
    }
    try checkGradients("cumsum", inputs: [z]) { try cumulativeSum($0[0], axis: 1) }
    try checkGradients("sort", inputs: [x]) { try sort($0[0], axis: 0).values }
    for isDeviation in [false, true] {
      try checkGradients("var, std", inputs: [z]) { try variance($0[0], axis: 1, isDeviation: isDeviation) }
    }
    for p in [1, 1.7, 2, 3, .infinity] {
      try checkGradients("norm \(p)", inputs: [x]) { try norm($0[0], axis: 1, p: p) }
    }
    try checkGradients("einsum", inputs: [z, try sample([2, 4, 3], seed: 6), y]) { try einsum("bij,bkj,ij->ki", $0) }
    try checkGradients("qr", inputs: [x], tolerance: 1e-2) {
      let (q, r) = try orthogonalFactors($0[0])
      return try matmul(try unary(.square, q), try unary(.tanh, r))
    }
    for shape in [[4, 3], [3, 4], [3, 3]] {
      try checkGradients("svd", inputs: [try sample(shape, seed: 9, low: -2, high: 2)], tolerance: 3e-2) {
        let (u, s, v) = try singularValues($0[0])
        return try matmul(try binary(.multiply, u, try unary(.sin, s)), try transpose(v, 0, 1))
      }
    }
  }

  @Test func decompositionsGiveTheMatrixBack() throws {
    for shape in [[5, 3], [4, 4]] {
      let x = try sample(shape, seed: 5)
      let (q, r) = try orthogonalFactors(x)
      let difference = try binary(.subtract, try matmul(q, r), x).floats()
      #expect(difference.allSatisfy { abs($0) < 1e-6 })
      let unit = try matmul(try transpose(q, 0, 1), q).floats()
      for (place, value) in unit.enumerated() {
        #expect(abs(value - (place % (shape[1] + 1) == 0 ? 1 : 0)) < 1e-6)
      }
    }
  }

  @Test func whatCannotBeDoneIsNamed() throws {
    let x = try sample([2, 3])
    let index = try Tensor(integers: [0, 1, 2], shape: [1, 3], on: testBackend)
    #expect(throws: TensorError.badIndex(operation: "gather", index: 2, count: 2)) {
      try gather(x, axis: 0, index: index)
    }
    #expect(throws: TensorError.badDimension(operation: "cumsum", dimension: 2, rank: 2)) {
      try cumulativeSum(x, axis: 2)
    }
    #expect(throws: TensorError.shapeMismatch(operation: "gather", lhs: [2, 3], rhs: [3])) {
      try gather(x, axis: 0, index: try Tensor(integers: [0, 1, 1], on: testBackend))
    }
    #expect(throws: TensorError.badShape(operation: "svd", shape: [3], problem: .emptyMatrix)) {
      try singularValues(try sample([3]))
    }
    #expect(throws: TensorError.self) { try orthogonalFactors(x) }
    #expect(throws: TensorError.self) { try norm(x, axis: 0, p: 0) }
    #expect(throws: TensorError.shapeMismatch(operation: "einsum", lhs: [2, 3], rhs: [2, 3])) {
      try einsum("ij,jk->ik", [x, x])
    }
    for equation in ["ij", "ij->k", "ii->i", "ij,jk->ik", "i->i", "i1->i"] {
      #expect(throws: TensorError.self, "\(equation)") { try einsum(equation, [x]) }
    }
  }

  /// A sum over one operand is f32 as over several, and no view of what it was given.
  @Test func einsumOfOneOperandIsANewTensor() throws {
    let x = try sample([2, 3], seed: 1)
    let same = try einsum("ij->ij", [x])
    #expect(same.storage !== x.storage)
    #expect(try same.floats() == x.floats())
    for equation in ["ij->ij", "ij->ji", "ij->i"] {
      #expect(try einsum(equation, [try x.converted(to: .bf16)]).dtype == .f32, "\(equation)")
    }
  }

  @Test(arguments: [Float.nan, .infinity]) func singularValuesOfWhatIsNoNumberAreRefused(value: Float) throws {
    let x = try Tensor([1, 2, value, 4], shape: [2, 2], on: testBackend)
    #expect(throws: TensorError.self) { try singularValues(x) }
  }

  @Test(arguments: [[0..<2, 3..<4], [1..<4], [0..<2], [0..<3, 2..<4], []] as [[Range<Int>]])
  func lossesOfRangesThatDoNotAdjoinAreRefused(ranges: [Range<Int>]) throws {
    let (hidden, head) = (try sample([4, 3], seed: 1), try sample([5, 3], seed: 2))
    let labels = try Tensor(ids: [0, 1, 2, 3], on: testBackend)
    #expect(throws: TensorError.self) {
      try linearCrossEntropy(
        hidden, head: .dense(head), labels: labels, losses: ranges.map { LossRows(rows: $0, scale: 1) }, precision: .f32
      )
    }
  }
}
