import CPlatform
import Numerics
import Tensors

/// How products are cut: lanes into row panels and column panels, contractions into blocks of words.
struct MatmulTiling {
  let kernels: MatmulKernels
  let mode: MatmulMode

  /// Words between the lanes of a row panel, which is the most words of a block.
  static let pitch = MatmulKernels.panelStride
  /// Lanes of the resident side in one block; the sums of a block stay in the second-level cache.
  private static let residentLanes = 640
  /// Most floats of the packed side: a long contraction reduces the lanes of a block instead.
  private static let packedLimit = 8 << 20

  var stepsPerBlock: Int { mode == .pairs ? 2 * Self.pitch : Self.pitch }
  /// Lanes of a row panel.
  var rows: Int { kernels.rows(mode) }
  /// Floats of a row panel.
  var rowPanelCount: Int { Self.pitch * kernels.panelLanes(mode) }
  /// Floats from one streamed column panel to the next. One row more than a panel has, since the same rows of panels
  /// that are packed together would otherwise share the few places of the first-level cache that a power of two has.
  var streamedCount: Int { (Self.pitch + 1) * kernels.columns }
  /// Floats of a tile of sums.
  var tileCount: Int { rows * kernels.columns }
  /// What multiplies a row panel by column panels.
  var multiply: MatmulKernels.Multiply { mode == .pairs ? kernels.multiplyPairs : kernels.multiply }

  func blocks(_ k: Int) -> Int { count(k, by: stepsPerBlock) }
  func words(_ steps: Int) -> Int { mode == .pairs ? (steps + 1) / 2 : steps }
  func steps(_ block: Int, of k: Int) -> Range<Int> { block * stepsPerBlock..<min(k, (block + 1) * stepsPerBlock) }
  func count(_ lanes: Int, by size: Int) -> Int { (lanes + size - 1) / size }

  /// Bounds of the row panels: full ones, but a remainder of one or two lanes is shared with the last full panel: 16
  /// lanes are 8 + 8, since a tile of two rows waits for its four sums.
  func rowPanel(_ index: Int, of lanes: Int) -> Range<Int> {
    let full = rows
    guard full == 14, lanes > 14, (1...2).contains(lanes % 14) else {
      return index * full..<min(lanes, (index + 1) * full)
    }
    let last = lanes / 14
    if index < last - 1 { return index * 14..<(index + 1) * 14 }
    let middle = (last - 1) * 14 + 8
    return index == last - 1 ? (last - 1) * 14..<middle : middle..<lanes
  }

  func columnPanel(_ index: Int, of lanes: Int) -> Range<Int> {
    index * kernels.columns..<min(lanes, (index + 1) * kernels.columns)
  }

  /// Resident lanes per block, a multiple of the panel size; blocks of about equal size.
  func blockLanes(_ lanes: Int, panel: Int, floatsPerLane: Int) -> Int {
    let fitting = max(4 * panel, min(Self.residentLanes, Self.packedLimit / max(1, floatsPerLane)))
    return count(count(lanes, by: count(lanes, by: fitting)), by: panel) * panel
  }

  /// Asks for the part of the output that is written after the next product, which would wait for memory there.
  func prefetch(_ rows: Range<Int>, _ columns: Range<Int>, of output: MatmulOutput) {
    let (lines, run) = output.transposed ? (columns, rows) : (rows, columns)
    let size = output.type.byteCount
    let bytes = run.count &* size
    var first = output.base + (lines.lowerBound &* output.stride &+ run.lowerBound) &* size
    for _ in lines {
      var offset = 0
      while offset < bytes {
        mm_prefetch(first + offset)
        offset &+= 64
      }
      mm_prefetch(first + (bytes &- 1))
      first += output.stride &* size
    }
  }

  /// Writes a tile of sums to its place in the output, at most 16 of its rows at a time.
  func store(
    _ tile: UnsafePointer<Float>, _ rows: Range<Int>, _ columns: Range<Int>, to output: MatmulOutput,
    _ scratch: UnsafeMutablePointer<Float>
  ) {
    let column = columns.lowerBound
    for row in stride(from: rows.lowerBound, to: rows.upperBound, by: 16) {
      let index = output.transposed ? column * output.stride + row : row * output.stride + column
      kernels.store(
        tile + (row - rows.lowerBound) * kernels.columns, min(16, rows.upperBound - row), columns.count,
        output.transposed, output.alpha, output.beta, output.base + index * output.type.byteCount,
        output.type.rawValue, output.stride, scratch)
    }
  }
}

extension Range<Int> {
  func shifted(by distance: Int) -> Range<Int> { lowerBound + distance..<upperBound + distance }
}
