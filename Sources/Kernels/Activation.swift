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

  /// y = a(gate) * up with a(g) = g f(g); see `factor`, `bounded` and `partner`.
  @inline(never)
  static func gated(
    _ kind: Int32, _ gate: UnsafeRawPointer, _ up: UnsafeRawPointer, _ type: Int32, _ y: UnsafeMutableRawPointer,
    _ count: Int
  ) {
    // A function, because a closure of this size would not be inlined, and each vector would cost a call.
    @inline(always) func loop(_ type: Int32, _ kind: Int32) {
      @inline(always) func wide(_ i: Int) {
        let g = bounded(Vec64(gate, type, i), kind)
        (value(g, factor(g, kind), kind).rounded(to: type) * partner(Vec64(up, type, i), kind)).store(y, type, i)
      }
      @inline(always) func step(_ i: Int, _ rest: Int) {
        let g = bounded(Vec64(repeating: element16(gate, type, i, rest)), kind)
        var a = value(g, factor(g, kind), kind).a
        if type == 1 { a = mm_round_bf16(a) }
        putElement16(y, type, i, rest, a * partner(Vec64(repeating: element16(up, type, i, rest)), kind).a)
      }
      forEachFour(count, wide, step)
    }
    switch (type, kind) {
    case (0, 0): loop(0, 0)
    case (1, 0): loop(1, 0)
    case (_, 0): loop(2, 0)
    case (0, 1): loop(0, 1)
    case (1, 1): loop(1, 1)
    case (_, 1): loop(2, 1)
    case (0, 2): loop(0, 2)
    case (1, 2): loop(1, 2)
    case (_, 2): loop(2, 2)
    case (0, 3): loop(0, 3)
    case (1, 3): loop(1, 3)
    case (_, 3): loop(2, 3)
    case (0, _): loop(0, 4)
    case (1, _): loop(1, 4)
    default: loop(2, 4)
    }
  }

  /// dGate = dy * up * a'(g), dUp = dy * a(g); 0 where kind 4 bounds them.
  @inline(never)
  static func gatedBackward(
    _ kind: Int32, _ dy: UnsafeRawPointer, _ gate: UnsafeRawPointer, _ up: UnsafeRawPointer, _ type: Int32,
    _ dGate: UnsafeMutableRawPointer, _ dUp: UnsafeMutableRawPointer, _ count: Int
  ) {
    @inline(always) func loop(_ type: Int32, _ kind: Int32) {
      @inline(always) func wide(_ i: Int) {
        let d = Vec64(dy, type, i)
        let whole = Vec64(gate, type, i)
        let g = bounded(whole, kind)
        let u = Vec64(up, type, i)
        let f = factor(g, kind)
        cut((kind == 3 ? d : d * g) * f, u, lower: -bound, kind).store(dUp, type, i)
        cut(timesSlope(d * partner(u, kind), g, f, kind), whole, lower: -.infinity, kind).store(dGate, type, i)
      }
      @inline(always) func step(_ i: Int, _ rest: Int) {
        let d = Vec64(repeating: element16(dy, type, i, rest))
        let whole = Vec64(repeating: element16(gate, type, i, rest))
        let g = bounded(whole, kind)
        let u = Vec64(repeating: element16(up, type, i, rest))
        let f = factor(g, kind)
        putElement16(dUp, type, i, rest, cut((kind == 3 ? d : d * g) * f, u, lower: -bound, kind).a)
        let slope = timesSlope(d * partner(u, kind), g, f, kind)
        putElement16(dGate, type, i, rest, cut(slope, whole, lower: -.infinity, kind).a)
      }
      forEachFour(count, wide, step)
    }
    switch (type, kind) {
    case (0, 0): loop(0, 0)
    case (1, 0): loop(1, 0)
    case (_, 0): loop(2, 0)
    case (0, 1): loop(0, 1)
    case (1, 1): loop(1, 1)
    case (_, 1): loop(2, 1)
    case (0, 2): loop(0, 2)
    case (1, 2): loop(1, 2)
    case (_, 2): loop(2, 2)
    case (0, 3): loop(0, 3)
    case (1, 3): loop(1, 3)
    case (_, 3): loop(2, 3)
    case (0, _): loop(0, 4)
    case (1, _): loop(1, 4)
    default: loop(2, 4)
    }
  }

  /// y = a(x) with a(g) = g f(g); see `factor`.
  @inline(never)
  static func activated(
    _ kind: Int32, _ x: UnsafeRawPointer, _ type: Int32, _ y: UnsafeMutableRawPointer, _ count: Int
  ) {
    @inline(always) func loop(_ kind: Int32) {
      @inline(always) func step(_ i: Int, _ rest: Int) {
        let g = element16(x, type, i, rest)
        putElement16(y, type, i, rest, value(Vec64(repeating: g), factor(Vec64(repeating: g), kind), kind).a)
      }
      @inline(always) func wide(_ i: Int) {
        let g = Vec64(x, type, i)
        value(g, factor(g, kind), kind).store(y, type, i)
      }
      forEachFour(count, wide, step)
    }
    switch kind {
    case 0: loop(0)
    case 1: loop(1)
    case 2: loop(2)
    case 3: loop(3)
    default: loop(4)
    }
  }

  /// dx = dy * a'(x).
  @inline(never)
  static func activatedBackward(
    _ kind: Int32, _ dy: UnsafeRawPointer, _ x: UnsafeRawPointer, _ type: Int32, _ dx: UnsafeMutableRawPointer,
    _ count: Int
  ) {
    @inline(always) func loop(_ kind: Int32) {
      @inline(always) func step(_ i: Int, _ rest: Int) {
        let (d, g) = (Vec64(repeating: element16(dy, type, i, rest)), Vec64(repeating: element16(x, type, i, rest)))
        putElement16(dx, type, i, rest, timesSlope(d, g, factor(g, kind), kind).a)
      }
      @inline(always) func wide(_ i: Int) {
        let g = Vec64(x, type, i)
        timesSlope(Vec64(dy, type, i), g, factor(g, kind), kind).store(dx, type, i)
      }
      forEachFour(count, wide, step)
    }
    switch kind {
    case 0: loop(0)
    case 1: loop(1)
    case 2: loop(2)
    case 3: loop(3)
    default: loop(4)
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

// Of kind 4: what gate and partner are bounded by, and the factor in its sigmoid.
private let bound: Float = 7
private let gain: Float = 1.702

/// What the activation sees of a gate: kind 4 bounds it from above.
@inline(always)
private func bounded(_ g: Vec64, _ kind: Int32) -> Vec64 {
  @inline(always) func smaller(_ x: Vec16) -> Vec16 { x.replacing(with: bound, where: x .> splat(bound)) }
  return kind == 4 ? Vec64(smaller(g.a), smaller(g.b), smaller(g.c), smaller(g.d)) : g
}

/// What an activated gate multiplies: kind 4 bounds it on both sides and adds 1.
@inline(always)
private func partner(_ u: Vec64, _ kind: Int32) -> Vec64 {
  @inline(always) func inside(_ x: Vec16) -> Vec16 {
    x.replacing(with: bound, where: x .> splat(bound)).replacing(with: -bound, where: x .< splat(-bound))
  }
  return kind == 4 ? Vec64(inside(u.a), inside(u.b), inside(u.c), inside(u.d)) + splat4(1) : u
}

/// A gradient, of kind 4 without the elements whose x is bounded.
@inline(always)
private func cut(_ d: Vec64, _ x: Vec64, lower: Float, _ kind: Int32) -> Vec64 {
  @inline(always) func kept(_ d: Vec16, _ x: Vec16) -> Vec16 {
    d.replacing(with: 0, where: x .> splat(bound)).replacing(with: 0, where: x .< splat(lower))
  }
  return kind == 4 ? Vec64(kept(d.a, x.a), kept(d.b, x.b), kept(d.c, x.c), kept(d.d, x.d)) : d
}

/// a(g) with f = f(g): g f, and of kind 3, the sigmoid, f itself.
@inline(always)
private func value(_ g: Vec64, _ f: Vec64, _ kind: Int32) -> Vec64 { kind == 3 ? f : g * f }

/// f of an activation a(g) = g f(g): sigmoid(z(g)), see `gateArgument`, but kind 2 is GELU itself, with the
/// normal distribution.
@inline(always)
private func factor(_ g: Vec64, _ kind: Int32) -> Vec64 {
  kind == 2 ? normalDistribution(g) : sigmoid(gateArgument(g, kind))
}

/// y a'(g) with f = f(g): f (1 + g (1 - f) z'(g)), for kind 2 f + g exp(-g^2 / 2) / sqrt(2 pi), for kind 3 f (1 - f).
@inline(always)
private func timesSlope(_ y: Vec64, _ g: Vec64, _ f: Vec64, _ kind: Int32) -> Vec64 {
  if kind == 3 { return y * f * (splat4(1) - f) }
  return kind == 2
    ? y * madd(g, expVector(g * g * splat4(-0.5)) * splat4(0.398_942_28), f)
    : y * f * madd(scaledGate(g, kind), splat4(1) - f, splat4(1))
}

/// z(g) of the gate a(g) = g sigmoid(z(g)): kind 0 is SiLU with z = g, as of kind 3, kind 1 the tanh form of GELU, kind
/// 4 has z = 1.702 g.
@inline(always)
private func gateArgument(_ g: Vec64, _ kind: Int32) -> Vec64 {
  if kind == 4 { return g * splat4(gain) }
  return kind != 1 ? g : g * madd(g * g, splat4(geluCubic), splat4(geluLinear))
}

/// g z'(g)
@inline(always)
private func scaledGate(_ g: Vec64, _ kind: Int32) -> Vec64 {
  if kind == 4 { return g * splat4(gain) }
  return kind == 0 ? g : g * madd(g * g, splat4(3 * geluCubic), splat4(geluLinear))
}
