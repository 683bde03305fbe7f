import CPUBackend
import Tensors

extension Passes {
  /// The gated delta rule in GFLOP/s: three products with the state of each head, and those with half of the 64 tokens
  /// of its chunk; the backward pass goes forward for the states, then takes seven for the three. The convolution in
  /// GB/s.
  func runRecurrent() throws {
    for (keyHeads, valueHeads, tokens) in [(16, 16, 512), (16, 32, 512), (16, 32, 2048)] {
      for dtype in [DType.bf16, .f32] {
        let name = "delta rule \(dtype.name) \(keyHeads)/\(valueHeads) heads, \(tokens) tokens"
        guard bench.wants(name) else { continue }
        let segments = try Tensor(ids: [0, Int32(tokens)], on: bench.backend)
        let shape = DeltaRuleShape(
          keyHeads: keyHeads, valueHeads: valueHeads, keyDim: 128, valueDim: 128, segments: segments)
        let (x, dx) = (try bench.tensor([tokens, shape.width], dtype), try bench.tensor([tokens, shape.width], dtype))
        let out = try bench.tensor([tokens, shape.valueWidth], dtype)
        let decay = try Tensor(full: [tokens, valueHeads], value: -0.1, on: bench.backend)
        let beta = try Tensor(full: [tokens, valueHeads], value: 0.5, on: bench.backend)
        let (dDecay, dBeta) = (try decay.copied(), try beta.copied())
        let each = 1e-9 * Double(tokens * valueHeads * 128)
        let (once, limit) = (each * (6 * 128 + 192), limits.floatGFLOPS)
        try bench.row(name + " forward", work: once, unit: "GFLOP/s", limit: limit) {
          try bench.backend.deltaRule(x, decay: decay, beta: beta, shape, state: nil, into: out)
        }
        try bench.row(name + " backward", work: 3.3 * once, unit: "GFLOP/s", limit: limit) {
          try bench.backend.deltaRuleBackward(
            out, x, decay: decay, beta: beta, shape, dx: dx, dDecay: dDecay, dBeta: dBeta)
        }
        let weight = try bench.tensor([4, shape.width])
        try bench.row(
          "convolution \(dtype.name) \(shape.width) channels, \(tokens) tokens", work: 2e-9 * Double(x.byteCount),
          unit: "GB/s"
        ) { try bench.backend.causalConvolution(x, weight: weight, segments: segments, into: dx) }
      }
    }
  }
}
