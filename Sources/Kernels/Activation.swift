import CPlatform

extension Kernels {
  /// Rotates pairs (i, i + half) of every head by the angle of the row's position; `sign` -1 turns back.
  @inline(never)
  static func rope(
    _ x: UnsafeMutableRawPointer, _ type: Int32, _ t: Int, _ heads: Int, _ headDim: Int, _ half: Int,
    _ cosine: UnsafePointer<Float>, _ sine: UnsafePointer<Float>, _ positions: UnsafePointer<Int32>, _ sign: Float
  ) {
    let size = type == 0 ? 4 : 2
    for row in 0..<t {
      let c = cosine + Int(positions[row]) &* half
      let s = sine + Int(positions[row]) &* half
      for head in 0..<heads {
        let base = x + (row &* heads &+ head) &* headDim &* size
        forEachVector(half) { j, rest in
          let a = element16(base, type, j, rest)
          let b = element16(base, type, half &+ j, rest)
          let cos16 = element16(c, 0, j, rest)
          let sin16 = element16(s, 0, j, rest) * splat(sign)
          putElement16(base, type, j, rest, a * cos16 - b * sin16)
          putElement16(base, type, half &+ j, rest, b * cos16 + a * sin16)
        }
      }
    }
  }

  /// y = a(gate) * up with a(g) = g sigmoid(z(g)); see `gateArgument`.
  @inline(never)
  static func gated(
    _ kind: Int32, _ gate: UnsafeRawPointer, _ up: UnsafeRawPointer, _ type: Int32, _ y: UnsafeMutableRawPointer,
    _ count: Int
  ) {
    // A function, because a closure of this size would not be inlined, and each vector would cost a call.
    @inline(always) func loop(_ type: Int32, _ kind: Int32) {
      @inline(always) func wide(_ i: Int) {
        let g = Vec64(gate, type, i)
        ((g * sigmoid(gateArgument(g, kind))).rounded(to: type) * Vec64(up, type, i)).store(y, type, i)
      }
      @inline(always) func step(_ i: Int, _ rest: Int) {
        let g = element16(gate, type, i, rest)
        var a = g * sigmoid(gateArgument(Vec64(repeating: g), kind)).a
        if type == 1 { a = mm_round_bf16(a) }
        putElement16(y, type, i, rest, a * element16(up, type, i, rest))
      }
      forEachFour(count, wide, step)
    }
    switch (type, kind) {
    case (0, 0): loop(0, 0)
    case (1, 0): loop(1, 0)
    case (_, 0): loop(2, 0)
    case (0, _): loop(0, 1)
    case (1, _): loop(1, 1)
    default: loop(2, 1)
    }
  }

  /// dGate = dy * up * s * (1 + g (1 - s) z'(g)), dUp = dy * g * s with s = sigmoid(z(g)).
  @inline(never)
  static func gatedBackward(
    _ kind: Int32, _ dy: UnsafeRawPointer, _ gate: UnsafeRawPointer, _ up: UnsafeRawPointer, _ type: Int32,
    _ dGate: UnsafeMutableRawPointer, _ dUp: UnsafeMutableRawPointer, _ count: Int
  ) {
    @inline(always) func loop(_ type: Int32, _ kind: Int32) {
      @inline(always) func wide(_ i: Int) {
        let d = Vec64(dy, type, i)
        let g = Vec64(gate, type, i)
        let s = sigmoid(gateArgument(g, kind))
        (d * g * s).store(dUp, type, i)
        (d * Vec64(up, type, i) * s * madd(scaledGate(g, kind), splat4(1) - s, splat4(1))).store(dGate, type, i)
      }
      @inline(always) func step(_ i: Int, _ rest: Int) {
        let d = element16(dy, type, i, rest)
        let g = element16(gate, type, i, rest)
        let u = element16(up, type, i, rest)
        let s = sigmoid(gateArgument(Vec64(repeating: g), kind)).a
        putElement16(dUp, type, i, rest, d * g * s)
        let slope = madd(scaledGate(Vec64(repeating: g), kind).a, splat(1) - s, splat(1))
        putElement16(dGate, type, i, rest, d * u * s * slope)
      }
      forEachFour(count, wide, step)
    }
    switch (type, kind) {
    case (0, 0): loop(0, 0)
    case (1, 0): loop(1, 0)
    case (_, 0): loop(2, 0)
    case (0, _): loop(0, 1)
    case (1, _): loop(1, 1)
    default: loop(2, 1)
    }
  }

  /// y = cap * tanh(x / cap), in place where y is x.
  @inline(never)
  static func softCap(
    _ x: UnsafePointer<Float>, _ cap: Float, _ y: UnsafeMutablePointer<Float>, _ count: Int
  ) {
    let inverse = splat(1 / cap)
    @inline(always) func step(_ i: Int, _ rest: Int) {
      putElement16(y, 0, i, rest, tanhVector(element16(x, 0, i, rest) * inverse) * splat(cap))
    }
    forEachVector(count, step)
  }

  /// dx = dy * (1 - (y / cap)^2) with y the result of `softCap`.
  @inline(never)
  static func softCapBackward(
    _ dy: UnsafePointer<Float>, _ y: UnsafePointer<Float>, _ cap: Float, _ dx: UnsafeMutablePointer<Float>,
    _ count: Int
  ) {
    let inverse = splat(1 / cap)
    @inline(always) func step(_ i: Int, _ rest: Int) {
      let t = element16(y, 0, i, rest) * inverse
      putElement16(dx, 0, i, rest, element16(dy, 0, i, rest) * (splat(1) - t * t))
    }
    forEachVector(count, step)
  }
}

// 2 sqrt(2 / pi), and 0.044715 times that: the tanh form of GELU (Hendrycks and Gimpel 2016) is
// g (1 + tanh(z / 2)) / 2 = g sigmoid(z) with z = 2 sqrt(2 / pi) (g + 0.044715 g^3).
private let geluLinear: Float = 1.595_769_12
private let geluCubic: Float = 0.071_354_816

/// z(g) of the gate a(g) = g sigmoid(z(g)): kind 0 is SiLU with z = g, kind 1 the tanh form of GELU.
@inline(always)
private func gateArgument(_ g: Vec64, _ kind: Int32) -> Vec64 {
  kind == 0 ? g : g * madd(g * g, splat4(geluCubic), splat4(geluLinear))
}

/// g z'(g)
@inline(always)
private func scaledGate(_ g: Vec64, _ kind: Int32) -> Vec64 {
  kind == 0 ? g : g * madd(g * g, splat4(3 * geluCubic), splat4(geluLinear))
}
