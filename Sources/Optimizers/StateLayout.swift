import Numerics
import Tensors

/// One array of optimizer state of a parameter: a moment in f32, or its 8-bit codes, or their block maxima.
struct StateArray {
  let name: String
  let dtype: DType
  /// One element per block of the parameter's elements, not one per element.
  let isPerBlock: Bool

  func elementCount(_ parameters: Int) -> Int {
    isPerBlock ? (parameters + OptimizerState.blockSize - 1) / OptimizerState.blockSize : parameters
  }
}

/// The part of a state array that lies in one page.
struct StateSlice {
  let array: StateArray
  /// Byte offset inside the page.
  let offset: Int
  let elementCount: Int

  var byteCount: Int { elementCount * array.dtype.byteCount }
}

/// A run of a parameter's elements whose state lies in one page.
struct StateSegment {
  let parameter: Int
  let range: Range<Int>
  /// In the order of the rule's arrays.
  let slices: [StateSlice]
}

/// State that is read and written together: of parts of large parameters, or of several small ones.
struct StatePage {
  var segments: [StateSegment] = []
  var byteCount = 0
}

enum OptimizerState {
  static let blockSize = DynamicMap.stateBlockSize
  /// Smaller parameters keep 32-bit state (bitsandbytes' min_8bit_size).
  static let minimum8BitCount = 4096

  /// Bits of the state of a parameter with `count` elements.
  static func bits(_ options: OptimizerOptions, count: Int) -> Int {
    count >= minimum8BitCount ? options.bits : options.rule.widths.max() ?? options.bits
  }

  static func arrays(_ rule: OptimizerRule, bits: Int) -> [StateArray] {
    rule.moments.flatMap { moment -> [StateArray] in
      guard bits == 8 else { return [StateArray(name: moment.name, dtype: .f32, isPerBlock: false)] }
      return [
        StateArray(name: moment.name + "_codes", dtype: .u8, isPerBlock: false),
        StateArray(name: moment.name + "_absmax", dtype: .f32, isPerBlock: true),
      ]
    }
  }

  /// Packs the state of parameters with these element counts into pages as large as the state of `limit` elements (a
  /// multiple of the block size), in order. Pages of one size leave little of a budget unused.
  static func pages(_ counts: [Int], _ options: OptimizerOptions, limit: Int) -> [StatePage] {
    let pageByteCount = byteCount(arrays(options.rule, bits: options.bits), limit)
    var pages: [StatePage] = []
    var page = StatePage()
    for (parameter, count) in counts.enumerated() {
      let arrays = arrays(options.rule, bits: bits(options, count: count))
      var start = 0
      while start < count {
        let fitting = arrays.isEmpty ? count : elementCount(arrays, fitting: pageByteCount - page.byteCount)
        guard fitting > 0 || page.segments.isEmpty else {
          pages.append(page)
          page = StatePage()
          continue
        }
        let range = start..<min(count, start + max(blockSize, fitting))
        var offset = page.byteCount
        let slices = arrays.map { array -> StateSlice in
          defer { offset += byteCount([array], range.count) }
          return StateSlice(array: array, offset: offset, elementCount: array.elementCount(range.count))
        }
        page.segments.append(StateSegment(parameter: parameter, range: range, slices: slices))
        page.byteCount = offset
        start = range.upperBound
      }
    }
    return page.segments.isEmpty ? pages : pages + [page]
  }

  /// Most elements of a large parameter whose state fits into some bytes, in whole blocks.
  static func elementCount(_ options: OptimizerOptions, fitting limit: Int) -> Int {
    elementCount(arrays(options.rule, bits: options.bits), fitting: limit)
  }

  /// Bytes of these arrays for a number of elements, each array rounded up to a cache line.
  private static func byteCount(_ arrays: [StateArray], _ count: Int) -> Int {
    arrays.reduce(0) { $0 + ($1.elementCount(count) * $1.dtype.byteCount + 63) & ~63 }
  }

  /// Most elements, in whole blocks, whose arrays, of which there is one at least, fit into some bytes.
  private static func elementCount(_ arrays: [StateArray], fitting limit: Int) -> Int {
    let perBlock = arrays.reduce(0) { $0 + $1.elementCount(blockSize) * $1.dtype.byteCount }
    var blocks = max(0, limit) / perBlock
    while blocks > 0, byteCount(arrays, blocks * blockSize) > limit { blocks -= 1 }
    return blocks * blockSize
  }
}
