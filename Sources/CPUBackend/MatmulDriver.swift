import Numerics
import Tensors

/// One side of a product: `lanes` vectors along the contraction.
struct MatmulOperand: @unchecked Sendable {
  enum Source {
    /// `contiguous` tells that the elements of a lane follow each other; otherwise lanes follow each other.
    case dense(UnsafeRawPointer, type: DType, stride: Int, contiguous: Bool)
    /// Lanes are the rows of the quantized matrix, or its columns.
    case quantized(UnsafePointer<QuantizedWeightPointers>, lanesAreRows: Bool)
  }
  var source: Source
  var lanes: Int
  /// Where along the contraction this operand begins.
  var firstStep = 0

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
      let rows = lanesAreRows ? lanes : steps
      let columns = lanesAreRows ? steps : lanes
      kernels.packQuantized(
        UnsafeRawPointer(weight), rows.lowerBound, rows.count, columns.lowerBound, columns.count, lanesAreRows, target,
        laneStride, wordStride, mode.rawValue, scratch)
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

/// A product in tiles of row lanes x column lanes. One side, the resident one, is packed completely (in blocks of at
/// most 640 lanes) and read by all workers; the other streams: each worker packs or decodes a few panels of it at a
/// time, for itself. Every output is summed over the contraction in the same order whichever worker computes it
/// and however the lanes are divided, so results do not depend on the number of threads.
struct MatmulDriver: @unchecked Sendable {
  let kernels: MatmulKernels
  let state: MatmulState
  let pool: ThreadPool
  var rows: MatmulOperand
  var columns: MatmulOperand
  var k: Int
  let mode: MatmulMode
  var output: MatmulOutput

  private static let pitch = MatmulKernels.panelStride
  private static let rowPanelCount = MatmulKernels.panelStride * MatmulKernels.panelLanes
  /// Lanes of the resident side in one block; the sums of a block stay in the second-level cache.
  private static let residentLanes = 640
  /// Most floats of the packed side: a long contraction reduces the lanes of a block instead.
  private static let packedLimit = 8 << 20
  /// Most words of the packed rows of a slice, and most results summed over slices.
  private static let packedSliceLimit = 1 << 18
  private static let sumLimit = 1 << 19
  /// Column panels that a worker packs at once: 128 columns of 4-bit codes are one cache line.
  private static let streamedColumnPanels = 4

  /// Steps of the contraction that are packed at once in such a group; an even number, for pairs.
  private static let streamedSteps = 32

  private var stepsPerBlock: Int { mode == .pairs ? 2 * Self.pitch : Self.pitch }
  private var blocks: Int { (k + stepsPerBlock - 1) / stepsPerBlock }
  private var tileCount: Int { kernels.rows * kernels.columns }

  private func words(_ steps: Int) -> Int { mode == .pairs ? (steps + 1) / 2 : steps }
  private func steps(_ block: Int) -> Range<Int> { block * stepsPerBlock..<min(k, (block + 1) * stepsPerBlock) }

  /// Bounds of the row panels: full ones, but a remainder of one or two lanes is shared with the last full panel so
  /// that 16 lanes are 8 + 8, for which there is a tile.
  private func rowPanel(_ index: Int, of lanes: Int) -> Range<Int> {
    let full = kernels.rows
    guard full == 14, lanes > 14, (1...2).contains(lanes % 14) else {
      return index * full..<min(lanes, (index + 1) * full)
    }
    let last = lanes / 14
    if index < last - 1 { return index * 14..<(index + 1) * 14 }
    let middle = (last - 1) * 14 + 8
    return index == last - 1 ? (last - 1) * 14..<middle : middle..<lanes
  }

  private func columnPanel(_ index: Int, of lanes: Int) -> Range<Int> {
    index * kernels.columns..<min(lanes, (index + 1) * kernels.columns)
  }

  private func count(_ lanes: Int, by size: Int) -> Int { (lanes + size - 1) / size }

  /// Resident lanes per block, a multiple of the panel size; blocks of about equal size.
  private func blockLanes(_ lanes: Int, panel: Int, floatsPerLane: Int) -> Int {
    let fitting = max(4 * panel, min(Self.residentLanes, Self.packedLimit / max(1, floatsPerLane)))
    return count(count(lanes, by: count(lanes, by: fitting)), by: panel) * panel
  }

  /// Column panels per job: the size with which the last worker ends first, the largest of those.
  private func columnGroup(_ panels: Int) -> Int {
    func duration(_ size: Int) -> Int { count(count(panels, by: size), by: pool.threadCount) * size }
    return (1...Self.streamedColumnPanels).min { (duration($0), -$0) < (duration($1), -$1) } ?? 1
  }

