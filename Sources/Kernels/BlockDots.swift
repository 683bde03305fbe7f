import CPlatform
import Numerics

// A few rows of x against rows of a matrix in a block format of ggml, as in generation: codes are decoded in registers.

extension Kernels {
  /// See `BlockKernels.Dots`.
  @inline(never)
  static func blockDots(
    _ address: UnsafeRawPointer, _ firstOut: Int, _ outs: Int, _ x: UnsafePointer<Float>, _ rows: Int, _ pitch: Int,
    _ tile: UnsafeMutablePointer<Float>, _ mode: Int32
  ) {
    let weight = address.assumingMemoryBound(to: BlockWeightPointers.self)
    if rows == 1 {
      let sums = x + blockSumLanes &* pitch
      withBlockFormat(weight.pointee.format) { format in
        if !gg_is_nibbles(format) || mode == 1 && !hasNibblePairs {
          if mode == 1 {
            oneRow(format, weight, firstOut, outs, x, sums, tile, 1)
          } else {
            oneRow(format, weight, firstOut, outs, x, sums, tile, 0)
          }
        } else if gg_parts(format) == 2 {
          if mode == 1 {
            oneRowOfNibbles(format, weight, firstOut, outs, x, sums, tile, 1)
          } else {
            oneRowOfNibbles(format, weight, firstOut, outs, x, sums, tile, 0)
          }
        } else if mode == 1 {
          oneRowOfLongNibbles(format, weight, firstOut, outs, x, sums, tile, 1)
        } else {
          oneRowOfLongNibbles(format, weight, firstOut, outs, x, sums, tile, 0)
        }
      }
      return
    }
    var row = 0
    while row < rows {
      let (from, to) = (x + row &* pitch, tile + row &* matmulColumns)
      withBlockFormat(weight.pointee.format) { format in
        switch mode {
        case 0: fourRows(format, weight, firstOut, outs, from, pitch, to, 0)
        case 1: fourRows(format, weight, firstOut, outs, from, pitch, to, 1)
        default: fourRows(format, weight, firstOut, outs, from, pitch, to, 2)
        }
      }
      row &+= 4
    }
  }

  /// tile[out] = row (firstOut + out) of the matrix times x: scales multiply sums of products with codes.
  @inline(__always)
  private static func oneRow(
    _ format: Int32, _ weight: UnsafePointer<BlockWeightPointers>, _ firstOut: Int, _ outs: Int,
    _ x: UnsafePointer<Float>, _ partSums: UnsafePointer<Float>, _ tile: UnsafeMutablePointer<Float>, _ mode: Int32
  ) {
    let (parts, k) = (gg_parts(format), weight.pointee.in)
    withUnsafeTemporaryAllocation(of: Float.self, capacity: blockScaleCount) { buffer in
      let scales = buffer.baseAddress.unsafelyUnwrapped
      for out in 0..<outs {
        var p = blockRow(weight, firstOut &+ out)
        var words = x
        var (first, second, minima) = (splat(0), splat(0), splat(0))
        var least: Float = 0
        for block in 0..<k / (16 &* parts) {
          mm_prefetch(p + 2048)
          blockScales(format, weight, p, scales)
          let pairWords = mode == 1 ? 16 : 32
          oneRowStep(format, p, 0, scales, words, mode, &first, &second)
          if parts == 16 {
            // Written out, since places and shifts of a part are constants then.
            oneRowStep(format, p, 1, scales, words + pairWords, mode, &first, &second)
            oneRowStep(format, p, 2, scales, words + 2 &* pairWords, mode, &first, &second)
            oneRowStep(format, p, 3, scales, words + 3 &* pairWords, mode, &first, &second)
            oneRowStep(format, p, 4, scales, words + 4 &* pairWords, mode, &first, &second)
            oneRowStep(format, p, 5, scales, words + 5 &* pairWords, mode, &first, &second)
            oneRowStep(format, p, 6, scales, words + 6 &* pairWords, mode, &first, &second)
            oneRowStep(format, p, 7, scales, words + 7 &* pairWords, mode, &first, &second)
          }
          words += parts / 2 &* pairWords
          if gg_has_minima(format) {
            if parts == 16 {
              minima = madd(loadFloats(scales + 16), loadFloats(partSums + 16 &* block), minima)
            } else {
              least += scales[16] * (partSums[2 &* block] + partSums[2 &* block &+ 1])
            }
          }
          p += gg_bytes(format)
        }
        tile[out] = mm_sum(first + second - minima) - least
      }
    }
  }

