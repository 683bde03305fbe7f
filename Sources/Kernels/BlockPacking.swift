import CPlatform
import Numerics

// Rectangles of matrices in the block formats of ggml as panels of a product. Pairs of parts, which are 32 columns,
// become words as simd_packing.h says.

extension Kernels {
  /// Calls `body` with the mode, which is a constant in each case. Only builds whose products take pairs pack them.
  @inline(__always)
  private static func withMode(_ mode: Int32, _ body: (Int32) -> Void) {
    switch mode {
    case 0: body(0)
    #if ISA_AVX512BF16 || ISA_NEON_BF16
      case 1: body(1)
    #endif
    default: body(2)
    }
  }

  /// What is wanted of a block before `count` of its pairs, from `first` on, are packed.
  @inline(__always)
  private static func prepare(
    _ format: Int32, _ weight: UnsafePointer<BlockWeightPointers>, _ p: UnsafePointer<UInt8>, _ first: Int,
    _ count: Int, _ mode: Int32, _ scales: UnsafeMutablePointer<Float>
  ) {
    blockScales(format, weight, p, scales)
    if mode == 1 { gg_put_tables(format, scales, first, count) }
  }

  /// Fetches the cache lines of `count` bytes, which may begin inside of one; any address will do.
  @inline(__always)
  static func prefetch(_ p: UnsafePointer<UInt8>, _ count: Int) {
    var line = 0
    while line < count &- 1 {
      mm_prefetch(p + line)
      line &+= 64
    }
    mm_prefetch(p + (count &- 1))
  }

  /// Packs a rectangle whose columns are multiples of 32 with the words of a row side by side, rows `pitch` apart. What
  /// lies `ahead` bytes after each block is wanted next.
  @inline(never)
  static func packBlocksAlong(
    _ weight: UnsafePointer<BlockWeightPointers>, _ firstRow: Int, _ rows: Int, _ firstColumn: Int, _ columns: Int,
    _ target: UnsafeMutablePointer<Float>, _ pitch: Int, _ mode: Int32, _ ahead: Int
  ) {
    withBlockFormat(weight.pointee.format) { format in
      withMode(mode) { mode in
        packAlong(format, weight, firstRow, rows, firstColumn, columns, target, pitch, mode, ahead)
      }
    }
  }

  @inline(__always)
  private static func packAlong(
    _ format: Int32, _ weight: UnsafePointer<BlockWeightPointers>, _ firstRow: Int, _ rows: Int, _ firstColumn: Int,
    _ columns: Int, _ target: UnsafeMutablePointer<Float>, _ pitch: Int, _ mode: Int32, _ ahead: Int
  ) {
    let pairs = gg_parts(format) / 2
    let words = mode == 1 ? 16 : 32
    let end = (firstColumn &+ columns) &>> 5
    withUnsafeTemporaryAllocation(of: Float.self, capacity: gg_prepared_count()) { buffer in
      let scales = buffer.baseAddress.unsafelyUnwrapped
      for row in 0..<rows {
        var pair = firstColumn &>> 5
        var p = blockRow(weight, firstRow &+ row) + pair / pairs &* gg_bytes(format)
        var to = target + row &* pitch
        while pair < end {
          let first = pair & (pairs &- 1)
          let count = pairs == 1 ? 1 : min(pairs &- first, end &- pair)
          prefetch(p + ahead, gg_bytes(format))
          prepare(format, weight, p, first, count, mode, scales)
          if count == 8 {
            // Written out, since places and shifts of a pair are constants then.
            gg_pack_along(format, p, 0, scales, mode, to)
            gg_pack_along(format, p, 1, scales, mode, to + words)
            gg_pack_along(format, p, 2, scales, mode, to + 2 &* words)
            gg_pack_along(format, p, 3, scales, mode, to + 3 &* words)
            gg_pack_along(format, p, 4, scales, mode, to + 4 &* words)
            gg_pack_along(format, p, 5, scales, mode, to + 5 &* words)
            gg_pack_along(format, p, 6, scales, mode, to + 6 &* words)
            gg_pack_along(format, p, 7, scales, mode, to + 7 &* words)
          } else if pairs == 1 {
            gg_pack_along(format, p, 0, scales, mode, to)
          } else {
            for index in 0..<count {
              gg_pack_along(format, p, first &+ index, scales, mode, to + index &* words)
            }
          }
          to += count &* words
          pair &+= count
          p += gg_bytes(format)
        }
      }
    }
  }

