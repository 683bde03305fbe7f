import CPlatform
import Numerics

// Rows of a matrix in a block format of ggml as the lanes of a panel.

extension Kernels {
  /// Decodes sixteen rows at a time into words of sixteen lanes, rounded to bfloat16 if wanted. Their codes are turned,
  /// which are a quarter of what they stand for. Lanes beyond `rows` repeat the last row; their sums are never read.
  @inline(never)
  static func packBlockLanes(
    _ weight: UnsafePointer<BlockWeightPointers>, _ firstRow: Int, _ rows: Int, _ firstColumn: Int, _ columns: Int,
    _ target: UnsafeMutablePointer<Float>, _ wordStride: Int, _ rounds: Bool, _ scratch: UnsafeMutablePointer<Float>,
    _ ahead: Int
  ) {
    withBlockFormat(weight.pointee.format) { format in
      packLanes(format, weight, firstRow, rows, firstColumn, columns, target, wordStride, rounds, scratch, ahead)
    }
  }

  @inline(__always)
  private static func packLanes(
    _ format: Int32, _ weight: UnsafePointer<BlockWeightPointers>, _ firstRow: Int, _ rows: Int, _ firstColumn: Int,
    _ columns: Int, _ target: UnsafeMutablePointer<Float>, _ wordStride: Int, _ rounds: Bool,
    _ scratch: UnsafeMutablePointer<Float>, _ ahead: Int
  ) {
    let (pairs, bytes) = (gg_parts(format) / 2, gg_bytes(format))
    let (firstPair, end) = (firstColumn &>> 5, (firstColumn &+ columns) &>> 5)
    // Codes by lane and by word, then what the lanes have for each part: scales and minima by lane, and by part.
    let (codes, words, prepared) = (scratch, scratch + 128, scratch + 256)
    let (scales, minima) = (scratch + 768, scratch + 1024)
    withUnsafeTemporaryAllocation(of: UnsafePointer<UInt8>.self, capacity: 16) { buffer in
      let blocks = buffer.baseAddress.unsafelyUnwrapped
      var lane = 0
      while lane < rows {
        for l in 0..<16 {
          blocks[l] = blockRow(weight, firstRow &+ min(lane &+ l, rows &- 1)) + firstPair / pairs &* bytes
        }
        var to = target + lane
        for pair in firstPair..<end {
          let inside = pair & (pairs &- 1)
          if inside == 0 || pair == firstPair {
            prepareLanes(format, weight, blocks, prepared, scales, minima, ahead)
          }
          for l in 0..<16 {
            let values = gg_pair_codes(format, blocks[l], inside)
            UnsafeMutableRawPointer(codes + l &* 8).storeBytes(of: values, as: gg_i8x32.self)
            if inside == pairs &- 1 { blocks[l] += bytes }
          }
          mm_transpose8(codes, 8, words, 16)
          mm_transpose8(codes + 64, 8, words + 8, 16)
          let part = pairs == 1 ? 0 : inside &* 32
          gg_pack_lanes(format, words, scales + part, minima + part, rounds, to, wordStride)
          to += 32 &* wordStride
        }
        lane &+= 16
      }
    }
  }

  /// The scales and minima of sixteen blocks, by part and lane.
  @inline(__always)
  private static func prepareLanes(
    _ format: Int32, _ weight: UnsafePointer<BlockWeightPointers>, _ blocks: UnsafePointer<UnsafePointer<UInt8>>,
    _ prepared: UnsafeMutablePointer<Float>, _ scales: UnsafeMutablePointer<Float>,
    _ minima: UnsafeMutablePointer<Float>, _ ahead: Int
  ) {
    // Blocks of 32 have a scale, and what is added where they have minima.
    let isLarge = gg_parts(format) > 2
    let count = isLarge ? 32 : gg_has_minima(format) ? 2 : 1
    let target = count == 1 ? scales : prepared
    for l in 0..<16 {
      prefetch(blocks[l] + ahead, gg_bytes(format))
      blockScales(format, weight, blocks[l], target + l &* count)
    }
    if isLarge {
      mm_transpose16(prepared, 32, scales, 16)
      if gg_has_minima(format) { mm_transpose16(prepared + 16, 32, minima, 16) }
    } else if gg_has_minima(format) {
      for l in 0..<16 {
        scales[l] = prepared[l &* 2]
        minima[l] = prepared[l &* 2 &+ 1]
      }
    }
  }
}
