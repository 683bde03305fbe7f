import CPUBackend
import Foundation
import Tensors
import Testing

@testable import Autograd

/// Where an operation has a choice, value and gradient are those of PyTorch
/// (Tests/Fixtures/peers/make_gradients_golden.py).
@Suite struct TorchGoldenTests {
  private struct Operand: Decodable {
    let shape: [Int]
    let values: [String]
  }
  private struct Case: Decodable {
    let name: String
    let axis: Int?
    let shape: [Int]?
    let operands: [Operand]
    let result: [String]
    let gradients: [[String]]
  }
  private struct Golden: Decodable { let cases: [Case] }

  private func evaluate(_ golden: Case, _ inputs: [Tensor]) throws -> Tensor {
    switch golden.name {
    case "max": try reduce(.maximum, inputs[0], axis: golden.axis)
    case "min": try reduce(.minimum, inputs[0], axis: golden.axis)
    case "maximum": try binary(.maximum, inputs[0], inputs[1])
    case "minimum": try binary(.minimum, inputs[0], inputs[1])
    case "power": try binary(.power, inputs[0], inputs[1])
    case "gelu tanh": try unary(.gelu, inputs[0])
    case "gelu none": try exactGELU(inputs[0])
    case "erf": try unary(.erf, inputs[0])
    case "matmul": try matmul(inputs[0], inputs[1])
    default: throw TensorError.unsupported(device: "golden", operation: golden.name)
    }
  }

  private func agree(_ got: [Float], _ wanted: [String], _ what: String) throws {
    let wanted = try wanted.map { try #require(Float($0)) }
    #expect(got.count == wanted.count, "\(what)")
    for (index, (a, b)) in zip(got, wanted).enumerated() {
      let isClose = a == b || a.isNaN && b.isNaN || abs(a - b) <= 2e-6 * max(1, abs(b))
      #expect(isClose, "\(what) [\(index)]: \(a), PyTorch \(b)")
    }
  }

  @Test func valuesAndGradientsAreThoseOfPyTorch() throws {
    let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("Fixtures/peers/gradients.json")
    let cases = try JSONDecoder().decode(Golden.self, from: Data(contentsOf: file)).cases
    #expect(cases.count == 21)
    for golden in cases {
      let what = "\(golden.name) \(golden.axis.map { "dim \($0)" } ?? "") \(golden.operands.map(\.shape))"
      let inputs = try golden.operands.map { operand in
        let values = try operand.values.map { try #require(Float($0)) }
        return try Tensor(values, shape: operand.shape, on: testBackend)
      }
      for input in inputs { input.requiresGradient = true }
      let y = try evaluate(golden, inputs)
      try agree(try y.floats(), golden.result, what)
      if let shape = golden.shape { #expect(y.shape == shape || y.elementCount == 1, "\(what): \(y.shape)") }
      let seed = (0..<y.elementCount).map { golden.shape == nil ? Float($0 + 1) : 1 }
      try y.backward(seed: try Tensor(seed, shape: y.shape, on: testBackend))
      for (index, input) in inputs.enumerated() {
        try agree(try #require(input.gradient).floats(), golden.gradients[index], "\(what) gradient \(index)")
      }
    }
  }
}

/// Digits that sums and differences in f32 would lose, against PyTorch 2.13.
@Suite struct LargeNumberTests {
  /// 2^24 + 1 is no f32: a sum that is kept in one never grows.
  @Test func cumulativeSumsKeepSmallTerms() throws {
    let x = try Tensor([0x1p24, 1, 1, 1, 1], on: testBackend)
    x.requiresGradient = true
    let y = try cumulativeSum(x, axis: 0)
    #expect(try y.floats() == [16_777_216, 16_777_216, 16_777_218, 16_777_220, 16_777_220])
    try y.backward(seed: x.detached())
    #expect(try x.gradient?.floats() == [16_777_220, 4, 3, 2, 1])
  }

  @Test(
    arguments: [
      ([1e4, 1e4, 9999], [-0.861994803, -0.861994803, -1.861994743]), ([9.9e7, 9.9e7], [-0.693147182, -0.693147182]),
      ([-9.9e7, -9.9e7], [-0.693147182, -0.693147182]),
    ] as [([Float], [Float])])
  func logarithmsOfTheSoftmaxOfLargeLogits(logits: [Float], wanted: [Float]) throws {
    let x = try Tensor(logits, shape: [1, logits.count], on: testBackend)
    for (got, wanted) in zip(try softmax(x, logarithm: true).floats(), wanted) { #expect(abs(got - wanted) < 1e-6) }
    let loss = try crossEntropy(x, labels: try Tensor(ids: [0], on: testBackend), scale: 1)
    #expect(abs(try loss.floats()[0] + wanted[0]) < 1e-6)
  }
}

/// What a rule must refuse before a kernel reads or writes beside its rows.
@Suite struct RefusedOperandTests {
  @Test(arguments: [4, 5, Int32.max]) func aTargetThatIsNoClass(label: Int32) throws {
    let logits = try sample([3, 4])
    let labels = try Tensor(ids: [0, -100, label], on: testBackend)
    let expected = { (operation: String) in TensorError.badIndex(operation: operation, index: Int(label), count: 4) }
    #expect(throws: expected("cross_entropy")) { try crossEntropy(logits, labels: labels, scale: 1) }
    #expect(throws: expected("linear_cross_entropy")) {
      try linearCrossEntropy(
        try sample([3, 2]), head: .dense(try sample([4, 2])), labels: labels, scale: 1, precision: .f32)
    }
  }

  @Test func targetsOfAnotherKindOrNumber() throws {
    let logits = try sample([3, 4])
    #expect(throws: TensorError.badDType(operation: "cross_entropy", got: .f32, expected: [.i32])) {
      try crossEntropy(logits, labels: try sample([3]), scale: 1)
    }
    for count in [2, 4] {
      let labels = try Tensor(ids: Array(repeating: 0, count: count), on: testBackend)
      #expect(throws: TensorError.shapeMismatch(operation: "cross_entropy", lhs: [3], rhs: [count])) {
        try crossEntropy(logits, labels: labels, scale: 1)
      }
    }
  }

  @Test func partsOnTwoDevicesAreNotJoined() throws {
    let other = try Tensor([1, 2], on: CPUBackend(threadCount: 1))
    #expect(throws: TensorError.self) { try concatenate([try sample([2]), other], axis: 0) }
  }

  @Test(arguments: [Float.nan, -0.1, 1, 2, .infinity]) func aProbabilityThatIsNone(probability: Float) throws {
    #expect(throws: TensorError.self) {
      try dropout(try sample([4]), probability: probability, stream: RandomStream(seed: 1, stream: 1))
    }
  }
}
