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

/// A run of a parameter's elements whose state lies in one page.
struct StateSegment {
  let parameter: Int
  let range: Range<Int>
  /// Byte offset of each array inside the page.
  let offsets: [Int]
}

/// State that is read and written together: of parts of large parameters, or of several small ones.
struct StatePage {
  var segments: [StateSegment] = []
  var byteCount = 0
}

enum OptimizerState {
  /// Elements per block of 8-bit state (bitsandbytes).
  static let blockSize = 256
  /// Smaller parameters keep 32-bit state (bitsandbytes' min_8bit_size).
  static let minimum8BitCount = 4096

  /// Bits of the state of a parameter with `count` elements.
  static func bits(_ update: OptimizerUpdate, count: Int) -> Int {
    update.bits == 8 && update.rule != .sgd && count >= minimum8BitCount ? 8 : 32
  }

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

  /// Packs the state of parameters with these element counts into pages as large as the state of `limit` elements (a
  /// multiple of the block size), in order. Pages of one size leave little of a budget unused.
  static func pages(_ counts: [Int], _ update: OptimizerUpdate, limit: Int) -> [StatePage] {
    let pageByteCount = byteCount(arrays(update.rule, bits: update.bits), limit)
    var pages: [StatePage] = []
    var page = StatePage()
    for (parameter, count) in counts.enumerated() {
      let arrays = arrays(update.rule, bits: bits(update, count: count))
      var start = 0
      while start < count {
        let fitting = elementCount(arrays, fitting: pageByteCount - page.byteCount)
        guard fitting > 0 || page.segments.isEmpty else {
          pages.append(page)
          page = StatePage()
          continue
        }
        let range = start..<min(count, start + max(blockSize, fitting))
        var offset = page.byteCount
        let offsets = arrays.map { array -> Int in
          defer { offset += byteCount([array], range.count) }
          return offset
        }
        page.segments.append(StateSegment(parameter: parameter, range: range, offsets: offsets))
        page.byteCount = offset
        start = range.upperBound
      }
    }
    return page.segments.isEmpty ? pages : pages + [page]
  }

  /// Most elements of a large parameter whose state fits into some bytes, in whole blocks.
  static func elementCount(_ update: OptimizerUpdate, fitting limit: Int) -> Int {
    elementCount(arrays(update.rule, bits: update.bits), fitting: limit)
  }

  /// Bytes of these arrays for a number of elements, each array rounded up to a cache line.
  private static func byteCount(_ arrays: [StateArray], _ count: Int) -> Int {
    arrays.reduce(0) { $0 + ($1.elementCount(count) * $1.dtype.byteCount + 63) & ~63 }
  }

  /// Most elements, in whole blocks, whose arrays fit into some bytes.
  private static func elementCount(_ arrays: [StateArray], fitting limit: Int) -> Int {
    let perBlock = arrays.reduce(0) { $0 + $1.elementCount(blockSize) * $1.dtype.byteCount }
    var blocks = max(0, limit) / perBlock
    while blocks > 0, byteCount(arrays, blocks * blockSize) > limit { blocks -= 1 }
    return blocks * blockSize
  }
}
