import CPlatform
import Numerics

// One row of x against rows of a quantized matrix whose rows or blocks are groups of 32 elements, but not of 64.

extension Kernels {
  /// tile[out] = row (firstOut + out) of the matrix times x.
  @inline(never)
  static func narrowDot(
    _ weight: UnsafePointer<QuantizedWeightPointers>, _ firstOut: Int, _ outs: Int, _ x: UnsafePointer<Float>,
    _ tile: UnsafeMutablePointer<Float>, _ mode: Int32
  ) {
    switch mode {
    case 0: narrowLoop(weight, firstOut, outs, x, tile, 0)
    case 1: narrowLoop(weight, firstOut, outs, x, tile, 1)
    default: narrowLoop(weight, firstOut, outs, x, tile, 2)
    }
  }

  @inline(__always)
  private static func narrowLoop(
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
    for out in 0..<outs {
      var first = splat(0)
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
        codes += 16
        i &+= 32
        left &-= 32
      }
      tile[out] = mm_sum(first)
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

  /// Bytes from the codes in use to those asked for.
  private static var prefetchDistance: Int { 2048 }
}
