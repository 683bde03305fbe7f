import CPlatform

/// c + a * b, fused where the instruction set can.
@inline(__always)
func madd(_ a: F16, _ b: F16, _ c: F16) -> F16 {
  #if ISA_BASELINE
    c + a * b
  #else
    c.addingProduct(a, b)
  #endif
}

@inline(__always)
func splat(_ value: Float) -> F16 { F16(repeating: value) }

@inline(__always)
func larger(_ a: F16, _ b: F16) -> F16 { a.replacing(with: b, where: a .< b) }

@inline(__always)
func loadFloats(_ p: UnsafePointer<Float>) -> F16 { UnsafeRawPointer(p).loadUnaligned(as: F16.self) }

@inline(__always)
func storeFloats(_ p: UnsafeMutablePointer<Float>, _ v: F16) {
  UnsafeMutableRawPointer(p).storeBytes(of: v, as: F16.self)
}

/// Up to 16 elements of a float type as floats; missing ones are zero.
@inline(__always)
func element16(_ p: UnsafeRawPointer, _ type: Int32, _ index: Int, _ count: Int) -> F16 {
  let address = p + index &* (type == 0 ? 4 : 2)
  return count >= 16 ? mm_load(address, type) : mm_load_part(address, type, count)
}

@inline(__always)
func putElement16(_ p: UnsafeMutableRawPointer, _ type: Int32, _ index: Int, _ count: Int, _ v: F16) {
  let address = p + index &* (type == 0 ? 4 : 2)
  if count >= 16 { mm_store(address, type, v) } else { mm_store_part(address, type, v, count) }
}

@inline(__always)
func largest(_ v: F16) -> Float {
  var best = v[0]
  for lane in 1..<16 where v[lane] > best { best = v[lane] }
  return best
}

/// e^x within about 1.5 units in the last place; 0 below -87.3, infinity above 88.7.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; adding 1.5 * 2^23 leaves n in the low bits, which then go to the exponent.
/// The polynomial is the minimax one of Cephes' expf.
@inline(__always)
func expVector(_ x: F16) -> F16 {
  let clamped = x.replacing(with: -87.33, where: x .< splat(-87.33)).replacing(with: 88.37, where: x .> splat(88.37))
  let magic = splat(12_582_912)
  let shifted = madd(clamped, splat(1.442_695_04), magic)
  let n = shifted - magic
  let r = madd(n, splat(2.121_944_4e-4), madd(n, splat(-0.693_359_375), clamped))
  var p = splat(1.987_569_15e-4)
  p = madd(p, r, splat(1.398_199_95e-3))
  p = madd(p, r, splat(8.333_451_9e-3))
  p = madd(p, r, splat(4.166_579_6e-2))
  p = madd(p, r, splat(1.666_666_55e-1))
  p = madd(p, r, splat(0.5))
  p = madd(p, r * r, r + splat(1))
  let exponent = unsafeBitCast(shifted, to: U16.self) &<< U16(repeating: 23)
  let value = unsafeBitCast(unsafeBitCast(p, to: U16.self) &+ exponent, to: F16.self)
  let low = value.replacing(with: 0, where: x .< splat(-87.33))
  return low.replacing(with: Float.infinity, where: x .> splat(88.73))
}
