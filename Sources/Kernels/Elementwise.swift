import CPlatform

extension Kernels {
  @inline(never)
  static func cast(
    _ x: UnsafeRawPointer, _ xType: Int32, _ y: UnsafeMutableRawPointer, _ yType: Int32, _ count: Int
  ) {
    var i = 0
    while i < count {
      putElement16(y, yType, i, count &- i, element16(x, xType, i, count &- i))
      i &+= 16
    }
  }

  @inline(never)
  static func accumulate(
    _ x: UnsafeRawPointer, _ xType: Int32, _ a: Float, _ y: UnsafeMutableRawPointer, _ yType: Int32, _ b: Float,
    _ count: Int
  ) {
    var i = 0
    while i < count {
      let rest = count &- i
      var v = element16(x, xType, i, rest) * splat(a)
      // y may be uninitialised when b is 0, so it is not read then.
      if b != 0 { v = madd(element16(y, yType, i, rest), splat(b), v) }
      putElement16(y, yType, i, rest, v)
      i &+= 16
    }
  }

  /// Philox4x32-10 (Salmon et al. 2011): words of counter blocks n, n + 1, n + 2, n + 3, four each.
  @inline(__always)
  static func philox16(_ n: UInt64, _ seed: UInt64, _ stream: UInt64) -> U16 {
    typealias U4 = SIMD4<UInt32>
    typealias W4 = SIMD4<UInt64>
    let low = UInt32(truncatingIfNeeded: n)
    var c0 = U4(low, low &+ 1, low &+ 2, low &+ 3)
    // Callers start at multiples of four, so the low word of a group never wraps.
    var c1 = U4(repeating: UInt32(truncatingIfNeeded: n &>> 32))
    var c2 = U4(repeating: UInt32(truncatingIfNeeded: stream))
    var c3 = U4(repeating: UInt32(truncatingIfNeeded: stream &>> 32))
    var k0 = UInt32(truncatingIfNeeded: seed)
    var k1 = UInt32(truncatingIfNeeded: seed &>> 32)
    for _ in 0..<10 {
      let p0 = wide(c0) &* W4(repeating: 0xD251_1F53)
      let p1 = wide(c2) &* W4(repeating: 0xCD9E_8D57)
      (c0, c1, c2, c3) = (
        high(p1) ^ c1 ^ U4(repeating: k0), narrow(p1), high(p0) ^ c3 ^ U4(repeating: k1), narrow(p0)
      )
      k0 = k0 &+ 0x9E37_79B9
      k1 = k1 &+ 0xBB67_AE85
    }
    var words = U16(repeating: 0)
    for lane in 0..<4 {
      words[4 &* lane] = c0[lane]
      words[4 &* lane &+ 1] = c1[lane]
      words[4 &* lane &+ 2] = c2[lane]
      words[4 &* lane &+ 3] = c3[lane]
    }
    return words
  }

  @inline(__always)
  private static func wide(_ v: SIMD4<UInt32>) -> SIMD4<UInt64> {
    SIMD4<UInt64>(UInt64(v[0]), UInt64(v[1]), UInt64(v[2]), UInt64(v[3]))
  }

  @inline(__always)
  private static func narrow(_ v: SIMD4<UInt64>) -> SIMD4<UInt32> {
    SIMD4<UInt32>(
      UInt32(v[0] & 0xFFFF_FFFF), UInt32(v[1] & 0xFFFF_FFFF), UInt32(v[2] & 0xFFFF_FFFF), UInt32(v[3] & 0xFFFF_FFFF))
  }

  @inline(__always)
  private static func high(_ v: SIMD4<UInt64>) -> SIMD4<UInt32> { narrow(v &>> SIMD4<UInt64>(repeating: 32)) }

  @inline(never)
  static func dropout(
    _ x: UnsafeRawPointer, _ type: Int32, _ first: Int, _ count: Int, _ seed: UInt64, _ stream: UInt64,
    _ threshold: UInt32, _ scale: Float, _ y: UnsafeMutableRawPointer, _ accumulate: Bool
  ) {
    var i = first
    let end = first &+ count
    while i < end {
      let rest = end &- i
      let words = philox16(UInt64(i) / 4, seed, stream)
      let kept = element16(x, type, i, rest) * splat(scale)
      var v = kept.replacing(with: 0, where: words .< U16(repeating: threshold))
      if accumulate { v = v + element16(y, type, i, rest) }
      putElement16(y, type, i, rest, v)
      i &+= 16
    }
  }
}
