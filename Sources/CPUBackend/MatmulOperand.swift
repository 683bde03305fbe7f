import Numerics
import Tensors

/// One side of a product: `lanes` vectors along the contraction.
struct MatmulOperand: @unchecked Sendable {
  enum Source {
    /// `contiguous` tells that the elements of a lane follow each other; otherwise lanes follow each other.
    case dense(UnsafeRawPointer, type: DType, stride: Int, contiguous: Bool)
    /// Lanes are the rows of the quantized matrix, or its columns.
    case quantized(UnsafePointer<QuantizedWeightPointers>, lanesAreRows: Bool)
    /// The same of a matrix in a block format.
    case blocks(UnsafePointer<BlockWeightPointers>, lanesAreRows: Bool)
  }
  var source: Source
  var lanes: Int
  /// Where along the contraction this operand begins.
  var firstStep = 0

  /// Whether the elements of a lane follow each other in memory.
  var runsAlongSteps: Bool {
    switch source {
    case .dense(_, _, _, let contiguous): contiguous
    case .quantized(_, let lanesAreRows), .blocks(_, let lanesAreRows): lanesAreRows
    }
  }

  /// Whether lanes are the columns of a matrix in a block format.
  var isBlocks: Bool {
    if case .blocks(_, lanesAreRows: false) = source { true } else { false }
  }

  /// Lanes that packing writes of a row panel: those that do not lie along the contraction are transposed, and fill it.
  func writtenLanes(_ tiling: MatmulTiling) -> Int {
    runsAlongSteps ? tiling.rows : tiling.kernels.panelLanes(tiling.mode)
  }

  func pack(
    _ kernels: MatmulKernels, _ mode: MatmulMode, lanes: Range<Int>, steps: Range<Int>,
    to target: UnsafeMutablePointer<Float>, laneStride: Int, wordStride: Int, scratch: UnsafeMutablePointer<Float>
  ) {
    let steps = steps.lowerBound + firstStep..<steps.upperBound + firstStep
    switch source {
    case .dense(let base, let type, let stride, let contiguous):
      let index =
        contiguous ? lanes.lowerBound * stride + steps.lowerBound : steps.lowerBound * stride + lanes.lowerBound
      kernels.pack(
        base + index * type.byteCount, type.rawValue, stride, contiguous, lanes.count, steps.count, target, laneStride,
        wordStride, mode.rawValue, scratch)
    case .quantized(let weight, let lanesAreRows):
      let (rows, columns) = lanesAreRows ? (lanes, steps) : (steps, lanes)
      kernels.packQuantized(
        UnsafeRawPointer(weight), rows.lowerBound, rows.count, columns.lowerBound, columns.count, lanesAreRows, target,
        laneStride, wordStride, 0, mode.rawValue, scratch)
    case .blocks(let weight, true):
      kernels.blocks.packRows(
        UnsafeRawPointer(weight), lanes.lowerBound, lanes.count, steps.lowerBound, steps.count, target, laneStride,
        wordStride, mode.rawValue, scratch)
    case .blocks(let weight, false):
      precondition(laneStride == 1 && wordStride == kernels.columns, "columns of blocks are packed as column panels")
      kernels.blocks.packColumns(
        UnsafeRawPointer(weight), steps.lowerBound, steps.count, lanes.lowerBound, lanes.count, target, 0,
        mode.rawValue)
    }
  }

  /// Packs neighbouring column panels, `pitch` words from one to the next. Codes are decoded across all of them.
  func packPanels(
    _ tiling: MatmulTiling, columns: Range<Int>, steps: Range<Int>, to target: UnsafeMutablePointer<Float>, pitch: Int,
    scratch: UnsafeMutablePointer<Float>
  ) {
    let kernels = tiling.kernels
    switch source {
    case .blocks(let weight, false):
      kernels.blocks.packColumns(
        UnsafeRawPointer(weight), steps.lowerBound + firstStep, steps.count, columns.lowerBound, columns.count, target,
        pitch, tiling.mode.rawValue)
      return
    case .quantized(let weight, false):
      kernels.packQuantized(
        UnsafeRawPointer(weight), steps.lowerBound + firstStep, steps.count, columns.lowerBound, columns.count, false,
        target, 1, kernels.columns, pitch, tiling.mode.rawValue, scratch)
      return
    default: break
    }
    for index in 0..<tiling.count(columns.count, by: kernels.columns) {
      pack(
        kernels, tiling.mode, lanes: tiling.columnPanel(index, of: columns.count).shifted(by: columns.lowerBound),
        steps: steps, to: target + index * pitch, laneStride: 1, wordStride: kernels.columns, scratch: scratch)
    }
  }
}

/// Where the product goes: output (row lane r, column lane c) is at `base + r * stride + c`, or transposed.
struct MatmulOutput: @unchecked Sendable {
  var base: UnsafeMutableRawPointer
  var type: DType
  var stride: Int
  var transposed: Bool
  var alpha: Float
  var beta: Float
}