  private func store(
    _ tile: UnsafePointer<Float>, _ rowRange: Range<Int>, _ columnRange: Range<Int>,
    _ scratch: UnsafeMutablePointer<Float>
  ) {
    let row = rowRange.lowerBound
    let column = columnRange.lowerBound
    let index = output.transposed ? column * output.stride + row : row * output.stride + column
    kernels.store(
      tile, rowRange.count, columnRange.count, output.transposed, output.alpha, output.beta,
      output.base + index * output.type.byteCount, output.type.rawValue, output.stride, scratch)
  }

  private func part(_ range: Range<Int>, from start: Int) -> Range<Int> {
    range.lowerBound + start..<range.upperBound + start
  }

  private var outer: Int { output.transposed ? columns.lanes : rows.lanes }
  private var inner: Int { output.transposed ? rows.lanes : columns.lanes }

  /// The product of nothing: beta * C, and zeros when beta is 0.
  func scaleOutput() {
    let zeros = UncheckedPointer(state.packed(tileCount))
    zeros.value.update(repeating: 0, count: tileCount)
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
    return max(2, fitting / stepsPerBlock) * stepsPerBlock
  }

  /// Streams the columns past resident rows, or, where the packed rows would not stay in the caches, does so slice by
  /// slice of the contraction and sums the slices in order.
  func runStreamingColumns() {
    let slice = sliceSteps
    guard k >= 2 * slice, rows.lanes * columns.lanes <= Self.sumLimit else { return streamColumns() }
    let width = count(inner, by: kernels.columns) * kernels.columns
    let sums = UncheckedPointer(state.sums(outer * width))
    var part = self
    part.output.base = UnsafeMutableRawPointer(sums.value)
    part.output.type = .f32
    part.output.stride = width
    part.output.alpha = 1
    for first in stride(from: 0, to: k, by: slice) {
      part.rows.firstStep = rows.firstStep + first
      part.columns.firstStep = columns.firstStep + first
      part.k = min(slice, k - first)
      part.output.beta = first == 0 ? 0 : 1
      part.streamColumns()
    }
    pool.forEachRange(outer, grain: 16) { range, _ in
      for index in range { storeLine(index) { UnsafePointer(sums.value + index * width + $0) } }
    }
  }

  /// Few rows of A against the rows of a long side, which is read once and not packed. Here `rows` are the few.
  func runDots() {
    let width = kernels.columns
    var split: QuantizedWeightPointers?
    if rows.lanes == 1, case .quantized(let weight, _) = columns.source { split = weight.pointee }
    // A row that will be split is packed as floats first.
    let packMode = split != nil && mode == .pairs ? .rounded : mode
    let pitch = ((packMode == .pairs ? words(k) : k) + 31) / 32 * 32
    // Packing completes the lanes to 16.
    let packed = UncheckedPointer(state.packed(pitch * MatmulKernels.panelLanes))
    let scratch = UncheckedPointers(
      state.workerBuffers(MatmulKernels.scratchCount + width * MatmulKernels.panelLanes))
    rows.pack(
      kernels, packMode, lanes: 0..<rows.lanes, steps: 0..<k, to: packed.value, laneStride: pitch, wordStride: 1,
      scratch: scratch.values[0])
    if let split { kernels.splitEvenOdd(packed.value, pitch, mode.rawValue, split.hasWideSteps) }
    // A worker takes neighbouring rows of the long side, which it then reads as one stream.
    let panels = count(columns.lanes, by: width)
    let jobs = min(panels, 8 * pool.threadCount)
    pool.run(jobs) { job, worker in
      let tile = scratch.values[worker] + MatmulKernels.scratchCount
      for panel in panels * job / jobs..<panels * (job + 1) / jobs {
        let range = columnPanel(panel, of: columns.lanes)
        switch columns.source {
        case .dense(let base, let type, let stride, _):
          kernels.dots(
            base + range.lowerBound * stride * type.byteCount, type.rawValue, stride, range.count, k, packed.value,
            rows.lanes, pitch, tile, mode.rawValue)
        case .quantized(let weight, _):
          kernels.quantizedDots(
            UnsafeRawPointer(weight), range.lowerBound, range.count, packed.value, rows.lanes, pitch, tile,
            mode.rawValue)
        }
        store(tile, 0..<rows.lanes, range, scratch.values[worker])
      }
    }
  }

