import CPlatform
import Numerics

// Matrices in the block formats of ggml, decoded to floats. An element is code * scale - minimum, each operation
// rounded, as ggml computes it. What a code and a scale are stands in simd_blocks.h.

extension Kernels {
  /// Calls `body` with the number of the format; each case is a loop of its own in which the number is a constant.
  @inline(__always)
  static func withBlockFormat(_ format: Int32, _ body: (Int32) -> Void) {
    switch format {
    case 2: body(2)
    case 3: body(3)
    case 6: body(6)
    case 7: body(7)
    case 8: body(8)
    case 10: body(10)
    case 11: body(11)
    case 12: body(12)
    case 13: body(13)
    case 14: body(14)
    case 20: body(20)
    case 139: body(139)
    default: body(39)
    }
  }

  /// The sixteen elements of a part of the block at `p`, whose scales and minima were brought to `scales`.
  @inline(__always)
  static func blockPart(
    _ format: Int32, _ p: UnsafePointer<UInt8>, _ part: Int, _ scales: UnsafePointer<Float>
  ) -> Vec16 {
    let scaled = gg_codes(format, p, part) * splat(scales[part])
    return gg_has_minima(format) ? scaled - splat(scales[16 &+ part]) : scaled
  }

  /// The first block of a row.
  @inline(__always)
  static func blockRow(_ weight: UnsafePointer<BlockWeightPointers>, _ row: Int) -> UnsafePointer<UInt8> {
    let (bytes, pitch) = (weight.pointee.bytes, weight.pointee.pitch)
    if let order = weight.pointee.order { return bytes + Int(order[row]) &* pitch }
    guard let partner = weight.pointee.partner else { return bytes + row &* pitch }
    return (row & 1 == 0 ? bytes : partner) + (row &>> 1) &* pitch
  }

  /// Brings the scales and minima of the block at `p` to `scales`.
  @inline(__always)
  static func blockScales(
    _ format: Int32, _ weight: UnsafePointer<BlockWeightPointers>, _ p: UnsafePointer<UInt8>,
    _ scales: UnsafeMutablePointer<Float>
  ) {
    guard gg_is_apart(format) else { return gg_scales(format, p, scales) }
    gg_half_power(weight.pointee.scales.unsafelyUnwrapped[(p - weight.pointee.bytes) &>> 4], scales)
  }

  /// Floats that `blockScales` writes.
  static var blockScaleCount: Int { 32 }

  /// See `BlockKernels.DecodeRow`.
  @inline(never)
  static func decodeBlockRow(_ address: UnsafeRawPointer, _ row: Int, _ target: UnsafeMutablePointer<Float>) {
    let width = address.assumingMemoryBound(to: BlockWeightPointers.self).pointee.in
    decodeBlocks(address, row, 1, 0, width, target, width)
  }

  /// Decodes a rectangle to rows of floats, `pitch` apart. Columns are multiples of 16.
  @inline(never)
  static func decodeBlocks(
    _ address: UnsafeRawPointer, _ firstRow: Int, _ rows: Int, _ firstColumn: Int, _ columns: Int,
    _ target: UnsafeMutablePointer<Float>, _ pitch: Int
  ) {
    let weight = address.assumingMemoryBound(to: BlockWeightPointers.self)
    withBlockFormat(weight.pointee.format) { format in
      decodeLoop(format, weight, firstRow, rows, firstColumn, columns, target, pitch)
    }
  }

  @inline(__always)
  private static func decodeLoop(
    _ format: Int32, _ weight: UnsafePointer<BlockWeightPointers>, _ firstRow: Int, _ rows: Int, _ firstColumn: Int,
    _ columns: Int, _ target: UnsafeMutablePointer<Float>, _ pitch: Int
  ) {
    let parts = gg_parts(format)
    let end = (firstColumn &+ columns) &>> 4
    withUnsafeTemporaryAllocation(of: Float.self, capacity: blockScaleCount) { buffer in
      let scales = buffer.baseAddress.unsafelyUnwrapped
      for row in 0..<rows {
        var part = firstColumn &>> 4
        var p = blockRow(weight, firstRow &+ row) + part / parts &* gg_bytes(format)
        var to = target + row &* pitch
        while part < end {
          blockScales(format, weight, p, scales)
          let first = part & (parts &- 1)
          let stop = min(parts, first &+ end &- part)
          if stop &- first == 16 {
            // Written out, since places and shifts of a part are constants then.
            storePair(format, p, 0, scales, to)
            storePair(format, p, 1, scales, to)
            storePair(format, p, 2, scales, to)
            storePair(format, p, 3, scales, to)
            storePair(format, p, 4, scales, to)
            storePair(format, p, 5, scales, to)
            storePair(format, p, 6, scales, to)
            storePair(format, p, 7, scales, to)
          } else if parts == 2, stop &- first == 2 {
            storePair(format, p, 0, scales, to)
          } else {
            for inside in first..<stop {
              storeFloats(to + (inside &- first) &<< 4, blockPart(format, p, inside, scales))
            }
          }
          to += (stop &- first) &<< 4
          part &+= stop &- first
          p += gg_bytes(format)
        }
      }
    }
  }

