import CPlatform
import Numerics

// A few rows of x against rows of a quantized matrix, as in generation. Every code is looked up once for four rows (or
// eight, where the registers suffice), in an order that x was arranged in before.

extension Kernels {
  /// See `MatmulKernels.SplitEvenOdd`.
  @inline(never)
  static func splitEvenOdd(_ x: UnsafeMutablePointer<Float>, _ count: Int, _ mode: Int32, _ isWide: Bool) {
    var i = 0
    while i < count {
      let (first, second) = (loadFloats(x + i), loadFloats(x + (i &+ 16)))
      let (even, odd) = (mm_even(first, second), mm_odd(first, second))
      guard isWide else {
        if mode == 1 {
          storeFloats(x + i / 2, unsafeBitCast(mm_row_words(even, odd), to: Vec16.self))
        } else {
          storeFloats(x + i, even)
          storeFloats(x + (i &+ 16), odd)
        }
        i &+= 32
        continue
      }
      let (third, fourth) = (loadFloats(x + (i &+ 32)), loadFloats(x + (i &+ 48)))
      let (nextEven, nextOdd) = (mm_even(third, fourth), mm_odd(third, fourth))
      if mode == 1 {
        storeFloats(x + i / 2, unsafeBitCast(mm_row_words(even, nextEven), to: Vec16.self))
        storeFloats(x + (i / 2 &+ 16), unsafeBitCast(mm_row_words(odd, nextOdd), to: Vec16.self))
      } else {
        let (evens, odds) = (CodeTable.arranged(even, nextEven), CodeTable.arranged(odd, nextOdd))
        storeFloats(x + i, evens.0)
        storeFloats(x + (i &+ 16), evens.1)
        storeFloats(x + (i &+ 32), odds.0)
        storeFloats(x + (i &+ 48), odds.1)
      }
      i &+= 64
    }
  }

  /// See `MatmulKernels.QuantizedDots`. Mode and number of rows are made constants of each loop.
  @inline(never)
  static func quantizedDots(
    _ address: UnsafeRawPointer, _ firstOut: Int, _ outs: Int, _ x: UnsafePointer<Float>, _ rows: Int, _ pitch: Int,
    _ tile: UnsafeMutablePointer<Float>, _ mode: Int32
  ) {
    let weight = address.assumingMemoryBound(to: QuantizedWeightPointers.self)
    guard weight.pointee.hasWideSteps else { return narrowDot(weight, firstOut, outs, x, tile, mode) }
    withUnsafeTemporaryAllocation(of: Float.self, capacity: BlockScales.tableCount) { buffer in
      let part = MatrixPart(
        weight: weight, firstOut: firstOut, outs: outs, scales: buffer.baseAddress.unsafelyUnwrapped)
      if rows == 1 { return mode == 0 ? oneRow(part, x, tile) : onePairs(part, x, pitch, tile) }
      var row = 0
      while row < rows {
        let (from, to) = (x + row &* pitch, tile + row &* matmulColumns)
        #if ISA_AVX512 || ISA_AVX512BF16
          if rows > 4 {
            if mode == 0 { eightRows(part, from, pitch, to) } else { eightPairs(part, from, pitch, to) }
            row &+= 8
            continue
          }
        #endif
        if mode == 0 { fourRows(part, from, pitch, to) } else { fourPairs(part, from, pitch, to) }
        row &+= 4
      }
    }
  }

  #if ISA_AVX512BF16
    /// Four sums for one row, because a product of pairs waits long for the one before it.
    @inline(never)
    private static func onePairs(
      _ part: MatrixPart, _ x: UnsafePointer<Float>, _ pitch: Int, _ tile: UnsafeMutablePointer<Float>
    ) {
      let book = loadFloats(part.weight.pointee.codebook)
      var scales = BlockScales(part.weight, part.scales)
      let (k, blockSize) = (part.weight.pointee.in, part.weight.pointee.blockSize)
      var (codes, block, left) = part.place(0, 0)
      var table = mm_word_table(book * splat(scales[block]))

      @inline(__always) func step(_ sums: inout (Vec16, Vec16), _ x: UnsafePointer<Float>) {
        if left == 0 {
          block &+= 1
          left = blockSize
          table = mm_word_table(book * splat(scales[block]))
        }
        let bytes = mm_load_bytes32(codes)
        sums.0 = pairProducts(sums.0, mm_lookup_high(table, bytes), x)
        sums.1 = pairProducts(sums.1, mm_lookup_low(table, bytes), x + 16)
        codes += 32
        left &-= 64
      }
      for out in 0..<part.outs {
        var sums = (splat(0), splat(0))
        var others = (splat(0), splat(0))
        var i = 0
        while i &+ 128 <= k {
          mm_prefetch(codes + part.prefetchDistance)
          step(&sums, x + i / 2)
          step(&others, x + (i / 2 &+ 32))
          i &+= 128
        }
        if i < k { step(&sums, x + i / 2) }
        tile[out] = mm_sum((sums.0 + sums.1) + (others.0 + others.1))
      }
    }
  #else
    @inline(never)
    private static func onePairs(
      _ part: MatrixPart, _ x: UnsafePointer<Float>, _ pitch: Int, _ tile: UnsafeMutablePointer<Float>
    ) {
      someRows(part, x, pitch, tile, 1, pairs)
    }
  #endif

