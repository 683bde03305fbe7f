/// Philox4x32-10 (Salmon et al. 2011), random access: word i depends only on (seed, stream, i).
///
/// Counter (i / 4 low, i / 4 high, stream low, stream high), key (seed low, seed high), word i mod 4. The vector
/// kernels compute the same words.
package enum Philox {
  package static func block(_ index: UInt64, seed: UInt64, stream: UInt64) -> SIMD4<UInt32> {
    var counter = SIMD4<UInt32>(
      UInt32(truncatingIfNeeded: index), UInt32(truncatingIfNeeded: index >> 32),
      UInt32(truncatingIfNeeded: stream), UInt32(truncatingIfNeeded: stream >> 32))
    var key0 = UInt32(truncatingIfNeeded: seed)
    var key1 = UInt32(truncatingIfNeeded: seed >> 32)
    for _ in 0..<10 {
      let p0 = UInt64(counter[0]) * 0xD251_1F53
      let p1 = UInt64(counter[2]) * 0xCD9E_8D57
      counter = SIMD4<UInt32>(
        UInt32(truncatingIfNeeded: p1 >> 32) ^ counter[1] ^ key0, UInt32(truncatingIfNeeded: p1),
        UInt32(truncatingIfNeeded: p0 >> 32) ^ counter[3] ^ key1, UInt32(truncatingIfNeeded: p0))
      key0 = key0 &+ 0x9E37_79B9
      key1 = key1 &+ 0xBB67_AE85
    }
    return counter
  }
}
