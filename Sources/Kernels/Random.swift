import CPlatform
import Numerics

/// The four words of sixteen counter blocks, one block per lane.
private struct Counters {
  var c0: Words16
  var c1: Words16
  var c2: Words16
  var c3: Words16

  /// Blocks n to n + 15; `n` is a multiple of 16, so that the low word of a group never wraps.
  @inline(__always)
  init(_ n: UInt64, _ stream: UInt64) {
    c0 =
      Words16(repeating: UInt32(truncatingIfNeeded: n)) &+ Words16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
    c1 = Words16(repeating: UInt32(truncatingIfNeeded: n &>> 32))
    c2 = Words16(repeating: UInt32(truncatingIfNeeded: stream))
    c3 = Words16(repeating: UInt32(truncatingIfNeeded: stream &>> 32))
  }

  @inline(__always)
  mutating func round(_ k0: Words16, _ k1: Words16) {
    let (high0, low0) = (rd_mul_high(c0, 0xD251_1F53), c0 &* Words16(repeating: 0xD251_1F53))
    let (high1, low1) = (rd_mul_high(c2, 0xCD9E_8D57), c2 &* Words16(repeating: 0xCD9E_8D57))
    (c0, c1, c2, c3) = (high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0)
  }

  /// The 64 words in the order of `Philox.block`.
  @inline(__always)
  func words() -> (Words16, Words16, Words16, Words16) {
    let (a, b) = (rd_zip_low(c0, c1), rd_zip_low(c2, c3))
    let (c, d) = (rd_zip_high(c0, c1), rd_zip_high(c2, c3))
    return (rd_zip_pairs_low(a, b), rd_zip_pairs_high(a, b), rd_zip_pairs_low(c, d), rd_zip_pairs_high(c, d))
  }
}

extension Kernels {
  /// Philox4x32-10 (Salmon et al. 2011) of 32 blocks. Two chains of rounds side by side: each step of one waits for the
  /// product before it.
  @inline(__always)
  private static func philox(_ first: inout Counters, _ second: inout Counters, _ seed: UInt64) {
    var k0 = Words16(repeating: UInt32(truncatingIfNeeded: seed))
    var k1 = Words16(repeating: UInt32(truncatingIfNeeded: seed &>> 32))
    for _ in 0..<10 {
      first.round(k0, k1)
      second.round(k0, k1)
      k0 = k0 &+ Words16(repeating: 0x9E37_79B9)
      k1 = k1 &+ Words16(repeating: 0xBB67_AE85)
    }
  }

  /// See `Backend.dropout`; `first` is a multiple of 128.
  @inline(never)
  static func dropout(
    _ x: UnsafeRawPointer, _ type: Int32, _ first: Int, _ count: Int, _ seed: UInt64, _ stream: UInt64,
    _ threshold: UInt32, _ scale: Float, _ y: UnsafeMutableRawPointer, _ accumulate: Bool
  ) {
    let end = first &+ count
    @inline(always) func put(_ i: Int, _ keep: (Vec16) -> Vec16) {
      let rest = end &- i
      guard rest > 0 else { return }
      var v = keep(element16(x, type, i, rest) * splat(scale))
      if accumulate { v = v + element16(y, type, i, rest) }
      putElement16(y, type, i, rest, v)
    }
    @inline(always) func putTwo(_ i: Int, _ words: Words16) {
      put(i) { rd_keep_low($0, words, threshold) }
      put(i &+ 16) { rd_keep_high($0, words, threshold) }
    }
    @inline(always) func putAll(_ i: Int, _ words: (Words16, Words16, Words16, Words16)) {
      putTwo(i, words.0)
      putTwo(i &+ 32, words.1)
      putTwo(i &+ 64, words.2)
      putTwo(i &+ 96, words.3)
    }
    var i = first
    while i < end {
      let block = UInt64(i) / 8
      var (low, high) = (Counters(block, stream), Counters(block &+ 16, stream))
      philox(&low, &high, seed)
      putAll(i, low.words())
      putAll(i &+ 128, high.words())
      i &+= 256
    }
  }
}
