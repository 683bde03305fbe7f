import Tensors
import Testing

@testable import Autograd

private let stream = RandomStream(seed: 7, purpose: "test")

@Suite struct DecoderRuleTests {
  @Test func linearWithBiasAndBranch() throws {
    let x = try sample([5, 6])
    let weight = try sample([4, 6], seed: 2)
    let inputs = [x, weight, try sample([4], seed: 3), try sample([2, 6], seed: 4), try sample([4, 2], seed: 5)]
    for dropout in [Float(0), 0.4] {
      try checkGradients("linear, dropout \(dropout)", inputs: inputs) {
        try linear(
          $0[0], .dense($0[1]), bias: $0[2],
          branch: LowRank(a: $0[3], b: $0[4], scaling: 0.5, dropout: dropout, stream: stream), precision: .f32)
      }
    }
  }

  @Test func normalisationActivationAndResidual() throws {
    let x = try sample([4, 8])
    try checkGradients("rms_norm", inputs: [x, try sample([8], seed: 2, low: 0.5, high: 1.5)]) {
      try rmsNorm($0[0], weight: $0[1], epsilon: 1e-5)
    }
    try checkGradients("rms_norm with offset", inputs: [x, try sample([8], seed: 2, low: -0.5, high: 0.5)]) {
      try rmsNorm($0[0], weight: $0[1], offset: 1, epsilon: 1e-5)
    }
    for activation in Activation.allCases {
      try checkGradients("gated \(activation)", inputs: [x, try sample([4, 8], seed: 3)]) {
        try gated(activation, gate: $0[0], up: $0[1])
      }
    }
    try checkGradients("residual", inputs: [x, try sample([4, 8], seed: 4)]) {
      try addResidual(inPlace: try unary(.square, $0[0]), $0[1])
    }
  }

  /// Rows beyond the routing's would be read from, and added to, whatever lies there.
  @Test func partsOfExpertsHaveTheRowsOfTheRouting() throws {
    let routing = try Routing(sample([3, 4]), perToken: 2, normalizes: true)
    let parts = try splitRows(sample([6, 8], seed: 2), routing.counts)
    #expect(try routing.combined(parts, tokens: 3).shape == [3, 8])
    #expect(throws: TensorError.badIndex(operation: "experts", index: 7, count: 6)) {
      try routing.combined(parts + [sample([1, 8])], tokens: 3)
    }
    let rounded = try parts.enumerated().map { try $0 == 0 ? $1 : $1?.converted(to: .bf16) }
    #expect(throws: TensorError.self) { try routing.combined(rounded, tokens: 3) }
  }

  @Test func rotaryEmbedding() throws {
    let (heads, headDim, tokens) = (2, 4, 3)
    let angles = (0..<tokens * headDim / 2).map { Float($0) * 0.3 }
    let cosine = try unary(.cos, try Tensor(angles, shape: [tokens, headDim / 2], on: testBackend))
    let sine = try unary(.sin, try Tensor(angles, shape: [tokens, headDim / 2], on: testBackend))
    let positions = try Tensor(ids: [0, 2, 1], on: testBackend)
    try checkGradients("rope", inputs: [try sample([tokens, heads * headDim])]) {
      try rope(
        inPlace: try unary(.square, $0[0]), heads: heads, headDim: headDim, cosine: cosine, sine: sine,
        positions: positions)
    }
  }

  @Test(arguments: [0, 2])
  func attentionOverPackedSequencesAndWindows(window: Int) throws {
    let segments = try Tensor(ids: [0, 3, 7], on: testBackend)
    let shape = AttentionShape(heads: 4, kvHeads: 2, headDim: 8, segments: segments, window: window)
    let inputs = [try sample([7, 32]), try sample([7, 16], seed: 2), try sample([7, 16], seed: 3)]
    try checkGradients("attention", inputs: inputs) { try attention($0[0], $0[1], $0[2], shape) }
    try checkGradients("attention with cap and sinks", inputs: inputs + [try sample([4], seed: 4)]) {
      let shape = AttentionShape(
        heads: 4, kvHeads: 2, headDim: 8, segments: segments, window: window, softCap: 2, sinks: $0[3])
      return try attention($0[0], $0[1], $0[2], shape)
    }
  }

  @Test func embeddingAndBothCrossEntropies() throws {
    let ids = try Tensor(ids: [2, 0, 2], on: testBackend)
    try checkGradients("embedding", inputs: [try sample([4, 3])]) { try embedding($0[0], ids: ids, dtype: .f32) }
    let labels = try Tensor(ids: [1, -100, 4], on: testBackend)
    try checkGradients("cross_entropy", inputs: [try sample([3, 5])]) {
      try crossEntropy($0[0], labels: labels, scale: 0.5)
    }
    try checkGradients("linear_cross_entropy", inputs: [try sample([3, 6]), try sample([5, 6], seed: 2)]) {
      try linearCrossEntropy($0[0], head: .dense($0[1]), labels: labels, scale: 0.5, precision: .f32)
    }
    try checkGradients("capped linear_cross_entropy", inputs: [try sample([3, 6]), try sample([5, 6], seed: 2)]) {
      try linearCrossEntropy($0[0], head: .dense($0[1]), labels: labels, scale: 0.5, softCap: 1.5, precision: .f32)
    }
  }

  @Test func checkpointingGivesTheSameBits() throws {
    let weight = try sample([8, 8], seed: 2)
    let a = try sample([2, 8], seed: 3)
    let b = try sample([8, 2], seed: 4)
    func run(_ checkpoint: Bool) throws -> [[Float]] {
      let x = try sample([5, 8])
      for leaf in [x, a, b] {
        leaf.requiresGradient = true
        leaf.gradient = nil
      }
      let body: (Tensor) throws -> Tensor = {
        let branch = LowRank(a: a, b: b, scaling: 1, dropout: 0.5, stream: stream)
        return try unary(.tanh, try linear($0, .dense(weight), branch: branch, precision: .f32))
      }
      let y = try checkpoint ? checkpointed(try body(x), body) : body(try body(x))
      try reduce(.sum, try binary(.multiply, y, y)).backward()
      return try [x, a, b].map { try #require($0.gradient).floats() }
    }
    #expect(try run(true) == run(false))
  }
}