  /// Two parts of a block of which the whole goes to `to`.
  @inline(__always)
  private static func storePair(
    _ format: Int32, _ p: UnsafePointer<UInt8>, _ pair: Int, _ scales: UnsafePointer<Float>,
    _ to: UnsafeMutablePointer<Float>
  ) {
    storeFloats(to + pair &<< 5, blockPart(format, p, 2 &* pair, scales))
    storeFloats(to + (pair &<< 5 &+ 16), blockPart(format, p, 2 &* pair &+ 1, scales))
  }

  /// See `BlockKernels.Pack`. A piece that fits the first-level cache is decoded, then packed as floats are.
  @inline(never)
  static func packBlocks(
    _ address: UnsafeRawPointer, _ firstRow: Int, _ rows: Int, _ firstColumn: Int, _ columns: Int,
    _ lanesAreRows: Bool, _ target: UnsafeMutablePointer<Float>, _ laneStride: Int, _ wordStride: Int, _ mode: Int32,
    _ scratch: UnsafeMutablePointer<Float>
  ) {
    let turning = scratch + MatmulKernels.scratchCount - 512
    if !lanesAreRows, laneStride == 1, columns == 16 || columns == 32 && firstColumn & 31 == 0 {
      let weight = address.assumingMemoryBound(to: BlockWeightPointers.self)
      withBlockFormat(weight.pointee.format) { format in
        packAcross(format, weight, firstRow, rows, firstColumn, columns, target, wordStride, mode)
      }
      return
    }
    guard lanesAreRows else {
      decodeBlocks(address, firstRow, rows, firstColumn, columns, scratch, 32)
      pack(scratch, 0, 32, false, columns, rows, target, laneStride, wordStride, mode, turning)
      return
    }
    let pieceColumns = 256
    var row = 0
    while row < rows {
      let height = min(16, rows &- row)
      var column = 0
      while column < columns {
        let width = min(pieceColumns, columns &- column)
        decodeBlocks(address, firstRow &+ row, height, firstColumn &+ column, width, scratch, pieceColumns)
        let words = mode == 1 ? column / 2 : column
        pack(
          scratch, 0, pieceColumns, true, height, width, target + (row &* laneStride &+ words &* wordStride),
          laneStride, wordStride, mode, turning)
        column &+= pieceColumns
      }
      row &+= 16
    }
  }

  /// Decodes one or two parts of each row, which are lanes of a column panel, into its words.
  @inline(__always)
  private static func packAcross(
    _ format: Int32, _ weight: UnsafePointer<BlockWeightPointers>, _ firstRow: Int, _ rows: Int, _ firstColumn: Int,
    _ columns: Int, _ target: UnsafeMutablePointer<Float>, _ wordStride: Int, _ mode: Int32
  ) {
    let parts = gg_parts(format)
    let (block, part) = (firstColumn &>> 4 / parts, firstColumn &>> 4 & (parts &- 1))
    let isWide = columns == 32
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 &* blockScaleCount) { buffer in
      let scales = buffer.baseAddress.unsafelyUnwrapped
      let others = scales + blockScaleCount
      var to = target
      var row = 0
      while row < rows {
        let p = blockRow(weight, firstRow &+ row) + block &* gg_bytes(format)
        blockScales(format, weight, p, scales)
        let low = blockPart(format, p, part, scales)
        let high = isWide ? blockPart(format, p, part &+ 1, scales) : low
        if mode == 1 {
          // A missing last row is zero.
          var (nextLow, nextHigh) = (splat(0), splat(0))
          if row &+ 1 < rows {
            let next = blockRow(weight, firstRow &+ row &+ 1) + block &* gg_bytes(format)
            blockScales(format, weight, next, others)
            nextLow = blockPart(format, next, part, others)
            if isWide { nextHigh = blockPart(format, next, part &+ 1, others) }
          }
          storeFloats(to, unsafeBitCast(mm_pair_words(low, nextLow), to: Vec16.self))
          if isWide { storeFloats(to + 16, unsafeBitCast(mm_pair_words(high, nextHigh), to: Vec16.self)) }
          row &+= 2
        } else {
          storeFloats(to, mode == 0 ? low : mm_round_bf16(low))
          if isWide { storeFloats(to + 16, mode == 0 ? high : mm_round_bf16(high)) }
          row &+= 1
        }
        to += wordStride
      }
    }
  }
}
