import CPUBackend
import Tensors
import Testing

/// The kernels of recurrent layers on every instruction set against the default forms, which go token by token.
@Suite struct RecurrentTests {
  private let sets = InstructionSet.allCases.filter(\.isSupported)

  private func random(
    _ shape: [Int], _ seed: UInt64, low: Double = -1, high: Double = 1, _ dtype: DType = .f32, on backend: any Backend
  ) throws -> Tensor {
    let tensor = try Tensor(empty: shape, on: backend)
    try backend.fillUniform(tensor, low: low, high: high, stream: RandomStream(seed: seed, stream: 1))
    return try tensor.converted(to: dtype)
  }

  /// Compares every instruction set with the definition, and the bits of one to three threads.
  private func compare(
    _ tolerance: Float, _ body: (any Backend) throws -> [Tensor], sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let wanted = try body(HandleBackend()).map { try $0.floats() }
    for set in sets {
      var bits: [[UInt32]]?
      for threads in 1...3 {
        let got = try body(CPUBackend(threadCount: threads, instructionSet: set)).map { try $0.floats() }
        for (index, (a, b)) in zip(got, wanted).enumerated() {
          let scale = max(1e-3, b.map(\.magnitude).max() ?? 1)
          let worst = zip(a, b).reduce(Float(0)) { max($0, abs($1.0 - $1.1)) }
          #expect(
            a.count == b.count && a.allSatisfy(\.isFinite) && worst <= tolerance * scale,
            "\(set), result \(index): \(worst) of \(scale)", sourceLocation: sourceLocation)
        }
        let now = got.map { $0.map(\.bitPattern) }
        if let bits { #expect(bits == now, "\(set): \(threads) threads", sourceLocation: sourceLocation) }
        bits = now
      }
    }
  }

  @Test(arguments: [1, 2, 4, 7], [1, 15, 16, 77]) func convolution(taps: Int, channels: Int) throws {
    for (dtype, tolerance) in [(DType.f32, Float(1e-5)), (.bf16, 0.01)] {
      try compare(tolerance) { backend in
        let rows = 71
        let segments = try Tensor(ids: [0, 1, 1, 35, 71], on: backend)
        let x = try random([rows, channels], 1, dtype, on: backend)
        let dy = try random([rows, channels], 2, dtype, on: backend)
        let weight = try random([taps, channels], 3, on: backend)
        let (y, dx) = (try Tensor(empty: x.shape, dtype: dtype, on: backend), try x.copied())
        let dWeight = try random([taps, channels], 4, on: backend)
        try backend.causalConvolution(x, weight: weight, segments: segments, into: y)
        try backend.causalConvolutionBackward(dy, x, weight: weight, segments: segments, dx: dx, dWeight: dWeight)
        let alone = try x.copied()
        try backend.causalConvolutionBackward(dy, x, weight: weight, segments: segments, dx: alone, dWeight: nil)
        #expect(try alone.floats() == dx.floats())
        return [y, dx, dWeight]
      }
    }
  }

  struct Heads: Sendable { var keys, values, keyDim, valueDim: Int }

  @Test(
    arguments: [
      Heads(keys: 1, values: 1, keyDim: 1, valueDim: 1), Heads(keys: 2, values: 4, keyDim: 12, valueDim: 20),
      Heads(keys: 1, values: 3, keyDim: 16, valueDim: 16), Heads(keys: 2, values: 2, keyDim: 33, valueDim: 47),
    ], [[0, 1], [0, 63], [0, 64], [0, 65, 66], [0, 5, 5, 155]])
  func deltaRule(heads: Heads, borders: [Int]) throws {
    for (dtype, tolerance) in [(DType.f32, Float(3e-5)), (.bf16, 0.02)] {
      try compare(tolerance) { backend in
        let tokens = borders.last ?? 0
        let shape = DeltaRuleShape(
          keyHeads: heads.keys, valueHeads: heads.values, keyDim: heads.keyDim, valueDim: heads.valueDim,
          segments: try Tensor(ids: borders.map { Int32($0) }, on: backend))
        let x = try random([tokens, shape.width], 1, dtype, on: backend)
        let dOut = try random([tokens, shape.valueWidth], 2, dtype, on: backend)
        // From heads that keep to such that forget at once.
        let decay = try random([tokens, heads.values], 3, low: -0.3, high: 0, on: backend)
        let beta = try random([tokens, heads.values], 4, low: 0, high: 1, on: backend)
        let out = try Tensor(empty: dOut.shape, dtype: dtype, on: backend)
        let (dx, dDecay, dBeta) = (try x.copied(), try decay.copied(), try beta.copied())
        try backend.deltaRule(x, decay: decay, beta: beta, shape, state: nil, into: out)
        try backend.deltaRuleBackward(
          dOut, x, decay: decay, beta: beta, shape, dx: dx, dDecay: dDecay, dBeta: dBeta)
        return [out, dx, dDecay, dBeta]
      }
    }
  }

  /// Pieces that hand the state on give what the whole gives; decays so strong that they are 0 in f32 too.
  @Test(arguments: [Double(-0.2), -200]) func aStateGoesOn(strongest: Double) throws {
    try compare(3e-5) { backend in
      let tokens = 131, whole = try Tensor(ids: [0, 131], on: backend)
      func shape(_ segments: Tensor) -> DeltaRuleShape {
        DeltaRuleShape(keyHeads: 2, valueHeads: 4, keyDim: 12, valueDim: 20, segments: segments)
      }
      let x = try random([tokens, shape(whole).width], 1, on: backend)
      let decay = try random([tokens, 4], 3, low: strongest, high: 0, on: backend)
      let beta = try random([tokens, 4], 4, low: 0, high: 1, on: backend)
      let (state, other) = (
        try Tensor(full: [4, 12, 20], value: 0, on: backend), try random([4, 12, 20], 9, on: backend)
      )
      let out = try Tensor(empty: [tokens, 80], on: backend)
      var start = 0
      for count in [1, 64, 3, 63] {
        let rows = start..<start + count
        try backend.deltaRule(
          try x.narrowed(0, rows), decay: try decay.narrowed(0, rows), beta: try beta.narrowed(0, rows),
          shape(try Tensor(ids: [0, Int32(count)], on: backend)), state: state, into: try out.narrowed(0, rows))
        start += count
      }
      let again = try Tensor(empty: out.shape, on: backend)
      try backend.deltaRule(x, decay: decay, beta: beta, shape(whole), state: nil, into: again)
      let worst = zip(try out.floats(), try again.floats()).map { abs($0 - $1) }.max() ?? 0
      #expect(worst < 1e-5)
      try backend.deltaRule(x, decay: decay, beta: beta, shape(whole), state: other, into: again)
      return [out, state, other, again]
    }
  }
}
