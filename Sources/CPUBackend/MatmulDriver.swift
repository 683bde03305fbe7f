import Numerics
import Tensors

/// A product of one operand of row lanes with one of column lanes. One side, the resident one, is packed completely (in
/// blocks of at most 640 lanes) and read by all workers; the other streams. Results do not depend on the number of
/// threads; see `StagedMatmul`, which does the work where columns stream.
struct MatmulDriver: @unchecked Sendable {
  let tiling: MatmulTiling
  let state: MatmulState
  let pool: ThreadPool
  var rows: MatmulOperand
  var columns: MatmulOperand
  var k: Int
  var output: MatmulOutput

  private var kernels: MatmulKernels { tiling.kernels }
  private var mode: MatmulMode { tiling.mode }

  /// Most words of the packed rows of a slice, and most results summed over slices.
  private static let packedSliceLimit = 1 << 18
  private static let sumLimit = 1 << 19

  private var outer: Int { output.transposed ? columns.lanes : rows.lanes }
  private var inner: Int { output.transposed ? rows.lanes : columns.lanes }

  /// The product of nothing: beta * C, and zeros when beta is 0.
  func scaleOutput() throws {
    let zeros = UncheckedPointer(try state.packed(tiling.tileCount))
    zeros.value.update(repeating: 0, count: tiling.tileCount)
    for index in 0..<outer { storeLine(index) { _ in UnsafePointer(zeros.value) } }
  }

  /// C = alpha * sums + beta * C for one line of the output; `sums` gives those from a column on.
  private func storeLine(_ index: Int, _ sums: (Int) -> UnsafePointer<Float>) {
    var first = 0
    while first < inner {
      let to = output.base + (index * output.stride + first) * output.type.byteCount
      let from = sums(first)
      kernels.store(
        from, 1, min(kernels.columns, inner - first), false, output.alpha, output.beta, to, output.type.rawValue,
        output.stride, UnsafeMutablePointer(mutating: from))
      first += kernels.columns
    }
  }

  /// Steps per slice of a long contraction with a small result: the packed rows of a slice stay in the caches.
  private var sliceSteps: Int {
    let fitting = Self.packedSliceLimit * (mode == .pairs ? 2 : 1) / max(1, rows.lanes)
    return max(2, fitting / tiling.stepsPerBlock) * tiling.stepsPerBlock
  }

  /// Streams the columns past resident rows, or, where the packed rows would not stay in the caches, does so slice by
  /// slice of the contraction and sums the slices in order.
  func runStreamingColumns() throws {
    let slice = sliceSteps
    guard k >= 2 * slice, rows.lanes * columns.lanes <= Self.sumLimit else {
      return try stream(from: 0, k, to: output)
    }
    let width = tiling.count(inner, by: kernels.columns) * kernels.columns
    let sums = UncheckedPointer(try state.sums(outer * width))
    var part = output
    part.base = UnsafeMutableRawPointer(sums.value)
    part.type = .f32
    part.stride = width
    part.alpha = 1
    for first in stride(from: 0, to: k, by: slice) {
      part.beta = first == 0 ? 0 : 1
      try stream(from: first, min(slice, k - first), to: part)
    }
    pool.forEachRange(outer, grain: 16) { range, _ in
      for index in range { storeLine(index) { UnsafePointer(sums.value + index * width + $0) } }
    }
  }

  /// The product over `k` steps of the contraction.
  private func stream(from first: Int, _ k: Int, to output: MatmulOutput) throws {
    var (rows, columns) = (rows, columns)
    rows.firstStep += first
    columns.firstStep += first
    try StagedMatmul(
      tiling: tiling, state: state, pool: pool, lanes: rows.lanes,
      parts: [StagedMatmul.Part(rows: rows, k: k)],
      products: [StagedMatmul.Product(terms: [StagedMatmul.Term(part: 0, columns: columns)], output: output)]
    ).run()
  }

  /// Streams the rows past resident columns.
  func runStreamingRows() throws {
    let width = kernels.columns
    let blocks = tiling.blocks(k)
    // Transposing writes 16 words at a time.
    let paddedWords =
      (blocks - 1) * MatmulTiling.pitch + (tiling.words(tiling.steps(blocks - 1, of: k).count) + 15) / 16 * 16
    let block = tiling.blockLanes(columns.lanes, panel: width, floatsPerLane: paddedWords)
    let packed = UncheckedPointer(try state.packed(paddedWords * block))
    let scratch = try state.workerBuffers(
      MatmulKernels.scratchCount + tiling.rowPanelCount + tiling.tileCount * (block / width))
    var first = 0
    while first < columns.lanes {
      let start = first
      let lanes = min(block, columns.lanes - start)
      let panels = tiling.count(lanes, by: width)
      try pool.runUnlessInterrupted(panels * blocks) { job, worker in
        let kBlock = job / panels
        let range = tiling.columnPanel(job % panels, of: lanes)
        let steps = tiling.steps(kBlock, of: k)
        let rounded = (tiling.words(steps.count) + 15) / 16 * 16
        let to = packed.value + kBlock * MatmulTiling.pitch * width * panels + (job % panels) * rounded * width
        columns.pack(
          kernels, mode, lanes: range.shifted(by: start), steps: steps, to: to, laneStride: 1,
          wordStride: width, scratch: scratch[worker])
      }
      // Neighbouring panels share cache lines of the output, so a worker takes several in a row.
      let rowPanels = tiling.count(rows.lanes, by: tiling.rows)
      let jobs = min(rowPanels, 8 * pool.threadCount)
      try pool.runUnlessInterrupted(jobs) { job, worker in
        let buffer = scratch[worker]
        let panel = buffer + MatmulKernels.scratchCount
        let tiles = panel + tiling.rowPanelCount
        for index in rowPanels * job / jobs..<rowPanels * (job + 1) / jobs {
          let range = tiling.rowPanel(index, of: rows.lanes)
          for kBlock in 0..<blocks {
            let steps = tiling.steps(kBlock, of: k)
            let words = tiling.words(steps.count)
            rows.pack(
              kernels, mode, lanes: range, steps: steps, to: panel, laneStride: MatmulTiling.pitch, wordStride: 1,
              scratch: buffer)
            tiling.multiply(
              panel, range.count, packed.value + kBlock * MatmulTiling.pitch * width * panels, lanes,
              (words + 15) / 16 * 16 * width, words, tiles, kBlock == 0, mode.rawValue)
          }
          for column in 0..<panels {
            tiling.store(
              tiles + column * tiling.tileCount, range, tiling.columnPanel(column, of: lanes).shifted(by: start),
              to: output, buffer)
          }
        }
      }
      first += block
    }
  }
}

/// Carries a pointer into a body that runs on several threads.
struct UncheckedPointer: @unchecked Sendable {
  let value: UnsafeMutablePointer<Float>
  init(_ value: UnsafeMutablePointer<Float>) { self.value = value }
}
