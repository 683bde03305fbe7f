import Tensors
import Testing

@testable import Autograd

@Suite struct RecurrentRuleTests {
  @Test func convolutionOverPackedSequences() throws {
    let segments = try Tensor(ids: [0, 2, 7], on: testBackend)
    try checkGradients("convolution", inputs: [try sample([7, 5]), try sample([5, 1, 3], seed: 2)]) {
      try causalConvolution($0[0], weight: $0[1], segments: segments)
    }
  }

  @Test func decaysOfHeads() throws {
    let inputs = [
      try sample([4, 3], low: -3, high: 3), try sample([3], seed: 2), try sample([3], seed: 3),
    ]
    try checkGradients("decays", inputs: inputs) { try headDecays($0[0], rate: $0[1], bias: $0[2]) }
    // Far out softplus is 0 or its argument.
    let far = try headDecays(
      try Tensor([-200, 200], shape: [2, 1], on: testBackend), rate: try Tensor([0], on: testBackend),
      bias: try Tensor([0], on: testBackend))
    #expect(try far.floats() == [0, -200])
  }

  @Test func deltaRuleOverPackedSequences() throws {
    let shape = DeltaRuleShape(
      keyHeads: 2, valueHeads: 4, keyDim: 3, valueDim: 2, segments: try Tensor(ids: [0, 3, 8], on: testBackend))
    let inputs = [
      try sample([8, shape.width]), try sample([8, 4], seed: 2, low: -0.5, high: 0),
      try sample([8, 4], seed: 3, low: 0),
    ]
    try checkGradients("delta_rule", inputs: inputs, step: 3e-3) {
      try deltaRule($0[0], decay: $0[1], beta: $0[2], shape)
    }
  }

  /// The result of the convolution is not kept: it is computed again, and the gradients are the same.
  @Test func whatTheConvolutionGaveIsComputedAgain() throws {
    let segments = try Tensor(ids: [0, 6], on: testBackend)
    let shape = DeltaRuleShape(keyHeads: 1, valueHeads: 2, keyDim: 3, valueDim: 2, segments: segments)
    let inputs = [try sample([6, shape.width]), try sample([shape.width, 1, 4], seed: 2)]
    let decay = try sample([6, 2], seed: 3, low: -0.5, high: 0), beta = try sample([6, 2], seed: 4, low: 0)
    try checkGradients("convolution and delta_rule", inputs: inputs, step: 3e-3) {
      try deltaRule(
        try causalConvolution($0[0], weight: $0[1], segments: segments), decay: decay, beta: beta, shape)
    }
  }

  @Test func columnsThatAreNotTheShapesAreNamed() throws {
    let segments = try Tensor(ids: [0, 2], on: testBackend)
    let shape = DeltaRuleShape(keyHeads: 1, valueHeads: 1, keyDim: 3, valueDim: 2, segments: segments)
    let numbers = try sample([2, 1])
    #expect(throws: TensorError.self) { try deltaRule(try sample([2, 9]), decay: numbers, beta: numbers, shape) }
    #expect(throws: TensorError.self) {
      try causalConvolution(try sample([2, 9]), weight: try sample([8, 1, 2]), segments: segments)
    }
  }
}
