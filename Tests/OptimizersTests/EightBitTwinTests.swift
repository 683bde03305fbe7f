import CPUBackend
import Numerics
import Tensors
import Testing

/// The entry of an ascending map nearest to `s` by search; exact ties go to the even index.
private func nearest(_ s: Float, _ map: [Float]) -> UInt8 {
  let low = max(0, (map.firstIndex { $0 > s } ?? 256) - 1)
  guard low < 255 else { return 255 }
  let (below, above) = (Double(s) - Double(map[low]), Double(map[low + 1]) - Double(s))
  if below == above { return UInt8(low % 2 == 0 ? low : low + 1) }
  return UInt8(below < above ? low : low + 1)
}

/// 8-bit state against scalar twins, to the bit, on every instruction set.
@Suite struct EightBitTwinTests {
  static let backends = InstructionSet.allCases.filter(\.isSupported).map {
    CPUBackend(threadCount: 2, instructionSet: $0)
  }

  private func noise(_ count: Int, seed: UInt64) -> [Float] {
    var state = seed
    return (0..<count).map { _ in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      // Many binades, both signs, some zeros.
      let scale = Float(sign: .plus, exponent: -Int((state >> 20) % 24), significand: 1)
      return state >> 60 == 0 ? 0 : Float(Int64(bitPattern: state) >> 40) * 0x1p-23 * scale
    }
  }

  /// Every midpoint of the map with its neighbours, every entry, values below the smallest, and noise.
  private func probes(_ map: [Float]) -> [Float] {
    var values = map + [0, -0.0, 1, -1, .leastNonzeroMagnitude, -.leastNonzeroMagnitude, 1e-30, -1e-30]
    for (a, b) in zip(map, map.dropFirst()) {
      let middle = Float((Double(a) + Double(b)) / 2)
      values += [middle.nextDown.nextDown, middle.nextDown, middle, middle.nextUp, middle.nextUp.nextUp]
    }
    return values + noise(4000, seed: 5)
  }

  @Test func codesAreTheNearestEntries() throws {
    let x = [Float(1)] + probes(DynamicMap.signed).filter { $0.magnitude <= 1 }
    let wanted = x.map { nearest($0, DynamicMap.signed) }
    for backend in Self.backends {
      let codes = try Tensor(empty: [x.count], dtype: .u8, on: backend)
      let absmax = try Tensor(empty: [1], on: backend)
      try backend.quantize8(try Tensor(x, on: backend), blockSize: x.count, codes: codes, absmax: absmax)
      #expect(try absmax.floats() == [1])
      let got = try codes.integers().map { UInt8($0) }
      #expect(got == wanted, "\(backend.instructionSet) \(zip(x, zip(got, wanted)).first { $1.0 != $1.1 } as Any)")
    }
  }

  private struct State: Equatable {
    var parameter: [Float]
    var codes: [[UInt8]]
    var maxima: [[Float]]
  }

  /// One step of AdamW or Lion as written in bitsandbytes' blockwise kernels, element by element.
  private func twin(_ rule: OptimizerUpdate, _ gradient: [Float], _ state: State, step: Int) -> State {
    var next = state
    let isAdam = rule.kernel == .adamW8
    let c1 = Float(1 - Double.pow(Double(rule.beta1), step))
    let c2 = Float((1 - Double.pow(Double(rule.beta2), step)).squareRoot())
    for block in 0..<(gradient.count + 255) / 256 {
      let range = block * 256..<min(gradient.count, block * 256 + 256)
      var (m, v): ([Float], [Float]) = ([], [])
      for i in range {
        let g = gradient[i] * 0.5
        let old = DynamicMap.signed[Int(state.codes[0][i])] * state.maxima[0][block]
        let decayed = state.parameter[i] * (1 - rule.learningRate * rule.weightDecay)
        if isAdam {
          m.append(old * rule.beta1 + g * (1 - rule.beta1))
          let second = DynamicMap.unsigned[Int(state.codes[1][i])] * state.maxima[1][block]
          v.append(second * rule.beta2 + g * g * (1 - rule.beta2))
          let rate = rule.learningRate * c2 / c1
          next.parameter[i] = decayed - rate * m.last! / (v.last!.squareRoot() + rule.epsilon * c2)
        } else {
          let u = old * rule.beta1 + g * (1 - rule.beta1)
          next.parameter[i] = decayed - rule.learningRate * (u > 0 ? 1 : u < 0 ? -1 : 0)
          m.append(old * rule.beta2 + g * (1 - rule.beta2))
        }
      }
      let top = m.map(\.magnitude).max()!
      next.maxima[0][block] = top
      for (i, value) in zip(range, m) {
        var code = top > 0 ? nearest(value / top, DynamicMap.signed) : 0
        if value < 0, top > 0, code == 127 { code = 126 }
        next.codes[0][i] = code
      }
      guard isAdam else { continue }
      let second = v.max()!
      next.maxima[1][block] = second
      for (i, value) in zip(range, v) {
        next.codes[1][i] = second > 0 ? nearest(value / second, DynamicMap.unsigned) : 0
      }
    }
    return next
  }

