import Autograd
import CPUBackend
import Quantization
import Tensors
import Testing

/// The default forms, which `HandleBackend` inherits, against the fused ones of the CPU.
@Suite struct ComposedTests {
  let backends: [any Backend] = [HandleBackend(), CPUBackend(threadCount: 2)]

  private func random(_ shape: [Int], _ seed: UInt64, on backend: any Backend) throws -> Tensor {
    let tensor = try Tensor(empty: shape, on: backend)
    try backend.fillUniform(tensor, low: -1, high: 1, stream: RandomStream(seed: seed, stream: 1))
    return tensor
  }

  /// Runs on both devices; every result must agree.
  private func compare(_ tolerance: Float = 2e-5, _ body: (any Backend) throws -> [Tensor]) throws {
    let results = try backends.map { try body($0).map { try $0.floats() } }
    for (index, (got, wanted)) in zip(results[0], results[1]).enumerated() {
      let scale = max(1, wanted.map(\.magnitude).max() ?? 1)
      let worst = zip(got, wanted).reduce(Float(0)) { max($0, abs($1.0 - $1.1)) }
      #expect(
        got.count == wanted.count && got.allSatisfy(\.isFinite) && worst <= tolerance * scale, "\(index): \(worst)")
    }
  }

  /// Products of views, which go to the device as they are, and their gradients.
  @Test func productsOfViews() throws {
    try compare { backend in
      let (x, w) = (try random([9, 33], 1, on: backend), try random([21, 40], 2, on: backend))
      for input in [x, w] { input.requiresGradient = true }
      let y = try matmul(x, try transpose(try narrow(w, 1, 3..<36), 0, 1))
      let z = try matmul(try transpose(y, 0, 1), try narrow(x, 1, 2..<20))
      try reduce(.sum, try binary(.multiply, z, z)).backward()
      return [y, z, try #require(x.gradient), try #require(w.gradient)]
    }
  }

  /// Three layers of which one is in 4 bits, one has a branch whose h is given, and one has none.
  @Test(arguments: [5, 40]) func linear(tokens: Int) throws {
    try compare { backend in
      let (width, rank, outs) = (64, 4, [48, 32, 80])
      let x = try random([tokens, width], 1, on: backend)
      let weights = try outs.enumerated().map { try random([$1, width], UInt64(10 + $0), on: backend) }
      let quantized = try FourBit.quantize(weights[1], kind: .nf4, double: true, name: "w")
      let layers = try outs.enumerated().map { index, out -> LinearOperands in
        let weight: LinearWeight = index == 1 ? .quantized(quantized) : .dense(weights[index])
        guard index < 2 else { return LinearOperands(weight: weight) }
        return LinearOperands(
          weight: weight,
          lowRank: LowRank(
            a: try random([rank, width], UInt64(20 + index), on: backend),
            b: try random([out, rank], UInt64(30 + index), on: backend), scaling: 0.5
          ))
      }
      let outputs = try outs.enumerated().map { index, out in
        LinearOutput(
          y: try random([tokens, out], UInt64(40 + index), on: backend), addsToOld: index == 2,
          low: index == 2 ? nil : try random([tokens, rank], UInt64(50 + index), on: backend), lowIsGiven: index == 1)
      }
      try backend.linear(x, layers, into: outputs, precision: .f32)
      let dLow = try random([tokens, 2 * rank], 60, on: backend)
      let gradients = try outs.enumerated().map { index, out in
        LinearGradient(
          dy: try random([tokens, out], UInt64(70 + index), on: backend),
          dLow: index == 2 ? nil : try dLow.narrowed(1, index * rank..<(index + 1) * rank), reachesInput: index == 0)
      }
      let dx = try Tensor(empty: [tokens, width], on: backend)
      try backend.linearBackward(gradients, layers, into: dx, precision: .f32)
      return outputs.map(\.y) + outputs.compactMap(\.low) + [dx, dLow]
    }
  }

  @Test func dotsOfChosenRows() throws {
    try compare { backend in
      let (table, rows) = (try random([5, 48], 1, on: backend), try random([7, 48], 2, on: backend))
      let dots = try Tensor(empty: [7], on: backend)
      try backend.embeddingDots(table, ids: try Tensor(ids: [4, 0, 1, 1, 3, 4, 2], on: backend), rows, into: dots)
      return [dots]
    }
  }

  @Test func normsGatesAndSoftmax() throws {
    try compare { backend in
      let (x, dy) = (try random([7, 48], 1, on: backend), try random([7, 48], 2, on: backend))
      let weight = try random([48], 3, on: backend)
      let (y, rstd) = (try Tensor(empty: x.shape, on: backend), try Tensor(empty: [7], on: backend))
      try backend.rmsNorm(x, weight: weight, offset: 1, epsilon: 1e-5, into: y, rstd: rstd)
      let (dx, dWeight) = (try random(x.shape, 4, on: backend), try random([48], 5, on: backend))
      try backend.rmsNormBackward(
        dy, x, weight: weight, offset: 1, rstd: rstd, into: dx, accumulate: true, dWeight: dWeight)
      var results = [y, rstd, dx, dWeight]
      for activation in Activation.allCases {
        let made = try (0..<3).map { _ in try Tensor(empty: x.shape, on: backend) }
        try backend.gated(activation, gate: x, up: dy, into: made[0])
        try backend.gatedBackward(activation, y, gate: x, up: dy, dGate: made[1], dUp: made[2])
        results += made
        let plain = try (0..<2).map { _ in try Tensor(empty: x.shape, on: backend) }
        try backend.activated(activation, x, into: plain[0])
        try backend.activatedBackward(activation, dy, x, into: plain[1])
        results += plain
      }
      let (mean, centred) = (try Tensor(empty: [7], on: backend), try Tensor(empty: x.shape, on: backend))
      let (deviations, slopes) = (try Tensor(empty: [7], on: backend), try Tensor(empty: x.shape, on: backend))
      let sums = try Tensor(empty: [2, 48], on: backend)
      let bias = try random([48], 6, on: backend)
      try backend.layerNorm(x, weight: weight, bias: bias, epsilon: 1e-5, into: centred, mean: mean, rstd: deviations)
      try backend.layerNormBackward(dy, x, weight: weight, mean: mean, rstd: deviations, into: slopes, sums: sums)
      results += [centred, mean, deviations, slopes, sums]
      for logarithm in [false, true] {
        let made = try (0..<2).map { _ in try Tensor(empty: x.shape, on: backend) }
        try backend.softmax(x, into: made[0], logarithm: logarithm)
        try backend.softmaxBackward(dy, made[0], into: made[1], logarithm: logarithm)
        results += made
      }
      let made = try (0..<2).map { _ in try Tensor(empty: x.shape, on: backend) }
      try backend.softCap(x, 0.7, into: made[0])
      try backend.softCapBackward(dy, made[0], 0.7, into: made[1])
      let scaled = try dy.copied()
      try backend.scale(scaled, by: try Tensor([0.3], on: backend))
      return results + made + [scaled]
    }
  }

  /// In bf16 the factor before the last product is rounded on every device, so that results differ by the last bit of
  /// few elements, where the arithmetic before them did.
  @Test(arguments: [Float(0), 1]) func normsAndGatesRoundAlike(offset: Float) throws {
    let results = try backends.map { backend -> [[Float]] in
      let (x, up) = (try random([64, 96], 1, on: backend), try random([64, 96], 2, on: backend))
      let (rows, ups) = (try x.converted(to: .bf16), try up.converted(to: .bf16))
      let weight = try random([96], 3, on: backend).converted(to: .bf16)
      let y = try Tensor(empty: x.shape, dtype: .bf16, on: backend)
      let rstd = try Tensor(empty: [64], on: backend)
      try backend.rmsNorm(rows, weight: weight, offset: offset, epsilon: 1e-5, into: y, rstd: rstd)
      return [try y.floats()]
        + (try Activation.allCases.map { activation in
          let y = try Tensor(empty: x.shape, dtype: .bf16, on: backend)
          try backend.gated(activation, gate: rows, up: ups, into: y)
          return try y.floats()
        })
    }
    for (got, wanted) in zip(results[0], results[1]) {
      let differing = zip(got, wanted).filter { $0 != $1 }.count
      #expect(differing * 100 <= got.count, "\(differing) of \(got.count) elements differ")
    }
  }

  @Test(arguments: [0, 3], [Float(0), 0.8]) func attention(window: Int, softCap: Float) throws {
    try compare { backend in
      let (heads, kvHeads, headDim, tokens) = (4, 2, 16, 13)
      let sinks = softCap > 0 ? try random([heads], 9, on: backend) : nil
      let shape = AttentionShape(
        heads: heads, kvHeads: kvHeads, headDim: headDim, segments: try Tensor(ids: [0, 5, 13], on: backend),
        window: window, softCap: softCap, sinks: sinks)
      let (wide, narrow) = ([tokens, heads * headDim], [tokens, kvHeads * headDim])
      let (q, dOut) = (try random(wide, 1, on: backend), try random(wide, 2, on: backend))
      let (k, v) = (try random(narrow, 3, on: backend), try random(narrow, 4, on: backend))
      let (out, lse) = (try Tensor(empty: wide, on: backend), try Tensor(empty: [heads, tokens], on: backend))
      try backend.attention(q, k, v, shape, into: out, lse: lse)
      let (dq, dk) = (try Tensor(empty: wide, on: backend), try Tensor(empty: narrow, on: backend))
      let dv = try Tensor(empty: narrow, on: backend)
      try backend.attentionBackward(dOut, q, k, v, out: out, lse: lse, shape, dq: dq, dk: dk, dv: dv)
      let cached = try Tensor(empty: [3, heads * headDim], on: backend)
      try backend.cachedAttention(
        try q.narrowed(0, 0..<3), keys: try k.viewed([tokens, kvHeads, headDim]),
        values: try v.viewed([tokens, kvHeads, headDim]), length: 9, start: 6, shape, into: cached)
      return [out, lse, dq, dk, dv, cached]
    }
  }

  @Test func tensorsOfTwoDevicesDoNotMix() throws {
    let (a, b) = (try random([2, 2], 1, on: backends[0]), try random([2, 2], 2, on: backends[1]))
    #expect(throws: TensorError.otherDevice(operation: "add", lhs: "handles", rhs: "cpu")) {
      try a.backend(for: "add", with: b)
    }
    #expect(throws: TensorError.unsupported(device: "handles", operation: "another number of threads")) {
      try backends[0].setThreadCount(2)
    }
  }
}
