import CPlatform
import Numerics

// One row of x against codes of four bits, read as simd_nibbles.h says.

extension Kernels {
  /// Where the sums of one row of x stand, in lanes of x: before them is room for a whole group of 128 elements.
  static var blockSumLanes: Int { 6 }

  /// See `BlockKernels.Arrange`.
  @inline(never)
  static func arrangeForBlocks(
    _ format: Int32, _ x: UnsafeMutablePointer<Float>, _ k: Int, _ pitch: Int, _ mode: Int32
  ) {
    let sums = x + blockSumLanes &* pitch
    if mode != 1, gg_is_nibbles(format) {
      let groups = (k &+ 127) &>> 7
      (x + k).update(repeating: 0, count: groups &<< 7 &- k)
      // By what the sums are multiplied: codes of Q4_0 count from -8.
      let factor: Float = format == 2 ? -8 : 1
      if format == 12 { sumParts(x, k, mode, sums) }
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
    } else if gg_has_minima(format) {
      sumParts(x, k, mode, sums)
    }
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
    _ words: Words16, _ x: UnsafePointer<Float>, _ low: inout Vec16, _ high: inout Vec16
  ) {
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
    _ x: UnsafePointer<Float>, _ sums: UnsafePointer<Float>, _ tile: UnsafeMutablePointer<Float>
  ) {
    let (bytes, blocks) = (gg_bytes(format), weight.pointee.in &>> 5)

    @inline(__always) func step(
      _ p: UnsafePointer<UInt8>, _ second: Int, _ third: Int, _ fourth: Int, _ group: Int, _ first: inout Vec16,
      _ other: inout Vec16
    ) {
      let (b, c, d) = (p + second &* bytes, p + third &* bytes, p + fourth &* bytes)
      let codes = format == 3 ? 4 : 2
      let sum = loadFloats(sums + group &<< 4)
      var (low, high) = (format == 3 ? splat(0) : sum, splat(0))
      addNibbles(gg_words_of_four(p + codes, b + codes, c + codes, d + codes), x + group &<< 7, &low, &high)
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
    _ x: UnsafePointer<Float>, _ sums: UnsafePointer<Float>, _ tile: UnsafeMutablePointer<Float>
  ) {
    withUnsafeTemporaryAllocation(of: Float.self, capacity: blockScaleCount) { buffer in
      let scales = buffer.baseAddress.unsafelyUnwrapped

      @inline(__always) func step(
        _ p: UnsafePointer<UInt8>, _ half: Int, _ x: UnsafePointer<Float>, _ total: inout Vec16
      ) {
        let (codes, scale) = (p + (16 &+ 64 &* half), scales + 8 &* half)
        var (low, high) = (splat(0), splat(0))
        addNibbles(
          gg_words_of_four(codes, codes + 16, codes + 32, codes + 48), x + half &<< 7, &low, &high)
        total = madd(low, gg_halves(splat(scale[0]), splat(scale[4])), total)
        total = madd(high, gg_halves(splat(scale[2]), splat(scale[6])), total)
      }
      for out in 0..<outs {
        var p = blockRow(weight, firstOut &+ out)
        var (first, second, minima) = (splat(0), splat(0), splat(0))
        for block in 0..<weight.pointee.in &>> 8 {
          mm_prefetch(p + 2048)
          gg_scales(format, p, scales)
          step(p, 0, x + block &<< 8, &first)
          step(p, 1, x + block &<< 8, &second)
          minima = madd(loadFloats(scales + 16), loadFloats(sums + block &<< 4), minima)
          p += gg_bytes(format)
        }
        tile[out] = mm_sum(first + second - minima)
      }
    }
  }
}