  /// Streams the rows past resident columns.
  func runStreamingRows() {
    let width = kernels.columns
    // Transposing writes 16 words at a time.
    let paddedWords = (blocks - 1) * Self.pitch + (words(steps(blocks - 1).count) + 15) / 16 * 16
    let block = blockLanes(columns.lanes, panel: width, floatsPerLane: paddedWords)
    let packed = UncheckedPointer(state.packed(paddedWords * block))
    let scratch = UncheckedPointers(
      state.workerBuffers(MatmulKernels.scratchCount + Self.rowPanelCount + tileCount * (block / width)))
    var first = 0
    while first < columns.lanes {
      let start = first
      let lanes = min(block, columns.lanes - start)
      let panels = count(lanes, by: width)
      pool.run(panels * blocks) { job, worker in
        let kBlock = job / panels
        let range = columnPanel(job % panels, of: lanes)
        let rounded = (words(steps(kBlock).count) + 15) / 16 * 16
        let to = packed.value + kBlock * Self.pitch * width * panels + (job % panels) * rounded * width
        columns.pack(
          kernels, mode, lanes: part(range, from: start), steps: steps(kBlock), to: to, laneStride: 1,
          wordStride: width, scratch: scratch.values[worker])
      }
      // Neighbouring panels share cache lines of the output, so a worker takes several in a row.
      let rowPanels = count(rows.lanes, by: kernels.rows)
      let jobs = min(rowPanels, 8 * pool.threadCount)
      pool.run(jobs) { job, worker in
        let buffer = scratch.values[worker]
        let panel = buffer + MatmulKernels.scratchCount
        let tiles = panel + Self.rowPanelCount
        for index in rowPanels * job / jobs..<rowPanels * (job + 1) / jobs {
          let range = rowPanel(index, of: rows.lanes)
          for kBlock in 0..<blocks {
            let steps = steps(kBlock)
            let words = words(steps.count)
            rows.pack(
              kernels, mode, lanes: range, steps: steps, to: panel, laneStride: Self.pitch, wordStride: 1,
              scratch: buffer)
            kernels.multiply(
              panel, range.count, packed.value + kBlock * Self.pitch * width * panels, lanes,
              (words + 15) / 16 * 16 * width, words, tiles, kBlock == 0, mode.rawValue)
          }
          for column in 0..<panels {
            store(
              tiles + column * tileCount, range, part(columnPanel(column, of: lanes), from: start), buffer)
          }
        }
      }
      first += block
    }
  }

  private func streamColumns() {
    let width = kernels.columns
    let block = blockLanes(rows.lanes, panel: kernels.rows, floatsPerLane: blocks * Self.pitch)
    let maximumPanels = block / kernels.rows
    let columnPanels = count(columns.lanes, by: width)
    let group = columnGroup(columnPanels)
    let packed = UncheckedPointer(state.packed(blocks * maximumPanels * Self.rowPanelCount))
    let streamed = Self.pitch * width
    let scratch = UncheckedPointers(
      state.workerBuffers(MatmulKernels.scratchCount + group * (streamed + tileCount * maximumPanels)))
    var first = 0
    while first < rows.lanes {
      let start = first
      let lanes = min(block, rows.lanes - start)
      let panels = count(lanes, by: kernels.rows)
      pool.run(panels * blocks) { job, worker in
        let range = rowPanel(job % panels, of: lanes)
        rows.pack(
          kernels, mode, lanes: part(range, from: start), steps: steps(job / panels),
          to: packed.value + job * Self.rowPanelCount, laneStride: Self.pitch, wordStride: 1,
          scratch: scratch.values[worker])
      }
      pool.run(count(columnPanels, by: group)) { job, worker in
        let buffer = scratch.values[worker]
        let vectors = buffer + MatmulKernels.scratchCount
        let tiles = vectors + group * streamed
        let present = min(group, columnPanels - job * group)
        let columnCount = min(group * width, columns.lanes - job * group * width)
        for kBlock in 0..<blocks {
          let steps = steps(kBlock)
          // A few rows at a time across the panels, so that a cache line or a page is used up once it is there.
          var step = steps.lowerBound
          while step < steps.upperBound {
            let end = min(steps.upperBound, step + Self.streamedSteps)
            for index in 0..<present {
              columns.pack(
                kernels, mode, lanes: columnPanel(job * group + index, of: columns.lanes), steps: step..<end,
                to: vectors + index * streamed + words(step - steps.lowerBound) * width, laneStride: 1,
                wordStride: width, scratch: buffer)
            }
            step = end
          }
          for panel in 0..<panels {
            kernels.multiply(
              packed.value + (kBlock * panels + panel) * Self.rowPanelCount, rowPanel(panel, of: lanes).count, vectors,
              columnCount, streamed, words(steps.count), tiles + panel * group * tileCount, kBlock == 0, mode.rawValue)
          }
        }
        for panel in 0..<panels {
          for index in 0..<present {
            store(
              tiles + (panel * group + index) * tileCount, part(rowPanel(panel, of: lanes), from: start),
              columnPanel(job * group + index, of: columns.lanes), buffer)
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

struct UncheckedPointers: @unchecked Sendable {
  let values: [UnsafeMutablePointer<Float>]
  init(_ values: [UnsafeMutablePointer<Float>]) { self.values = values }
}