  @inline(never)
  private static func fourRows(
    _ part: MatrixPart, _ x: UnsafePointer<Float>, _ pitch: Int, _ tile: UnsafeMutablePointer<Float>
  ) {
    someRows(part, x, pitch, tile, 4, 0)
  }

  @inline(never)
  private static func fourPairs(
    _ part: MatrixPart, _ x: UnsafePointer<Float>, _ pitch: Int, _ tile: UnsafeMutablePointer<Float>
  ) {
    someRows(part, x, pitch, tile, 4, pairs)
  }

  #if ISA_AVX512 || ISA_AVX512BF16
    @inline(never)
    private static func eightRows(
      _ part: MatrixPart, _ x: UnsafePointer<Float>, _ pitch: Int, _ tile: UnsafeMutablePointer<Float>
    ) {
      someRows(part, x, pitch, tile, 8, 0)
    }

    @inline(never)
    private static func eightPairs(
      _ part: MatrixPart, _ x: UnsafePointer<Float>, _ pitch: Int, _ tile: UnsafeMutablePointer<Float>
    ) {
      someRows(part, x, pitch, tile, 8, pairs)
    }
  #endif

  /// The mode of bfloat16 products of this build.
  @inline(__always)
  private static var pairs: Int32 {
    #if ISA_AVX512BF16
      1
    #else
      2
    #endif
  }

  /// Words of several rows of x that are taken at a time: they stay in the first-level cache while rows of the matrix
  /// pass. For a single row that would not make up for codes that are no longer read as one stream.
  @inline(__always)
  private static var wordsOfStrip: Int { 4096 }

  /// tile[out] = row (firstOut + out) of the matrix times x, in f32: the scale multiplies the sum of a block's
  /// products.
  @inline(never)
  private static func oneRow(_ part: MatrixPart, _ x: UnsafePointer<Float>, _ tile: UnsafeMutablePointer<Float>) {
    let table = CodeTable(loadFloats(part.weight.pointee.codebook))
    var scales = BlockScales(part.weight, part.scales)
    let (k, blockSize) = (part.weight.pointee.in, part.weight.pointee.blockSize)
    // Rows follow each other, and so do their codes and blocks: to find them anew would divide once a row.
    var (codes, block, left) = part.place(0, 0)
    for out in 0..<part.outs {
      var sum = splat(0)
      var i = 0
      while i < k {
        let scale = splat(scales[block])
        let stop = min(k, i &+ left)
        left &-= stop &- i
        while i < stop {
          mm_prefetch(codes + part.prefetchDistance)
          let (even, odd) = (table.even(codes), table.odd(codes))
          var products = even.0 * loadFloats(x + i)
          products = madd(even.1, loadFloats(x + (i &+ 16)), products)
          products = madd(odd.0, loadFloats(x + (i &+ 32)), products)
          products = madd(odd.1, loadFloats(x + (i &+ 48)), products)
          sum = madd(products, scale, sum)
          codes += 32
          i &+= 64
        }
        if left == 0 {
          block &+= 1
          left = blockSize
        }
      }
      tile[out] = mm_sum(sum)
    }
  }

  /// The same for 1, 4 or 8 rows of x, with the exact values of the weights: the table is scaled (and rounded) for
  /// every block. `rows` and `mode` are constants.
  @inline(__always)
  private static func someRows(
    _ part: MatrixPart, _ x: UnsafePointer<Float>, _ pitch: Int, _ tile: UnsafeMutablePointer<Float>, _ rows: Int,
    _ mode: Int32
  ) {
    let book = loadFloats(part.weight.pointee.codebook)
    var scales = BlockScales(part.weight, part.scales)
    let (k, blockSize) = (part.weight.pointee.in, part.weight.pointee.blockSize)
    let shift = mode == 1 ? 1 : 0
    var first = 0
    while first < k {
      let end = rows == 1 ? k : min(k, first &+ (wordsOfStrip / rows) &<< shift)
      // Codes of the same strip, some rows on.
      let ahead = end &- first == k ? part.prefetchDistance : max(1, 4096 / (end &- first)) &* k / 2
      for out in 0..<part.outs {
        var (codes, block, left) = part.place(out, first)
        var (even, odd, even4, odd4) = (RowSums(), RowSums(), RowSums(), RowSums())
        var i = first
        while i < end {
          let table = BlockTable(book, scales[block], mode)
          let stop = min(end, i &+ left)
          while i < stop {
            mm_prefetch(codes + ahead)
            let words = x + (i &>> shift)
            switch rows {
            case 1: table.multiply(codes, words, &even.r0, &odd.r0, mode)
            case 4: table.multiply(codes, words, pitch, &even, &odd, mode)
            default: table.multiply(codes, words, pitch, &even, &odd, &even4, &odd4, mode)
            }
            codes += 32
            i &+= 64
          }
          block &+= 1
          left = blockSize
        }
        let to = tile + out
        if first == 0 { for row in 0..<rows { to[row &* matmulColumns] = 0 } }
        if rows == 1 {
          to.pointee += mm_sum(even.r0 + odd.r0)
        } else {
          even.put(odd, to)
          if rows == 8 { even4.put(odd4, to + 4 &* matmulColumns) }
        }
      }
      first = end
    }
  }
}
