import CPlatform

/// c + a * b, fused where the instruction set can: on the baseline `addingProduct` would call libm once a lane.
// The tiles and dots of products have it as a private function of their own, with the sum first: a debug build, which
// does not optimise across files, would call this one.
@inline(__always)
func madd(_ a: Vec16, _ b: Vec16, _ c: Vec16) -> Vec16 {
  #if ISA_BASELINE
    c + a * b
  #else
    c.addingProduct(a, b)
  #endif
}

@inline(__always)
func splat(_ value: Float) -> Vec16 { Vec16(repeating: value) }

@inline(__always)
func larger(_ a: Vec16, _ b: Vec16) -> Vec16 { a.replacing(with: b, where: a .< b) }

@inline(__always)
func loadFloats(_ p: UnsafePointer<Float>) -> Vec16 { UnsafeRawPointer(p).loadUnaligned(as: Vec16.self) }

@inline(__always)
func storeFloats(_ p: UnsafeMutablePointer<Float>, _ v: Vec16) {
  UnsafeMutableRawPointer(p).storeBytes(of: v, as: Vec16.self)
}

/// Up to 16 elements of a float type as floats; missing ones are zero.
@inline(__always)
func element16(_ p: UnsafeRawPointer, _ type: Int32, _ index: Int, _ count: Int) -> Vec16 {
  let address = p + index &* (type == 0 ? 4 : 2)
  return count >= 16 ? mm_load(address, type) : mm_load_part(address, type, count)
}

@inline(__always)
func putElement16(_ p: UnsafeMutableRawPointer, _ type: Int32, _ index: Int, _ count: Int, _ v: Vec16) {
  let address = p + index &* (type == 0 ? 4 : 2)
  if count >= 16 { mm_store(address, type, v) } else { mm_store_part(address, type, v, count) }
}

/// The largest lane, of lanes that are no NaN: `larger` lets none in.
@inline(__always)
func largest(_ v: Vec16) -> Float { mm_largest(v) }

/// e^x within about 1.5 units in the last place; 0 below -87.3, infinity above 88.7.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; adding 1.5 * 2^23 leaves n in the low bits, which then go to the exponent.
/// The polynomial is the minimax one of Cephes' expf.
// `__always` is a wish that the compiler does not grant here, and a call would split the vectors.
@inline(always)
func expVector(_ x: Vec64) -> Vec64 {
  let e = expWithin(Vec64(clamped(x.a), clamped(x.b), clamped(x.c), clamped(x.d)))
  return Vec64(limited(e.a, x.a), limited(e.b, x.b), limited(e.c, x.c), limited(e.d, x.d))
}

@inline(always)
func expVector(_ x: Vec16) -> Vec16 { expVector(Vec64(repeating: x)).a }

/// The values of e^x where x is within the range of `clamped`.
@inline(always)
private func limited(_ e: Vec16, _ x: Vec16) -> Vec16 {
  let low = e.replacing(with: 0, where: x .< splat(-87.33))
  return low.replacing(with: Float.infinity, where: x .> splat(88.73))
}

/// The range in which 2^n is a normal number.
@inline(always)
private func clamped(_ x: Vec16) -> Vec16 { mm_clamp(x, -87.33, 88.37) }

@inline(always)
private func expWithin(_ x: Vec64) -> Vec64 {
  let magic = splat4(12_582_912)
  let shifted = madd(x, splat4(1.442_695_04), magic)
  let n = shifted - magic
  let r = madd(n, splat4(2.121_944_4e-4), madd(n, splat4(-0.693_359_375), x))
  var p = splat4(1.987_569_15e-4)
  p = madd(p, r, splat4(1.398_199_95e-3))
  p = madd(p, r, splat4(8.333_451_9e-3))
  p = madd(p, r, splat4(4.166_579_6e-2))
  p = madd(p, r, splat4(1.666_666_55e-1))
  p = madd(p, r, splat4(0.5))
  p = madd(p, r * r, r + splat4(1))
  return Vec64(
    timesPower(p.a, shifted.a), timesPower(p.b, shifted.b), timesPower(p.c, shifted.c), timesPower(p.d, shifted.d))
}

/// p * 2^n with n in the low bits of `shifted`.
@inline(always)
private func timesPower(_ p: Vec16, _ shifted: Vec16) -> Vec16 {
  let exponent = unsafeBitCast(shifted, to: Words16.self) &<< Words16(repeating: 23)
  return unsafeBitCast(unsafeBitCast(p, to: Words16.self) &+ exponent, to: Vec16.self)
}

/// 1 / (1 + e^-x)
@inline(always)
func sigmoid(_ x: Vec64) -> Vec64 {
  let y = splat4(0) - x
  let e = expWithin(Vec64(clamped(y.a), clamped(y.b), clamped(y.c), clamped(y.d)))
  return splat4(1) / (splat4(1) + e)
}

/// tanh(x) = 2 sigmoid(2x) - 1, and near zero, where that cancels, the Taylor series to x^9: at |x| = 0.3 the next term
/// is below 2e-8.
@inline(always)
func tanhVector(_ x: Vec16) -> Vec16 {
  let far = madd(sigmoid(Vec64(repeating: x + x)).a, splat(2), splat(-1))
  let square = x * x
  var p = madd(square, splat(62.0 / 2835), splat(-17.0 / 315))
  p = madd(p, square, splat(2.0 / 15))
  p = madd(p, square, splat(-1.0 / 3))
  let near = madd(p * square, x, x)
  return far.replacing(with: near, where: square .< splat(0.09))
}

/// The normal distribution erfc(-x / sqrt(2)) / 2, with a relative error below 1e-6 in its lower tail.
///
/// erfc(z) = t exp(-z^2 + p(t)) with t = 1 / (1 + z / 2) and the polynomial of Press et al., Numerical Recipes, 6.2
/// (erfcc), for z >= 0.
@inline(always)
func normalDistribution(_ x: Vec64) -> Vec64 {
  let minus = splat4(0) - x
  let z = Vec64(larger(x.a, minus.a), larger(x.b, minus.b), larger(x.c, minus.c), larger(x.d, minus.d))
  let t = splat4(1) / madd(z, splat4(0.353_553_39), splat4(1))
  var p = splat4(0.170_872_77)
  p = madd(p, t, splat4(-0.822_152_23))
  p = madd(p, t, splat4(1.488_515_87))
  p = madd(p, t, splat4(-1.135_203_98))
  p = madd(p, t, splat4(0.278_868_07))
  p = madd(p, t, splat4(-0.186_288_06))
  p = madd(p, t, splat4(0.096_784_18))
  p = madd(p, t, splat4(0.374_091_96))
  p = madd(p, t, splat4(1.000_023_68))
  p = madd(p, t, splat4(-1.265_512_23))
  let tail = splat4(0.5) * t * expVector(madd(z * z, splat4(-0.5), p))
  let rest = splat4(1) - tail
  return Vec64(
    rest.a.replacing(with: tail.a, where: x.a .< splat(0)), rest.b.replacing(with: tail.b, where: x.b .< splat(0)),
    rest.c.replacing(with: tail.c, where: x.c .< splat(0)), rest.d.replacing(with: tail.d, where: x.d .< splat(0)))
}
