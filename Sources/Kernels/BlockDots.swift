import CPlatform
import Numerics

// A few rows of x against rows of a matrix in a block format of ggml, as in generation. Codes are decoded in
// registers, once for all rows of a set, and scales multiply sums of products; simd_block_dots.h says how. What is
// added to a row's sum, and in which order, does not depend on how many rows there are.

extension Kernels {
  /// Most rows of x that `blockDots` takes: further ones are a pass of their own over the same codes.
  static var mostBlockRows: Int {
    #if ISA_AVX512 || ISA_AVX512BF16
      16
    #else
      8
    #endif
  }

  /// Rows of the next set of those that are left.
  @inline(__always)
  static func blockSet(_ left: Int) -> Int {
    #if ISA_AVX512 || ISA_AVX512BF16
      left == 1 ? 1 : left <= 4 ? 4 : 8
    #else
      left == 1 ? 1 : 4
    #endif
  }

  /// See `BlockKernels.Dots`.
  @inline(never)
  static func blockDots(
    _ address: UnsafeRawPointer, _ firstOut: Int, _ outs: Int, _ x: UnsafePointer<Float>, _ rows: Int, _ pitch: Int,
    _ tile: UnsafeMutablePointer<Float>, _ mode: Int32
  ) {
    let weight = address.assumingMemoryBound(to: BlockWeightPointers.self)
    let sums = tile + mostBlockRows &* matmulColumns
    var row = 0
    while row < rows {
      let part = BlockDotsPart(
        weight: weight, firstOut: firstOut, outs: outs, x: x + row &* pitch, tile: tile + row &* matmulColumns,
        sums: sums)
      let set = blockSet(rows &- row)
      #if ISA_AVX512BF16
        if mode == 1 {
          if set == 1 { oneRowOfPairs(part) } else if set == 4 { fourRowsOfPairs(part) } else { eightRowsOfPairs(part) }
          row &+= set
          continue
        }
      #endif
      if set == 1 {
        oneRow(part)
      } else if set == 4 {
        fourRows(part)
      } else {
        #if ISA_AVX512 || ISA_AVX512BF16
          eightRows(part)
        #endif
      }
      row &+= set
    }
  }

  @inline(never)
  private static func oneRow(_ part: BlockDotsPart) {
    withBlockFormat(part.weight.pointee.format) { part.run(gg_loop(format: $0, rows: 1, is_pairs: false)) }
  }

  @inline(never)
  private static func fourRows(_ part: BlockDotsPart) {
    withBlockFormat(part.weight.pointee.format) { part.run(gg_loop(format: $0, rows: 4, is_pairs: false)) }
  }

  #if ISA_AVX512 || ISA_AVX512BF16
    @inline(never)
    private static func eightRows(_ part: BlockDotsPart) {
      withBlockFormat(part.weight.pointee.format) { part.run(gg_loop(format: $0, rows: 8, is_pairs: false)) }
    }
  #endif

  #if ISA_AVX512BF16
    @inline(never)
    private static func oneRowOfPairs(_ part: BlockDotsPart) {
      withBlockFormat(part.weight.pointee.format) { part.run(gg_loop(format: $0, rows: 1, is_pairs: true)) }
    }

    @inline(never)
    private static func fourRowsOfPairs(_ part: BlockDotsPart) {
      withBlockFormat(part.weight.pointee.format) { part.run(gg_loop(format: $0, rows: 4, is_pairs: true)) }
    }

    @inline(never)
    private static func eightRowsOfPairs(_ part: BlockDotsPart) {
      withBlockFormat(part.weight.pointee.format) { part.run(gg_loop(format: $0, rows: 8, is_pairs: true)) }
    }
  #endif
}

/// Rows of the matrix and a set of arranged rows of x.
private struct BlockDotsPart {
  let weight: UnsafePointer<BlockWeightPointers>
  let firstOut: Int
  let outs: Int
  let x: UnsafePointer<Float>
  let tile: UnsafeMutablePointer<Float>
  /// Sums of all rows, sixteen for each.
  let sums: UnsafeMutablePointer<Float>

  /// Floats of several rows of x that are taken at a time: they stay in the first-level cache while rows of the matrix
  /// pass. A single row is taken as a whole, so that the codes are read as one stream.
  private static var floatsOfStrip: Int { 5120 }

  /// Bytes from the codes in use to those asked for, at the pace of one thread on memory of its own.
  private static var bytesAhead: Int { 4096 }

  /// The blocks of a row of the matrix, and their scales where these lie elsewhere.
  @inline(__always)
  private func place(_ out: Int, _ format: Int32) -> (UnsafePointer<UInt8>, UnsafePointer<UInt8>?) {
    let start = Kernels.blockRow(weight, firstOut &+ out)
    guard gg_is_apart(format) else { return (start, nil) }
    return (start, weight.pointee.scales.unsafelyUnwrapped + (start - weight.pointee.bytes) &>> 4)
  }

  /// tile[row][out] = row (firstOut + out) of the matrix times each row of x. `loop` is a constant.
  @inline(__always)
  func run(_ loop: gg_loop) {
    if loop.rows == 1, !loop.is_pairs, gg_is_single(loop.format) { return runTwo(loop) }
    runStrips(loop, from: 0)
  }

  /// One row of x, floats, with two rows of the matrix at a time.
  @inline(__always)
  private func runTwo(_ loop: gg_loop) {
    var out = 0
    while out &+ 2 <= outs {
      let (first, second) = (place(out, loop.format), place(out &+ 1, loop.format))
      gg_add_two_rows(
        loop.format, first.0, second.0, first.1, second.1, weight.pointee.in, Self.bytesAhead, x, sums)
      tile[out] = mm_sum(loadFloats(sums))
      tile[out &+ 1] = mm_sum(loadFloats(sums + 16))
      out &+= 2
    }
    if out < outs { runStrips(loop, from: out) }
  }

  /// The same of rows of the matrix from `firstOfPart` on.
  @inline(__always)
  private func runStrips(_ loop: gg_loop, from firstOfPart: Int) {
    let k = weight.pointee.in
    let step = gg_group_stride(loop.format, loop.is_pairs) &* loop.rows
    // A multiple of 256, so that a strip ends with a block.
    let strip = loop.rows == 1 ? k : max(256, (Self.floatsOfStrip / step) &<< 7 & ~255)
    let blockSize = 16 &* gg_parts(loop.format)
    var first = 0
    while first < k {
      let count = min(strip, k &- first)
      // The same strip of a later row, but of a whole row what follows.
      let rowsAhead = max(1, 4096 / count)
      for out in firstOfPart..<outs {
        let (start, scales) = place(out, loop.format)
        var ahead = Self.bytesAhead
        if count < k {
          let later = min(weight.pointee.out &- 1, firstOut &+ out &+ rowsAhead)
          ahead = Kernels.blockRow(weight, later) - start
        }
        let p = start + first / blockSize &* gg_bytes(loop.format)
        let apart = scales.map { $0 + first / blockSize }
        let kept = sums + out &* loop.rows &* 16
        gg_add_strip(loop, p, apart, count, ahead, x + first &>> 7 &* step, first == 0, kept)
        guard first &+ count == k else { continue }
        for r in 0..<loop.rows { tile[r &* Kernels.matmulColumns &+ out] = mm_sum(loadFloats(kept + r &* 16)) }
      }
      first &+= count
    }
  }
}
