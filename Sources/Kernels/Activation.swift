import CPlatform

extension Kernels {
  /// Rotates pairs (i, i + headDim / 2) of every head by the angle of the row's position; `sign` -1 turns back.
  @inline(never)
  static func rope(
    _ x: UnsafeMutableRawPointer, _ type: Int32, _ t: Int, _ heads: Int, _ headDim: Int,
    _ cosine: UnsafePointer<Float>, _ sine: UnsafePointer<Float>, _ positions: UnsafePointer<Int32>, _ sign: Float
  ) {
    let size = type == 0 ? 4 : 2
    let half = headDim / 2
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

  /// y = silu(gate) * up
  @inline(never)
  static func swiglu(
    _ gate: UnsafeRawPointer, _ up: UnsafeRawPointer, _ type: Int32, _ y: UnsafeMutableRawPointer, _ count: Int
  ) {
    // A function, because a closure of this size would not be inlined, and each vector would cost a call.
    @inline(always) func loop(_ type: Int32) {
      @inline(always) func wide(_ i: Int) {
        let g = F64(gate, type, i)
        ((g * sigmoid(g)).rounded(to: type) * F64(up, type, i)).store(y, type, i)
      }
      @inline(always) func step(_ i: Int, _ rest: Int) {
        let g = element16(gate, type, i, rest)
        var silu = g * sigmoid(g)
        if type == 1 { silu = mm_round_bf16(silu) }
        putElement16(y, type, i, rest, silu * element16(up, type, i, rest))
      }
      forEachFour(count, wide, step)
    }
    switch type {
    case 0: loop(0)
    case 1: loop(1)
    default: loop(2)
    }
  }

  /// dGate = dy * up * s * (1 + g (1 - s)), dUp = dy * g * s with s = sigmoid(g).
  @inline(never)
  static func swigluBackward(
    _ dy: UnsafeRawPointer, _ gate: UnsafeRawPointer, _ up: UnsafeRawPointer, _ type: Int32,
    _ dGate: UnsafeMutableRawPointer, _ dUp: UnsafeMutableRawPointer, _ count: Int
  ) {
    @inline(always) func loop(_ type: Int32) {
      @inline(always) func wide(_ i: Int) {
        let d = F64(dy, type, i)
        let g = F64(gate, type, i)
        let s = sigmoid(g)
        (d * g * s).store(dUp, type, i)
        (d * F64(up, type, i) * s * madd(g, splat4(1) - s, splat4(1))).store(dGate, type, i)
      }
      @inline(always) func step(_ i: Int, _ rest: Int) {
        let d = element16(dy, type, i, rest)
        let g = element16(gate, type, i, rest)
        let u = element16(up, type, i, rest)
        let s = sigmoid(g)
        putElement16(dUp, type, i, rest, d * g * s)
        putElement16(dGate, type, i, rest, d * u * s * madd(g, splat(1) - s, splat(1)))
      }
      forEachFour(count, wide, step)
    }
    switch type {
    case 0: loop(0)
    case 1: loop(1)
    default: loop(2)
    }
  }
}
