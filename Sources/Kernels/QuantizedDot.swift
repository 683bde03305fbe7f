import CPlatform
import Numerics

// One row of x against rows of a quantized matrix, as in generation. Nothing is interleaved: of the 32 codes in 16 bytes
// the upper halves give the even elements and the lower halves the odd ones, and x is split the same way. The scale of a
// block multiplies its sum instead of its weights.

extension Kernels {
  /// Splits groups of 32 floats into 16 with even and 16 with odd index, in place.
  @inline(never)
  static func splitEvenOdd(_ x: UnsafeMutablePointer<Float>, _ count: Int) {
    var i = 0
    while i < count {
      let (first, second) = (loadFloats(x + i), loadFloats(x + (i &+ 16)))
      storeFloats(x + i, mm_even(first, second))
      storeFloats(x + (i &+ 16), mm_odd(first, second))
      i &+= 32
    }
  }

  /// tile[out] = row (firstOut + out) of the matrix times x; width and block size are multiples of 32.
  @inline(never)
  static func quantizedDot(
    _ weight: UnsafePointer<QuantizedWeightPointers>, _ firstOut: Int, _ outs: Int, _ x: UnsafePointer<Float>,
    _ tile: UnsafeMutablePointer<Float>
  ) {
    let table = loadFloats(weight.pointee.codebook)
    let k = weight.pointee.in
    let blockSize = weight.pointee.blockSize
    let four = U16(repeating: 4)
    let start = firstOut &* k
    var block = start / blockSize
    // Elements of the block that are still to come.
    var left = (block &+ 1) &* blockSize &- start
    var scale = blockScale(weight, block)
    var codes = weight.pointee.codes + (start &>> 1)
    for out in 0..<outs {
      var even = splat(0)
      var odd = splat(0)
      var i = 0
      while i < k {
        if left == 0 {
          block &+= 1
          left = blockSize
          scale = blockScale(weight, block)
        }
        let count = min(left, k &- i)
        var a = splat(0)
        var b = splat(0)
        let end = i &+ count
        while i < end {
          let bytes = mm_load_bytes(codes)
          a = madd(mm_lookup16(table, bytes &>> four), loadFloats(x + i), a)
          b = madd(mm_lookup16(table, bytes), loadFloats(x + (i &+ 16)), b)
          codes += 16
          i &+= 32
        }
        even = madd(a, splat(scale), even)
        odd = madd(b, splat(scale), odd)
        left &-= count
      }
      tile[out] = mm_sum(even + odd)
    }
  }
}
