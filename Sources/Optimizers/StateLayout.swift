import Tensors

/// One array of optimizer state of a parameter: a moment in f32, or its 8-bit codes, or their block maxima.
struct StateArray {
  let name: String
  let dtype: DType
  /// Elements per parameter element: 1, or 1 per block of 256 for maxima.
  let isPerBlock: Bool

  func elementCount(_ parameters: Int) -> Int {
    isPerBlock ? (parameters + OptimizerState.blockSize - 1) / OptimizerState.blockSize : parameters
  }
}

/// A run of a parameter's elements whose state is one page.
struct StatePage {
  let parameter: Int
  let range: Range<Int>
  /// Byte offset of each array inside the page.
  let offsets: [Int]
  let byteCount: Int
}

enum OptimizerState {
  /// Elements per block of 8-bit state (bitsandbytes).
  static let blockSize = 256
  /// Smaller parameters keep 32-bit state (bitsandbytes' min_8bit_size).
  static let minimum8BitCount = 4096

  static func arrays(_ rule: OptimizerUpdate.Rule, bits: Int) -> [StateArray] {
    func full(_ name: String) -> StateArray { StateArray(name: name, dtype: .f32, isPerBlock: false) }
    func codes(_ name: String) -> [StateArray] {
      [
        StateArray(name: name + "_codes", dtype: .u8, isPerBlock: false),
        StateArray(name: name + "_absmax", dtype: .f32, isPerBlock: true),
      ]
    }
    switch (rule, bits) {
    case (.adamW, 8): return codes("exp_avg") + codes("exp_avg_sq")
    case (.adamW, _): return [full("exp_avg"), full("exp_avg_sq")]
    case (.lion, 8): return codes("exp_avg")
    case (.lion, _): return [full("exp_avg")]
    case (.sgd, _): return [full("momentum_buffer")]
    }
  }

  /// Cuts a parameter of `count` elements into pages of at most `limit` elements (a multiple of the block size).
  static func pages(parameter: Int, count: Int, arrays: [StateArray], limit: Int) -> [StatePage] {
    stride(from: 0, to: count, by: limit).map { start in
      let range = start..<min(count, start + limit)
      var offset = 0
      let offsets = arrays.map { array -> Int in
        defer { offset += (array.elementCount(range.count) * array.dtype.byteCount + 63) & ~63 }
        return offset
      }
      return StatePage(parameter: parameter, range: range, offsets: offsets, byteCount: max(64, offset))
    }
  }
}