  /// Adds the products of two parts.
  @inline(__always)
  private static func oneRowStep(
    _ format: Int32, _ p: UnsafePointer<UInt8>, _ pair: Int, _ scales: UnsafePointer<Float>,
    _ x: UnsafePointer<Float>, _ mode: Int32, _ first: inout Vec16, _ second: inout Vec16
  ) {
    let scale = splat(scales[2 &* pair])
    #if ISA_AVX512BF16
      if mode == 1 {
        let products = pairProducts(splat(0), gg_words(format, p, pair), x)
        let both = gg_shares_scales(format) ? scale : gg_halves(scale, splat(scales[2 &* pair &+ 1]))
        // Sums by turns, because a product waits for the one before it.
        if pair & 1 == 0 { first = madd(products, both, first) } else { second = madd(products, both, second) }
        return
      }
    #endif
    let (low, high) = (gg_codes(format, p, 2 &* pair), gg_codes(format, p, 2 &* pair &+ 1))
    if gg_shares_scales(format) {
      let products = madd(high, loadFloats(x + 16), low * loadFloats(x))
      if pair & 1 == 0 { first = madd(products, scale, first) } else { second = madd(products, scale, second) }
    } else {
      first = madd(low * loadFloats(x), scale, first)
      second = madd(high * loadFloats(x + 16), splat(scales[2 &* pair &+ 1]), second)
    }
  }

  /// Four rows of x, with the exact values of the weights, rounded as `mode` says.
  @inline(__always)
  private static func fourRows(
    _ format: Int32, _ weight: UnsafePointer<BlockWeightPointers>, _ firstOut: Int, _ outs: Int,
    _ x: UnsafePointer<Float>, _ pitch: Int, _ tile: UnsafeMutablePointer<Float>, _ mode: Int32
  ) {
    let (parts, k) = (gg_parts(format), weight.pointee.in)
    withUnsafeTemporaryAllocation(of: Float.self, capacity: blockScaleCount) { buffer in
      let scales = buffer.baseAddress.unsafelyUnwrapped
      for out in 0..<outs {
        var p = blockRow(weight, firstOut &+ out)
        var words = x
        var (first, second) = (RowSums(), RowSums())
        for _ in 0..<k / (16 &* parts) {
          mm_prefetch(p + 2048)
          blockScales(format, weight, p, scales)
          let pairWords = mode == 1 ? 16 : 32
          fourRowsStep(format, p, 0, scales, words, pitch, mode, &first, &second)
          if parts == 16 {
            fourRowsStep(format, p, 1, scales, words + pairWords, pitch, mode, &first, &second)
            fourRowsStep(format, p, 2, scales, words + 2 &* pairWords, pitch, mode, &first, &second)
            fourRowsStep(format, p, 3, scales, words + 3 &* pairWords, pitch, mode, &first, &second)
            fourRowsStep(format, p, 4, scales, words + 4 &* pairWords, pitch, mode, &first, &second)
            fourRowsStep(format, p, 5, scales, words + 5 &* pairWords, pitch, mode, &first, &second)
            fourRowsStep(format, p, 6, scales, words + 6 &* pairWords, pitch, mode, &first, &second)
            fourRowsStep(format, p, 7, scales, words + 7 &* pairWords, pitch, mode, &first, &second)
          }
          words += parts / 2 &* pairWords
          p += gg_bytes(format)
        }
        let to = tile + out
        for row in 0..<4 { to[row &* matmulColumns] = 0 }
        first.put(second, to)
      }
    }
  }

  /// Adds the products of two parts with four rows.
  @inline(__always)
  private static func fourRowsStep(
    _ format: Int32, _ p: UnsafePointer<UInt8>, _ pair: Int, _ scales: UnsafePointer<Float>,
    _ x: UnsafePointer<Float>, _ pitch: Int, _ mode: Int32, _ first: inout RowSums, _ second: inout RowSums
  ) {
    let low = blockPart(format, p, 2 &* pair, scales)
    let high = blockPart(format, p, 2 &* pair &+ 1, scales)
    #if ISA_AVX512BF16
      if mode == 1 { return first.addPairs(mm_row_words(low, high), x, pitch) }
    #endif
    first.add(mode == 0 ? low : mm_round_bf16(low), x, pitch)
    #if ISA_AVX512 || ISA_AVX512BF16
      second.add(mode == 0 ? high : mm_round_bf16(high), x + 16, pitch)
    #else
      // Sixteen registers hold one sum of each row.
      first.add(mode == 0 ? high : mm_round_bf16(high), x + 16, pitch)
    #endif
  }
}
