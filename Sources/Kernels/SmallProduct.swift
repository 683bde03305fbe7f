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

/// c[m, n] = a b, added to c where `adds`; a[i, p] stands at i * rowStep + p * columnStep, b is [k, n] and rows of b
/// and c are so far apart. n is a multiple of 16.
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

// Functions of this file: a debug build, which does not optimise across files, would call those of VectorMath.

@inline(__always)
private func multiplyAdd(_ sum: Vec16, _ a: Float, _ b: Vec16) -> Vec16 {
  #if ISA_BASELINE
    sum + Vec16(repeating: a) * b
  #else
    sum.addingProduct(Vec16(repeating: a), b)
  #endif
}

@inline(__always)
private func load(_ p: UnsafePointer<Float>) -> Vec16 { UnsafeRawPointer(p).loadUnaligned(as: Vec16.self) }

@inline(__always)
private func store(_ p: Floats, _ v: Vec16) { UnsafeMutableRawPointer(p).storeBytes(of: v, as: Vec16.self) }

@inline(__always)
private func before(_ c: Floats, _ adds: Bool) -> Vec16 { adds ? load(c) : Vec16(repeating: 0) }

@inline(__always)
private func tile1(
  _ c: Floats, _ a: UnsafePointer<Float>, _ step: Int, _ b: UnsafePointer<Float>, _ bStride: Int, _ k: Int,
  _ adds: Bool
) {
  var sum = before(c, adds)
  for p in 0..<k { sum = multiplyAdd(sum, a[p &* step], load(b + p &* bStride)) }
  store(c, sum)
}

@inline(__always)
private func tile4(
  _ c: Floats, _ cStride: Int, _ a: UnsafePointer<Float>, _ rowStep: Int, _ step: Int, _ b: UnsafePointer<Float>,
  _ bStride: Int, _ k: Int, _ adds: Bool
) {
  var (s0, s1) = (before(c, adds), before(c + cStride, adds))
  var (s2, s3) = (before(c + 2 &* cStride, adds), before(c + 3 &* cStride, adds))
  for p in 0..<k {
    let (line, from) = (load(b + p &* bStride), a + p &* step)
    s0 = multiplyAdd(s0, from[0], line)
    s1 = multiplyAdd(s1, from[rowStep], line)
    s2 = multiplyAdd(s2, from[2 &* rowStep], line)
    s3 = multiplyAdd(s3, from[3 &* rowStep], line)
  }
  store(c, s0)
  store(c + cStride, s1)
  store(c + 2 &* cStride, s2)
  store(c + 3 &* cStride, s3)
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
    let (left, right) = (load(line), load(line + 16))
    let (a0, a1) = (from[0], from[rowStep])
    let (a2, a3) = (from[2 &* rowStep], from[3 &* rowStep])
    s0 = multiplyAdd(s0, a0, left)
    t0 = multiplyAdd(t0, a0, right)
    s1 = multiplyAdd(s1, a1, left)
    t1 = multiplyAdd(t1, a1, right)
    s2 = multiplyAdd(s2, a2, left)
    t2 = multiplyAdd(t2, a2, right)
    s3 = multiplyAdd(s3, a3, left)
    t3 = multiplyAdd(t3, a3, right)
  }
  store(c, s0)
  store(c1, s1)
  store(c2, s2)
  store(c3, s3)
  store(c + 16, t0)
  store(c1 + 16, t1)
  store(c2 + 16, t2)
  store(c3 + 16, t3)
}