  /// See `BlockKernels.PackRows`.
  @inline(never)
  static func packBlockRows(
    _ address: UnsafeRawPointer, _ firstRow: Int, _ rows: Int, _ firstColumn: Int, _ columns: Int,
    _ target: UnsafeMutablePointer<Float>, _ laneStride: Int, _ wordStride: Int, _ mode: Int32,
    _ scratch: UnsafeMutablePointer<Float>
  ) {
    let weight = address.assumingMemoryBound(to: BlockWeightPointers.self)
    let format = weight.pointee.format
    // The next block of the contraction.
    let ahead = columns &>> 4 / gg_parts(format) &* gg_bytes(format)
    if wordStride == 1 {
      packBlocksAlong(weight, firstRow, rows, firstColumn, columns, target, laneStride, mode, ahead)
      return
    }
    if mode != 1 {
      packBlockLanes(weight, firstRow, rows, firstColumn, columns, target, wordStride, mode == 2, scratch, ahead)
      return
    }
    // Sixteen rows at a time, turned by way of a piece that fits the first-level cache.
    let (pieceColumns, pitch) = (256, 128)
    var row = 0
    while row < rows {
      var column = 0
      while column < columns {
        let width = min(pieceColumns, columns &- column)
        packBlocksAlong(
          weight, firstRow &+ row, min(16, rows &- row), firstColumn &+ column, width, scratch, pitch, mode, ahead)
        var word = 0
        while word < width / 2 {
          mm_transpose16(scratch + word, pitch, target + (row &+ (column / 2 &+ word) &* wordStride), wordStride)
          word &+= 16
        }
        column &+= pieceColumns
      }
      row &+= 16
    }
  }

  /// See `BlockKernels.PackColumns`.
  @inline(never)
  static func packBlockColumns(
    _ address: UnsafeRawPointer, _ firstRow: Int, _ rows: Int, _ firstColumn: Int, _ columns: Int,
    _ target: UnsafeMutablePointer<Float>, _ panelPitch: Int, _ mode: Int32
  ) {
    let weight = address.assumingMemoryBound(to: BlockWeightPointers.self)
    withBlockFormat(weight.pointee.format) { format in
      withMode(mode) { mode in
        packAcross(format, weight, firstRow, rows, firstColumn, columns, target, panelPitch, mode)
      }
    }
  }

  /// Rows whose blocks are fetched before they are wanted: their pages are too far apart for the processor to see.
  private static let rowsAhead = 16

  @inline(__always)
  private static func packAcross(
    _ format: Int32, _ weight: UnsafePointer<BlockWeightPointers>, _ firstRow: Int, _ rows: Int, _ firstColumn: Int,
    _ columns: Int, _ target: UnsafeMutablePointer<Float>, _ panelPitch: Int, _ mode: Int32
  ) {
    let (pairs, bytes) = (gg_parts(format) / 2, gg_bytes(format))
    let (firstPair, end) = (firstColumn &>> 5, (firstColumn &+ columns &+ 31) &>> 5)
    let start = firstPair / pairs &* bytes
    let span = (end &+ pairs &- 1) / pairs &* bytes &- start
    let ahead = rowsAhead &* weight.pointee.pitch
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 &* gg_prepared_count()) { buffer in
      let scales = buffer.baseAddress.unsafelyUnwrapped
      let others = scales + gg_prepared_count()
      var to = target
      var row = 0
      while row < rows {
        var p = blockRow(weight, firstRow &+ row) + start
        prefetch(p + ahead, span)
        // A missing last row is zero.
        var q: UnsafePointer<UInt8>?
        if mode == 1, row &+ 1 < rows {
          let next = blockRow(weight, firstRow &+ row &+ 1) + start
          prefetch(next + ahead, span)
          q = next
        }
        var pair = firstPair
        while pair < end {
          let first = pair & (pairs &- 1)
          // `min` of what is no constant is a call.
          let count = pairs == 1 ? 1 : min(pairs &- first, end &- pair)
          prepare(format, weight, p, first, count, mode, scales)
          if let q { prepare(format, weight, q, first, count, mode, others) }
          @inline(__always) func pack(_ index: Int, _ inside: Int) {
            let lane = (pair &+ index) &<< 5 &- firstColumn
            if matmulColumns == 32 {
              let panel = to + lane &>> 5 &* panelPitch
              gg_pack_across(format, p, q, inside, scales, others, mode, panel, panel + 16)
            } else {
              // A panel may begin or end with the second part of a pair.
              let panel = to + lane &>> 4 &* panelPitch
              gg_pack_across(
                format, p, q, inside, scales, others, mode, lane < 0 ? nil : panel,
                lane &+ 16 < columns ? panel + panelPitch : nil)
            }
          }
          // Halves of a block are written out, since shifts of a pair are constants then.
          let hasLower = pairs == 8 && first == 0 && count >= 4
          let hasUpper = pairs == 8 && first &+ count == 8 && count >= 4
          if hasLower {
            pack(0, 0)
            pack(1, 1)
            pack(2, 2)
            pack(3, 3)
          }
          var index = hasLower ? 4 : 0
          let stop = hasUpper ? count &- 4 : count
          while index < stop {
            pack(index, first &+ index)
            index &+= 1
          }
          if hasUpper {
            pack(stop, 4)
            pack(stop &+ 1, 5)
            pack(stop &+ 2, 6)
            pack(stop &+ 3, 7)
          }
          pair &+= count
          p += bytes
          if let next = q { q = next + bytes }
        }
        to += matmulColumns
        row &+= mode == 1 ? 2 : 1
      }
    }
  }
}
