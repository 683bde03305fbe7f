import CPlatform
import Numerics

// One row of x against rows of a quantized matrix, as in generation. Nothing is interleaved: of the 32 codes in 16 bytes
// the upper halves give the even elements and the lower halves the odd ones, and x is arranged the same way.

extension Kernels {
  /// See `MatmulKernels.SplitEvenOdd`.
  @inline(never)
  static func splitEvenOdd(_ x: UnsafeMutablePointer<Float>, _ count: Int, _ mode: Int32) {
    var i = 0
    while i < count {
      let (first, second) = (loadFloats(x + i), loadFloats(x + (i &+ 16)))
      let (even, odd) = (mm_even(first, second), mm_odd(first, second))
      if mode == 1 {
        storeFloats(x + i / 2, unsafeBitCast(mm_row_words(even, odd), to: F16.self))
      } else {
        storeFloats(x + i, even)
        storeFloats(x + (i &+ 16), odd)
      }
      i &+= 32
    }
  }

  /// tile[out] = row (firstOut + out) of the matrix times x; width and block size are multiples of 32.
  @inline(never)
  static func quantizedDot(
    _ weight: UnsafePointer<QuantizedWeightPointers>, _ firstOut: Int, _ outs: Int, _ x: UnsafePointer<Float>,
    _ tile: UnsafeMutablePointer<Float>, _ mode: Int32
  ) {
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
    let table = loadFloats(weight.pointee.codebook)
    let k = weight.pointee.in
    let blockSize = weight.pointee.blockSize
    let four = U16(repeating: 4)
    let start = firstOut &* k
    var block = start / blockSize
    // Elements of the block that are still to come.
    var left = (block &+ 1) &* blockSize &- start
    var scale = splat(blockScale(weight, block))
    var codes = weight.pointee.codes + (start &>> 1)
    for out in 0..<outs {
      var even = splat(0)
      var odd = splat(0)
      var i = 0
      while i < k {
        if left == 0 {
          block &+= 1
          left = blockSize
          scale = splat(blockScale(weight, block))
        }
        let count = min(left, k &- i)
        var a = splat(0)
        var b = splat(0)
        let end = i &+ count
        while i < end {
          let bytes = mm_load_bytes(codes)
          let (e, o) = (mm_lookup16(table, bytes &>> four), mm_lookup16(table, bytes))
          switch mode {
          case 0:
            // The scale multiplies the sum of the block instead of each weight.
            a = madd(e, loadFloats(x + i), a)
            b = madd(o, loadFloats(x + (i &+ 16)), b)
          #if ISA_AVX512BF16
            case 1:
              let words = mm_row_words(e * scale, o * scale)
              let sum = i & 32 == 0 ? even : odd
              let next = mm_dot_pairs(sum, words, unsafeBitCast(loadFloats(x + i / 2), to: U16.self))
              if i & 32 == 0 { even = next } else { odd = next }
          #endif
          default:
            even = madd(mm_round_bf16(e * scale), loadFloats(x + i), even)
            odd = madd(mm_round_bf16(o * scale), loadFloats(x + (i &+ 16)), odd)
          }
          codes += 16
          i &+= 32
        }
        if mode == 0 {
          even = madd(a, scale, even)
          odd = madd(b, scale, odd)
        }
        left &-= count
      }
      tile[out] = mm_sum(even + odd)
    }
  }
}
