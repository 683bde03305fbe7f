import Numerics
import Tensors

/// A product with a short contraction and few lanes on one side, as those with the matrices of an adapter are: an
/// output of few lines, to which every column adds a handful of terms.
///
/// The few lanes are packed once as floats; columns are packed a panel at a time, and their sums stored at once. The
/// sum of an output runs through the contraction in order, whatever the number of lanes, columns and threads.
struct ThinProduct: @unchecked Sendable {
  let tiling: MatmulTiling
  let state: MatmulState
  let pool: ThreadPool
  let rows: MatmulOperand
  let columns: MatmulOperand
  let k: Int
  let output: MatmulOutput

  /// The longest contraction, and the most lanes of the shorter side. Beyond these, larger tiles and pairs pay.
  private static let limit = 32
  /// Multiply-adds below which one thread is done before a second one begins.
  private static let alone = 1 << 17

  static func takes(m: Int, n: Int, k: Int) -> Bool { k > 0 && k <= limit && min(m, n) <= limit }

  func run() throws {
    let kernels = tiling.kernels
    let width = kernels.columns
    // Packing writes 16 words and 16 lanes at a time.
    let (pitch, lanes) = ((k + 15) / 16 * 16, (rows.lanes + 15) / 16 * 16)
    let packed = UncheckedPointer(try state.packed(lanes * pitch))
    let scratch = try state.workerBuffers(MatmulKernels.scratchCount + (pitch + lanes) * width)
    guard !pool.isRehearsal else { return }
    rows.pack(
      kernels, tiling.mode, lanes: 0..<rows.lanes, steps: 0..<k, to: packed.value, laneStride: pitch, wordStride: 1,
      scratch: scratch[0])
    let panels = tiling.count(columns.lanes, by: width)
    if pool.threadCount == 1 || rows.lanes * columns.lanes * k <= Self.alone {
      for panel in 0..<panels { compute(panel, packed.value, pitch, scratch[0]) }
      return
    }
    let jobs = min(panels, 4 * pool.threadCount)
    try pool.runUnlessInterrupted(jobs) { job, worker in
      for panel in panels * job / jobs..<panels * (job + 1) / jobs {
        compute(panel, packed.value, pitch, scratch[worker])
      }
    }
  }

  /// The outputs of one column panel.
  private func compute(
    _ panel: Int, _ packed: UnsafePointer<Float>, _ pitch: Int, _ buffer: UnsafeMutablePointer<Float>
  ) {
    let width = tiling.kernels.columns
    let range = tiling.columnPanel(panel, of: columns.lanes)
    let vectors = buffer + MatmulKernels.scratchCount
    let tile = vectors + pitch * width
    columns.pack(
      tiling.kernels, tiling.mode, lanes: range, steps: 0..<k, to: vectors, laneStride: 1, wordStride: width,
      scratch: buffer)
    tiling.kernels.smallProduct(
      tile, width, packed, pitch, 1, vectors, width, rows.lanes, k, (range.count + 15) / 16 * 16)
    tiling.store(tile, 0..<rows.lanes, range, to: output, buffer)
  }
}
