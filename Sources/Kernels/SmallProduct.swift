import CPlatform

// Products of small f32 matrices in scratch memory, whose rows have multiples of 16 elements.

private typealias Floats = UnsafeMutablePointer<Float>

#if ISA_AVX512 || ISA_AVX512BF16
  /// Vectors of a row of a tile; four rows of two are eight sums, which keep the multipliers busy.
  private let vectors = 2
#else
  /// Four sums are eight registers of eight lanes; twice as many would not fit.
  private let vectors = 1
#endif

/// c[m, n] = a b, added to c where `adds`; a[i, p] stands at i * rowStep + p * columnStep, b is [k, n] and rows of b and c
/// are so far apart. n is a multiple of 16.
@inline(never)
func smallProduct(
  _ c: UnsafeMutablePointer<Float>, _ cStride: Int, _ a: UnsafePointer<Float>, _ rowStep: Int, _ columnStep: Int,
  _ b: UnsafePointer<Float>, _ bStride: Int, _ m: Int, _ k: Int, _ n: Int, adds: Bool
) {
  var column = 0
  while column < n {
    let wide = vectors == 2 && column &+ 32 <= n
    var row = 0
    while row < m {
      let (target, source) = (c + (row &* cStride &+ column), a + row &* rowStep)
      if row &+ 4 <= m {
        if wide {
          tile4x2(target, cStride, source, rowStep, columnStep, b + column, bStride, k, adds)
        } else {
          tile4(target, cStride, source, rowStep, columnStep, b + column, bStride, k, adds)
        }
        row &+= 4
      } else {
        tile1(target, source, columnStep, b + column, bStride, k, adds)
        if wide { tile1(target + 16, source, columnStep, b + (column &+ 16), bStride, k, adds) }
        row &+= 1
      }
    }
    column &+= wide ? 32 : 16
  }
}

@inline(__always)
private func before(_ c: Floats, _ adds: Bool) -> Vec16 { adds ? loadFloats(c) : splat(0) }

@inline(__always)
private func tile1(
  _ c: Floats, _ a: UnsafePointer<Float>, _ step: Int, _ b: UnsafePointer<Float>, _ bStride: Int, _ k: Int,
  _ adds: Bool
) {
  var sum = before(c, adds)
  for p in 0..<k { sum = madd(splat(a[p &* step]), loadFloats(b + p &* bStride), sum) }
  storeFloats(c, sum)
}

@inline(__always)
private func tile4(
  _ c: Floats, _ cStride: Int, _ a: UnsafePointer<Float>, _ rowStep: Int, _ step: Int, _ b: UnsafePointer<Float>,
  _ bStride: Int, _ k: Int, _ adds: Bool
) {
  var (s0, s1) = (before(c, adds), before(c + cStride, adds))
  var (s2, s3) = (before(c + 2 &* cStride, adds), before(c + 3 &* cStride, adds))
  for p in 0..<k {
    let (line, from) = (loadFloats(b + p &* bStride), a + p &* step)
    s0 = madd(splat(from[0]), line, s0)
    s1 = madd(splat(from[rowStep]), line, s1)
    s2 = madd(splat(from[2 &* rowStep]), line, s2)
    s3 = madd(splat(from[3 &* rowStep]), line, s3)
  }
  storeFloats(c, s0)
  storeFloats(c + cStride, s1)
  storeFloats(c + 2 &* cStride, s2)
  storeFloats(c + 3 &* cStride, s3)
}

@inline(__always)
private func tile4x2(
  _ c: Floats, _ cStride: Int, _ a: UnsafePointer<Float>, _ rowStep: Int, _ step: Int, _ b: UnsafePointer<Float>,
  _ bStride: Int, _ k: Int, _ adds: Bool
) {
  let (c1, c2, c3) = (c + cStride, c + 2 &* cStride, c + 3 &* cStride)
  var (s0, s1, s2, s3) = (before(c, adds), before(c1, adds), before(c2, adds), before(c3, adds))
  var (t0, t1) = (before(c + 16, adds), before(c1 + 16, adds))
  var (t2, t3) = (before(c2 + 16, adds), before(c3 + 16, adds))
  for p in 0..<k {
    let (line, from) = (b + p &* bStride, a + p &* step)
    let (left, right) = (loadFloats(line), loadFloats(line + 16))
    let (a0, a1) = (splat(from[0]), splat(from[rowStep]))
    let (a2, a3) = (splat(from[2 &* rowStep]), splat(from[3 &* rowStep]))
    s0 = madd(a0, left, s0)
    t0 = madd(a0, right, t0)
    s1 = madd(a1, left, s1)
    t1 = madd(a1, right, t1)
    s2 = madd(a2, left, s2)
    t2 = madd(a2, right, t2)
    s3 = madd(a3, left, s3)
    t3 = madd(a3, right, t3)
  }
  storeFloats(c, s0)
  storeFloats(c1, s1)
  storeFloats(c2, s2)
  storeFloats(c3, s3)
  storeFloats(c + 16, t0)
  storeFloats(c1 + 16, t1)
  storeFloats(c2 + 16, t2)
  storeFloats(c3 + 16, t3)
}