  @Test(arguments: [OptimizerUpdate.Kernel.adamW8, .lion8], [1, 17, 256, 3 * 256 + 37])
  func stepsEqualTheTwin(kernel: OptimizerUpdate.Kernel, count: Int) throws {
    let update = OptimizerUpdate(
      kernel, learningRate: 0.01, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1)
    let blocks = (count + 255) / 256
    let arrays = kernel == .adamW8 ? 2 : 1
    for backend in Self.backends {
      let start = noise(count, seed: 3)
      var wanted = State(
        parameter: start, codes: Array(repeating: Array(repeating: 0, count: count), count: arrays),
        maxima: Array(repeating: Array(repeating: 0, count: blocks), count: arrays))
      let parameter = try Tensor(start, on: backend)
      let codes = try (0..<arrays).map { _ in try Tensor(full: [count], value: 0, dtype: .u8, on: backend) }
      let maxima = try (0..<arrays).map { _ in try Tensor(full: [blocks], value: 0, on: backend) }
      for step in 1...4 {
        // The second gradient is zero: a moment must not drift from rounding alone.
        let gradient = step == 2 ? Array(repeating: 0, count: count) : noise(count, seed: UInt64(10 + step))
        wanted = twin(update, gradient, wanted, step: step)
        try backend.update(
          update, parameter: parameter, gradient: try Tensor(gradient, on: backend),
          state: zip(codes, maxima).flatMap { [$0, $1] }, step: step, gradientScale: 0.5)
        let got = State(
          parameter: try parameter.floats(), codes: try codes.map { try $0.integers().map { UInt8($0) } },
          maxima: try maxima.map { try $0.floats() })
        #expect(got == wanted, "\(backend.instructionSet), step \(step)")
      }
    }
  }

  /// Every code as state, then moments at the midpoints of both maps and beside them, with both signs.
  @Test(arguments: [OptimizerUpdate.Kernel.adamW8, .lion8])
  func codesAndMidpointsEqualTheTwin(kernel: OptimizerUpdate.Kernel) throws {
    func values(_ map: [Float], _ gradient: (Double) -> Double) -> [Float] {
      zip(map, map.dropFirst()).flatMap { below, above in
        let middle = Float(gradient((Double(below) + Double(above)) / 2))
        return (-6...6).flatMap { steps in
          let near = Float(bitPattern: UInt32(Int(middle.bitPattern) + steps))
          return [near, -near]
        }
      }
    }
    // Gradients are halved; the square of a gradient is the second moment.
    let probes = values(DynamicMap.signed) { 2 * $0 } + values(DynamicMap.unsigned) { 2 * $0.squareRoot() }
    // The largest moment of each block is 1.
    let midpoints = probes.indices.map { $0 % 256 == 0 ? 2 : probes[$0] }
    let (count, blocks) = (midpoints.count, (midpoints.count + 255) / 256)
    let arrays = kernel == .adamW8 ? 2 : 1
    for backend in Self.backends {
      var wanted = State(
        parameter: Array(repeating: 0, count: count),
        codes: Array(repeating: (0..<count).map { UInt8($0 % 256) }, count: arrays),
        maxima: Array(repeating: Array(repeating: 1, count: blocks), count: arrays))
      let parameter = try Tensor(wanted.parameter, on: backend)
      let codes = try wanted.codes.map { bytes in
        let tensor = try Tensor(empty: [count], dtype: .u8, on: backend)
        try bytes.withUnsafeBytes { try tensor.write($0) }
        return tensor
      }
      let maxima = try wanted.maxima.map { try Tensor($0, on: backend) }
      for (step, beta) in zip(1..., [Float(0.9), 0]) {
        let update = OptimizerUpdate(
          kernel, learningRate: 0.01, beta1: beta, beta2: beta, epsilon: 1e-8, weightDecay: 0)
        let gradient = step == 1 ? Array(repeating: 0, count: count) : midpoints
        wanted = twin(update, gradient, wanted, step: step)
        try backend.update(
          update, parameter: parameter, gradient: try Tensor(gradient, on: backend),
          state: zip(codes, maxima).flatMap { [$0, $1] }, step: step, gradientScale: 0.5)
        let got = State(
          parameter: try parameter.floats(), codes: try codes.map { try $0.integers().map { UInt8($0) } },
          maxima: try maxima.map { try $0.floats() })
        #expect(got == wanted, "\(backend.instructionSet), step \(step)")
      }
    }
  }
}

extension Double {
  fileprivate static func pow(_ base: Double, _ exponent: Int) -> Double {
    (0..<exponent).reduce(1) { result, _ in result * base }
  }
}
