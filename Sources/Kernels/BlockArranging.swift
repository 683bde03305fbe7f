import CPlatform
import Numerics

// x for the products of a few rows with a matrix in a block format: group by group, and in a group row by row, so that
// each set of rows is read as one stream.

extension Kernels {
  /// See `BlockKernels.ArrangedCount`.
  static func arrangedCount(_ format: Int32, _ k: Int, _ mode: Int32) -> Int {
    (k &+ 127) &>> 7 &* gg_group_stride(format, mode == 1)
  }

  /// See `BlockKernels.Arrange`.
  @inline(never)
  static func arrangeForBlocks(
    _ format: Int32, _ x: UnsafePointer<Float>, _ rows: Int, _ k: Int, _ pitch: Int, _ to: UnsafeMutablePointer<Float>,
    _ mode: Int32
  ) {
    let count = arrangedCount(format, k, mode)
    var row = 0
    while row < rows {
      let set = blockSet(rows &- row)
      withBlockFormat(format) { format in
        for inside in 0..<set {
          // Rows that complete a set are zeros.
          let from = row &+ inside < rows ? x + (row &+ inside) &* pitch : nil
          arrangeRow(format, from, k, set, to + (row &* count &+ inside &* gg_group_stride(format, mode == 1)), mode)
        }
      }
      row &+= set
    }
  }

  @inline(__always)
  private static func arrangeRow(
    _ format: Int32, _ x: UnsafePointer<Float>?, _ k: Int, _ set: Int, _ to: UnsafeMutablePointer<Float>, _ mode: Int32
  ) {
    let stride = gg_group_stride(format, mode == 1)
    let words = mode == 1 ? 64 : 128
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 128) { buffer in
      let rest = buffer.baseAddress.unsafelyUnwrapped
      for group in 0..<(k &+ 127) &>> 7 {
        let target = to + group &* stride &* set
        guard let x else {
          target.update(repeating: 0, count: stride)
          continue
        }
        var from = x + group &* words
        let left = (mode == 1 ? k / 2 : k) &- group &* words
        if left < words {
          rest.update(from: from, count: left)
          (rest + left).update(repeating: 0, count: words &- left)
          from = UnsafePointer(rest)
        }
        #if ISA_AVX512BF16
          if mode == 1 {
            gg_arrange_pairs(format, from, target)
            continue
          }
        #endif
        gg_arrange_floats(format, from, target)
      }
    }
  }
}
