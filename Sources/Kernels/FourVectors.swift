import CPlatform

/// Four vectors that go through the same steps side by side. A long chain of steps on one vector leaves the processor
/// waiting for each result: it looks only so far ahead for others to work on.
struct Vec64 {
  var a: Vec16
  var b: Vec16
  var c: Vec16
  var d: Vec16

  @inline(__always)
  init(_ a: Vec16, _ b: Vec16, _ c: Vec16, _ d: Vec16) { (self.a, self.b, self.c, self.d) = (a, b, c, d) }

  @inline(__always)
  init(repeating value: Vec16) { self.init(value, value, value, value) }

  /// Sixty-four elements of a float type.
  @inline(__always)
  init(_ p: UnsafeRawPointer, _ type: Int32, _ index: Int) {
    self.init(
      element16(p, type, index, 16), element16(p, type, index &+ 16, 16), element16(p, type, index &+ 32, 16),
      element16(p, type, index &+ 48, 16))
  }

  @inline(__always)
  func store(_ p: UnsafeMutableRawPointer, _ type: Int32, _ index: Int) {
    mm_store_four(p + index &* (type == 0 ? 4 : 2), type, a, b, c, d)
  }

  /// Rounded to bfloat16 when that is the type.
  @inline(__always)
  func rounded(to type: Int32) -> Vec64 {
    guard type == 1 else { return self }
    if mm_needs_exact_bf16(a, b, c, d) {
      return Vec64(mm_round_bf16(a), mm_round_bf16(b), mm_round_bf16(c), mm_round_bf16(d))
    }
    return Vec64(mm_round_bf16_normal(a), mm_round_bf16_normal(b), mm_round_bf16_normal(c), mm_round_bf16_normal(d))
  }

  var sum: Float {
    @inline(__always) get { mm_sum((a + b) + (c + d)) }
  }

  @inline(__always)
  static func + (x: Vec64, y: Vec64) -> Vec64 { Vec64(x.a + y.a, x.b + y.b, x.c + y.c, x.d + y.d) }
  @inline(__always)
  static func - (x: Vec64, y: Vec64) -> Vec64 { Vec64(x.a - y.a, x.b - y.b, x.c - y.c, x.d - y.d) }
  @inline(__always)
  static func * (x: Vec64, y: Vec64) -> Vec64 { Vec64(x.a * y.a, x.b * y.b, x.c * y.c, x.d * y.d) }
  @inline(__always)
  static func / (x: Vec64, y: Vec64) -> Vec64 { Vec64(x.a / y.a, x.b / y.b, x.c / y.c, x.d / y.d) }
}

/// c + a * b, fused where the instruction set can.
@inline(__always)
func madd(_ x: Vec64, _ y: Vec64, _ z: Vec64) -> Vec64 {
  Vec64(madd(x.a, y.a, z.a), madd(x.b, y.b, z.b), madd(x.c, y.c, z.c), madd(x.d, y.d, z.d))
}

@inline(__always)
func splat4(_ value: Float) -> Vec64 { Vec64(repeating: splat(value)) }

/// Calls wide(i) for each 64 whole elements, then `body` as `forEachVector` does for what is left.
@inline(__always)
func forEachFour(_ count: Int, _ wide: (_ i: Int) -> Void, _ body: (_ i: Int, _ rest: Int) -> Void) {
  var i = 0
  while i &+ 64 <= count {
    wide(i)
    i &+= 64
  }
  while i < count {
    body(i, min(16, count &- i))
    i &+= 16
  }
}
