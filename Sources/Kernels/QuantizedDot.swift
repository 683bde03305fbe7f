import CPlatform
import Numerics

// One row of x against rows of a quantized matrix, as in generation. Nothing is interleaved: of the 32 codes in 16
// bytes (or 64 in 32) the upper halves give the even elements and the lower halves the odd ones, and x is arranged the
// same way.

extension Kernels {
  /// See `MatmulKernels.SplitEvenOdd`.
  @inline(never)
  static func splitEvenOdd(_ x: UnsafeMutablePointer<Float>, _ count: Int, _ mode: Int32, _ isWide: Bool) {
    var i = 0
    while i < count {
      let (first, second) = (loadFloats(x + i), loadFloats(x + (i &+ 16)))
      let (even, odd) = (mm_even(first, second), mm_odd(first, second))
      if mode != 1 {
        storeFloats(x + i, even)
        storeFloats(x + (i &+ 16), odd)
        i &+= 32
        continue
      }
      guard isWide else {
        storeFloats(x + i / 2, unsafeBitCast(mm_row_words(even, odd), to: Vec16.self))
        i &+= 32
        continue
      }
      let (third, fourth) = (loadFloats(x + (i &+ 32)), loadFloats(x + (i &+ 48)))
      storeFloats(x + i / 2, unsafeBitCast(mm_row_words(even, mm_even(third, fourth)), to: Vec16.self))
      storeFloats(x + (i / 2 &+ 16), unsafeBitCast(mm_row_words(odd, mm_odd(third, fourth)), to: Vec16.self))
      i &+= 64
    }
  }

  /// tile[out] = row (firstOut + out) of the matrix times x; width and block size are multiples of 32.
  @inline(never)
  static func quantizedDot(
    _ weight: UnsafePointer<QuantizedWeightPointers>, _ firstOut: Int, _ outs: Int, _ x: UnsafePointer<Float>,
    _ tile: UnsafeMutablePointer<Float>, _ mode: Int32
  ) {
    #if ISA_AVX512BF16
      if mode == 1, weight.pointee.hasWideSteps { return wideDot(weight, firstOut, outs, x, tile) }
    #endif
    switch mode {
    case 0: quantizedDotLoop(weight, firstOut, outs, x, tile, 0)
    case 1: quantizedDotLoop(weight, firstOut, outs, x, tile, 1)
    default: quantizedDotLoop(weight, firstOut, outs, x, tile, 2)
    }
  }

  @inline(__always)
  private static func quantizedDotLoop(
    _ weight: UnsafePointer<QuantizedWeightPointers>, _ firstOut: Int, _ outs: Int, _ x: UnsafePointer<Float>,
    _ tile: UnsafeMutablePointer<Float>, _ mode: Int32
  ) {
    let book = loadFloats(weight.pointee.codebook)
    let k = weight.pointee.in
    let blockSize = weight.pointee.blockSize
    let start = firstOut &* k
    // Elements of the block that are still to come.
    var block = start / blockSize
    var left = (block &+ 1) &* blockSize &- start
    var scale = splat(blockScale(weight, block))
    var table = blockTable(book, scale, mode)
    var codes = weight.pointee.codes + (start &>> 1)
    let isWhole = weight.pointee.hasWideSteps
    for out in 0..<outs {
      var first = splat(0)
      var second = splat(0)
      var i = 0
      while i < k {
        if left == 0 {
          block &+= 1
          left = blockSize
          scale = splat(blockScale(weight, block))
          table = blockTable(book, scale, mode)
        }
        mm_prefetch(codes + prefetchDistance)
        first = add32(first, table, codes, x, i, scale, mode)
        if isWhole { second = add32(second, table, codes + 16, x, i &+ 32, scale, mode) }
        let count = isWhole ? 64 : 32
        codes += count / 2
        i &+= count
        left &-= count
      }
      tile[out] = mm_sum(first + second)
    }
  }

  /// What a code of a block stands for. Sixteen values are scaled and rounded instead of every weight; in f32 the scale
  /// multiplies the sum of the products.
  @inline(__always)
  private static func blockTable(_ book: Vec16, _ scale: Vec16, _ mode: Int32) -> Vec16 {
    switch mode {
    case 0: book
    case 1: book * scale
    default: mm_round_bf16(book * scale)
    }
  }

  /// sum + the products of 32 weights of one block with x[i...].
  @inline(__always)
  private static func add32(
    _ sum: Vec16, _ table: Vec16, _ codes: UnsafePointer<UInt8>, _ x: UnsafePointer<Float>, _ i: Int, _ scale: Vec16,
    _ mode: Int32
  ) -> Vec16 {
    let bytes = mm_load_bytes(codes)
    let (even, odd) = (mm_lookup16(table, bytes &>> Words16(repeating: 4)), mm_lookup16(table, bytes))
    switch mode {
    case 0:
      return madd(madd(odd, loadFloats(x + (i &+ 16)), even * loadFloats(x + i)), scale, sum)
    #if ISA_AVX512BF16
      case 1:
        return mm_dot_pairs(sum, mm_row_words(even, odd), unsafeBitCast(loadFloats(x + i / 2), to: Words16.self))
    #endif
    default:
      return madd(odd, loadFloats(x + (i &+ 16)), madd(even, loadFloats(x + i), sum))
    }
  }

  /// Bytes from the codes in use to those asked for: a job is too short for the processor to see where it leads.
  private static var prefetchDistance: Int { 2048 }
}

#if ISA_AVX512BF16
  extension Kernels {
    /// Pairs of bfloat16, 64 weights at a time, their words looked up in a table that is scaled and rounded per block.
    @inline(__always)
    private static func wideDot(
      _ weight: UnsafePointer<QuantizedWeightPointers>, _ firstOut: Int, _ outs: Int, _ x: UnsafePointer<Float>,
      _ tile: UnsafeMutablePointer<Float>
    ) {
      let book = loadFloats(weight.pointee.codebook)
      let k = weight.pointee.in
      let blockSize = weight.pointee.blockSize
      let start = firstOut &* k
      var block = start / blockSize
      var left = (block &+ 1) &* blockSize &- start
      var table = mm_word_table(book * splat(blockScale(weight, block)))
      var codes = weight.pointee.codes + (start &>> 1)

      @inline(__always) func step(_ sums: inout (Vec16, Vec16), _ x: UnsafePointer<Float>) {
        if left == 0 {
          block &+= 1
          left = blockSize
          table = mm_word_table(book * splat(blockScale(weight, block)))
        }
        let bytes = mm_load_bytes32(codes)
        sums.0 = mm_dot_pairs(sums.0, mm_lookup_high(table, bytes), unsafeBitCast(loadFloats(x), to: Words16.self))
        sums.1 = mm_dot_pairs(sums.1, mm_lookup_low(table, bytes), unsafeBitCast(loadFloats(x + 16), to: Words16.self))
        codes += 32
        left &-= 64
      }
      for out in 0..<outs {
        // Four sums, because a product of pairs waits for the one before it.
        var sums = (splat(0), splat(0))
        var others = (splat(0), splat(0))
        var i = 0
        while i &+ 128 <= k {
          mm_prefetch(codes + prefetchDistance)
          step(&sums, x + i / 2)
          step(&others, x + (i / 2 &+ 32))
          i &+= 128
        }
        if i < k { step(&sums, x + i / 2) }
        tile[out] = mm_sum((sums.0 + sums.1) + (others.0 + others.1))
      }
    }
  }
#endif
