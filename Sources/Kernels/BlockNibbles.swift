import CPlatform
import Numerics

// One row of x against codes of four bits, read as simd_nibbles.h says.

extension Kernels {
  /// Where the sums of one row of x stand, in lanes of x: before them is room for a whole group of 128 elements.
  static var blockSumLanes: Int { 6 }

  /// Whether products of bfloat16 read nibbles too.
  @inline(__always)
  static var hasNibblePairs: Bool {
    #if ISA_AVX512BF16
      true
    #else
      false
    #endif
  }

  /// See `BlockKernels.Arrange`.
  @inline(never)
  static func arrangeForBlocks(
    _ format: Int32, _ x: UnsafeMutablePointer<Float>, _ k: Int, _ pitch: Int, _ mode: Int32
  ) {
    let sums = x + blockSumLanes &* pitch
    if gg_has_minima(format), format == 12 || mode == 1 && !hasNibblePairs || !gg_is_nibbles(format) {
      sumParts(x, k, mode, sums)
    }
    guard gg_is_nibbles(format) else { return }
    if mode != 1 {
      arrangeForNibbles(format, x, k, sums)
    } else if hasNibblePairs {
      arrangeForNibblePairs(format, x, k, sums)
    }
  }

  /// x in the order of `gg_arrange`; for blocks of 32 also the sums of its lanes.
  @inline(__always)
  private static func arrangeForNibbles(
    _ format: Int32, _ x: UnsafeMutablePointer<Float>, _ k: Int, _ sums: UnsafeMutablePointer<Float>
  ) {
    let groups = (k &+ 127) &>> 7
    (x + k).update(repeating: 0, count: groups &<< 7 &- k)
    // By what the sums are multiplied: codes of Q4_0 count from -8.
    let factor: Float = format == 2 ? -8 : 1
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 128) { buffer in
      let group = buffer.baseAddress.unsafelyUnwrapped
      for index in 0..<groups {
        let to = x + index &<< 7
        group.update(from: to, count: 128)
        gg_arrange(format, group, to)
        guard format != 12 else { continue }
        var sum = splat(0)
        for nibble in 0..<8 {
          // What `gg_arrange` multiplied by, back.
          let power = splat(Float(1 &<< (4 &* (nibble & 3))))
          sum = madd(loadFloats(to + nibble &<< 4), power, sum)
        }
        storeFloats(sums + index &<< 4, sum * splat(factor))
      }
    }
  }

  #if ISA_AVX512BF16
    @inline(__always)
    private static func pairSums(_ words: UnsafePointer<Float>) -> Vec16 {
      gg_pair_sums(unsafeBitCast(loadFloats(words), to: Words16.self))
    }
  #endif

  /// Words of x in the order of `gg_arrange_pairs`, and the sums of their lanes: for blocks of 256 those of the lower and
  /// of the upper halves of bytes, behind the sums of parts.
  @inline(__always)
  private static func arrangeForNibblePairs(
    _ format: Int32, _ x: UnsafeMutablePointer<Float>, _ k: Int, _ sums: UnsafeMutablePointer<Float>
  ) {
    #if ISA_AVX512BF16
      let groups = (k &+ 127) &>> 7
      (x + k / 2).update(repeating: 0, count: groups &<< 6 &- k / 2)
      withUnsafeTemporaryAllocation(of: Float.self, capacity: 64) { buffer in
        let group = buffer.baseAddress.unsafelyUnwrapped
        for index in 0..<groups {
          let to = x + index &<< 6
          group.update(from: to, count: 64)
          gg_arrange_pairs(format, group, to)
          let low = pairSums(to) + pairSums(to + 32)
          let high = pairSums(to + 16) + pairSums(to + 48)
          if format == 12 {
            storeFloats(sums + k / 16 + index &<< 5, low * splat(-128))
            storeFloats(sums + k / 16 + (index &<< 5 &+ 16), high * splat(-128))
          } else {
            // Codes of Q4_0 count from -8.
            storeFloats(sums + index &<< 4, (low + high) * splat(format == 2 ? -136 : 1))
          }
        }
      }
    #endif
  }

  /// sums[i] = the sum of part i of x, by which minima are multiplied.
  @inline(__always)
  private static func sumParts(
    _ x: UnsafePointer<Float>, _ k: Int, _ mode: Int32, _ sums: UnsafeMutablePointer<Float>
  ) {
    for part in 0..<k / 16 {
      sums[part] = mode == 1 ? mm_sum(gg_widened(x + part &* 8)) : mm_sum(loadFloats(x + part &* 16))
    }
  }

  /// The products of 128 codes with x, those of the lower halves of bytes added to `low`.
  @inline(__always)
  private static func addNibbles(
    _ words: Words16, _ x: UnsafePointer<Float>, _ low: inout Vec16, _ high: inout Vec16, _ mode: Int32
  ) {
    #if ISA_AVX512BF16
      if mode == 1 {
        low = pairProducts(low, gg_nibble_pairs(words, 0), x)
        high = pairProducts(high, gg_nibble_pairs(words, 4), x + 16)
        low = pairProducts(low, gg_nibble_pairs(words, 8), x + 32)
        high = pairProducts(high, gg_nibble_pairs(words, 12), x + 48)
        return
      }
    #endif
    let upper = words &>> 16
    low = madd(gg_nibble(words, 0), loadFloats(x), low)
    high = madd(gg_nibble(words, 4), loadFloats(x + 16), high)
    low = madd(gg_nibble(words, 8), loadFloats(x + 32), low)
    high = madd(gg_nibble(words, 12), loadFloats(x + 48), high)
    low = madd(gg_nibble(upper, 0), loadFloats(x + 64), low)
    high = madd(gg_nibble(upper, 4), loadFloats(x + 80), high)
    low = madd(gg_nibble(upper, 8), loadFloats(x + 96), low)
    high = madd(gg_nibble(upper, 12), loadFloats(x + 112), high)
  }

  /// tile[out] = row (firstOut + out) of the matrix times x; four blocks of 32 at once.
  @inline(__always)
  static func oneRowOfNibbles(
    _ format: Int32, _ weight: UnsafePointer<BlockWeightPointers>, _ firstOut: Int, _ outs: Int,
    _ x: UnsafePointer<Float>, _ sums: UnsafePointer<Float>, _ tile: UnsafeMutablePointer<Float>, _ mode: Int32
  ) {
    let (bytes, blocks) = (gg_bytes(format), weight.pointee.in &>> 5)
    let wordShift = mode == 1 ? 6 : 7

    @inline(__always) func step(
      _ p: UnsafePointer<UInt8>, _ second: Int, _ third: Int, _ fourth: Int, _ group: Int, _ first: inout Vec16,
      _ other: inout Vec16
    ) {
      let (b, c, d) = (p + second &* bytes, p + third &* bytes, p + fourth &* bytes)
      let codes = format == 3 ? 4 : 2
      let sum = loadFloats(sums + group &<< 4)
      var (low, high) = (format == 2 ? sum : mode == 1 ? sum * splat(-128) : splat(0), splat(0))
      addNibbles(
        gg_words_of_four(p + codes, b + codes, c + codes, d + codes), x + group &<< wordShift, &low, &high, mode)
      let scales = gg_halves_of_four(p, b, c, d)
      first = madd(low, scales, first)
      other = madd(high, scales, other)
      if format == 3 { first = madd(sum, gg_halves_of_four(p + 2, b + 2, c + 2, d + 2), first) }
    }
    let last = blocks & 3 &- 1
    for out in 0..<outs {
      var p = blockRow(weight, firstOut &+ out)
      // Two sums: of one alone the compiler takes the lanes apart, which are added up in the end.
      var (first, other) = (splat(0), splat(0))
      for group in 0..<blocks &>> 2 {
        mm_prefetch(p + 2048)
        step(p, 1, 2, 3, group, &first, &other)
        p += 4 &* bytes
      }
      // The last block stands for those after it, where x is zero.
      if last >= 0 { step(p, min(1, last), min(2, last), last, blocks &>> 2, &first, &other) }
      tile[out] = mm_sum(first + other)
    }
  }

  /// tile[out] = row (firstOut + out) of the matrix times x, for blocks of 256 whose halves of bytes have scales of their
  /// own.
  @inline(__always)
  static func oneRowOfLongNibbles(
    _ format: Int32, _ weight: UnsafePointer<BlockWeightPointers>, _ firstOut: Int, _ outs: Int,
    _ x: UnsafePointer<Float>, _ sums: UnsafePointer<Float>, _ tile: UnsafeMutablePointer<Float>, _ mode: Int32
  ) {
    let wordShift = mode == 1 ? 6 : 7
    let laneSums = sums + weight.pointee.in &>> 4
    withUnsafeTemporaryAllocation(of: Float.self, capacity: blockScaleCount) { buffer in
      let scales = buffer.baseAddress.unsafelyUnwrapped

      @inline(__always) func step(_ p: UnsafePointer<UInt8>, _ block: Int, _ half: Int, _ total: inout Vec16) {
        let (codes, scale, group) = (p + (16 &+ 64 &* half), scales + 8 &* half, 2 &* block &+ half)
        var (low, high) = (splat(0), splat(0))
        if mode == 1 {
          (low, high) = (loadFloats(laneSums + group &<< 5), loadFloats(laneSums + (group &<< 5 &+ 16)))
        }
        addNibbles(
          gg_words_of_four(codes, codes + 16, codes + 32, codes + 48), x + group &<< wordShift, &low, &high, mode)
        total = madd(low, gg_halves(splat(scale[0]), splat(scale[4])), total)
        total = madd(high, gg_halves(splat(scale[2]), splat(scale[6])), total)
      }
      for out in 0..<outs {
        var p = blockRow(weight, firstOut &+ out)
        var (first, second, minima) = (splat(0), splat(0), splat(0))
        for block in 0..<weight.pointee.in &>> 8 {
          mm_prefetch(p + 2048)
          gg_scales(format, p, scales)
          step(p, block, 0, &first)
          step(p, block, 1, &second)
          minima = madd(loadFloats(scales + 16), loadFloats(sums + block &<< 4), minima)
          p += gg_bytes(format)
        }
        tile[out] = mm_sum(first + second - minima)
      }
    }
  }
}
