import CPlatform
import Glibc
import Numerics
import Synchronization
import Tensors

/// Products of row lanes that are packed once and stay, with columns that stream past: each worker packs or decodes a
/// few column panels at a time, for itself.
///
/// The rows consist of parts, each with a contraction of its own, and an output sums over one or more of them:
/// y = x W^T + h B^T packs x and h and has two terms. Outputs of the same rows share what is packed. A part may be the
/// output of one of the products, as h is: that is computed first, and the others wait for it when they come to its
/// term.
///
/// Every output is summed over its terms, and over the contraction of each, in the same order whichever worker computes
/// it and however the lanes are divided, so results do not depend on the number of threads.
struct StagedMatmul: @unchecked Sendable {
  /// Row lanes along `k` steps.
  struct Part {
    var rows: MatmulOperand
    var k: Int
    /// The product whose output they are. Its terms have parts that are there from the beginning.
    var product: Int?
  }
  /// Columns against one of the parts.
  struct Term {
    var part: Int
    var columns: MatmulOperand
  }
  struct Product {
    var terms: [Term]
    var output: MatmulOutput
    var columnCount: Int { terms[0].columns.lanes }
  }

  let tiling: MatmulTiling
  let state: MatmulState
  let pool: ThreadPool
  /// Row lanes of every part.
  let lanes: Int
  let parts: [Part]
  let products: [Product]

  /// Column panels that a worker packs at once: four, whose 4-bit codes are at most one cache line, and of block
  /// formats 256 columns, whose scales are one block. With more than a few lanes the sums of so many would be too
  /// large: half.
  private func panelsAtOnce(_ rows: Range<Int>) -> Int {
    guard products.contains(where: { $0.terms.contains { $0.columns.isBlocks } }) else { return 4 }
    return (rows.count <= 32 ? 256 : 128) / tiling.kernels.columns
  }
  /// Steps of the contraction that are packed at once in such a group; an even number, for pairs.
  private static let streamedSteps = 32

  /// A part with its place in the packed rows: the first word of a lane, and the panels that this is in.
  private struct Placed {
    var part: Part
    var word: Int
    /// Where a block of a row panel begins.
    func offset(block: Int, panel: Int, panels: Int, _ panelCount: Int) -> Int {
      ((word / MatmulTiling.pitch + block) * panels + panel) * panelCount + word % MatmulTiling.pitch
    }
  }

  /// Short parts lie side by side in the lanes of one panel; long ones begin with a panel of their own.
  private func place() -> (parts: [Placed], blocks: Int) {
    var next = 0
    let placed = parts.map { part in
      let words = (tiling.words(part.k) + 15) / 16 * 16  // packing writes 16 at a time
      let left = MatmulTiling.pitch - next % MatmulTiling.pitch
      if words > left, left < MatmulTiling.pitch { next += left }
      defer { next += words }
      return Placed(part: part, word: next)
    }
    return (placed, tiling.count(next, by: MatmulTiling.pitch))
  }

  /// The column panels of a product as jobs: groups of `size` while each worker gets as many, then equal shares of
  /// what is left.
  private struct Cut {
    let size: Int
    let panels: Int
    let groups: Int
    let share: Int

    init(_ panels: Int, size: Int, workers: Int) {
      self.size = size
      self.panels = panels
      groups = panels / (size * workers) * workers
      share = (panels - groups * size + workers - 1) / workers
    }
    private var rest: Int { panels - groups * size }
    var jobs: Int { share == 0 ? groups : groups + (rest + share - 1) / share }
    /// Most panels of a job.
    var most: Int { groups > 0 ? size : share }
    subscript(job: Int) -> Range<Int> {
      if job < groups { return job * size..<(job + 1) * size }
      let first = groups * size + (job - groups) * share
      return first..<min(panels, first + share)
    }
  }

  func run() throws {
    let (parts, blocks) = place()
    let block = tiling.blockLanes(lanes, panel: tiling.rows, floatsPerLane: blocks * MatmulTiling.pitch)
    let maximumPanels = block / tiling.rows
    let panels = blocks * maximumPanels
    let writtenLanes = parts.map { $0.part.rows.writtenLanes(tiling) }.max() ?? 0
    let packed = UncheckedPointer(
      try state.packed(
        panels * tiling.rowPanelCount, written: panels * MatmulTiling.pitch * writtenLanes))
    for first in stride(from: 0, to: lanes, by: block) {
      let range = first..<min(lanes, first + block)
      try pack(parts.filter { $0.part.product == nil }, range, to: packed)
      try stream(parts, range, maximumPanels, packed)
    }
  }

  /// Packs parts that are there.
  private func pack(_ parts: [Placed], _ rows: Range<Int>, to packed: UncheckedPointer) throws {
    let panels = tiling.count(rows.count, by: tiling.rows)
    let scratch = try state.workerBuffers(MatmulKernels.scratchCount)
    try pool.runUnlessInterrupted(parts.reduce(0) { $0 + tiling.blocks($1.part.k) } * panels) { job, worker in
      var block = job / panels
      for placed in parts {
        let blocks = tiling.blocks(placed.part.k)
        guard block < blocks else {
          block -= blocks
          continue
        }
        pack(placed, block: block, panel: job % panels, of: panels, rows, to: packed.value, scratch[worker])
        return
      }
    }
  }

  private func pack(
    _ placed: Placed, block: Int, panel: Int, of panels: Int, _ rows: Range<Int>,
    to packed: UnsafeMutablePointer<Float>, _ scratch: UnsafeMutablePointer<Float>
  ) {
    placed.part.rows.pack(
      tiling.kernels, tiling.mode, lanes: tiling.rowPanel(panel, of: rows.count).shifted(by: rows.lowerBound),
      steps: tiling.steps(block, of: placed.part.k),
      to: packed + placed.offset(block: block, panel: panel, panels: panels, tiling.rowPanelCount),
      laneStride: MatmulTiling.pitch, wordStride: 1, scratch: scratch)
  }

  /// Jobs of a region that others of it wait for. Jobs are handed out in their order, so these are under way by then.
  private final class Awaited: Sendable {
    private let left: Atomic<Int>
    init(_ count: Int) { left = Atomic(count) }

    func finishOne() { left.subtract(1, ordering: .releasing) }

    func wait() {
      var spins = 0
      while left.load(ordering: .acquiring) > 0 {
        spins &+= 1
        if spins & 255 == 0 { sched_yield() } else { cp_pause() }
      }
    }
  }

  /// What the jobs of a region share: the packed parts, the rows of the outputs that they are of, and the jobs that
  /// others wait for.
  private struct Region: @unchecked Sendable {
    let parts: [Placed]
    let packed: UnsafeMutablePointer<Float>
    let rows: Range<Int>
    /// Row panels.
    let panels: Int
    let awaited: Awaited
  }

  /// First the products that are parts, a job for some row panels of one, which packs them too. Then the others, a job
  /// for a group of column panels of one; where there are fewer of these than workers can share, the rows are divided.
  private func stream(
    _ parts: [Placed], _ rows: Range<Int>, _ maximumPanels: Int, _ packed: UncheckedPointer
  ) throws {
    let width = tiling.kernels.columns
    let panels = tiling.count(rows.count, by: tiling.rows)
    let size = panelsAtOnce(rows)
    let inner = parts.filter { $0.part.product != nil }
    let outer = products.indices.filter { number in !inner.contains { $0.part.product == number } }
    let cuts = outer.map {
      Cut(tiling.count(products[$0].columnCount, by: width), size: size, workers: pool.threadCount)
    }
    let jobs = cuts.reduce(0) { $0 + $1.jobs }
    let group = cuts.map(\.most).max() ?? 0
    let divisions = pool.threadCount > 1 && group == 1 && jobs < 2 * pool.threadCount ? min(panels, 4) : 1
    let shares = min(panels, 2 * pool.threadCount)
    let largest = inner.reduce(group) { max($0, min(size, tiling.count($1.part.k, by: width))) }
    let scratch = try state.workerBuffers(
      MatmulKernels.scratchCount + largest * (tiling.streamedCount + tiling.tileCount * maximumPanels))
    let region = Region(
      parts: parts, packed: packed.value, rows: rows, panels: panels, awaited: Awaited(inner.count * shares))
    pool.run(inner.count * shares + jobs * divisions) { job, worker in
      guard job >= inner.count * shares else {
        // Whoever waits for it would wait for ever.
        defer { region.awaited.finishOne() }
        if Interruption.isRequested() { return }
        let share = job % shares
        compute(
          inner[job / shares], panels: panels * share / shares..<panels * (share + 1) / shares, size * width, region,
          scratch[worker])
        return
      }
      if Interruption.isRequested() { return }
      var index = (job - inner.count * shares) / divisions
      let division = (job - inner.count * shares) % divisions
      for (number, cut) in zip(outer, cuts) {
        guard index >= cut.jobs else {
          let columns = cut[index]
          compute(
            products[number],
            columns: columns.lowerBound * width..<min(products[number].columnCount, columns.upperBound * width),
            panels: panels * division / divisions..<panels * (division + 1) / divisions, region, scratch[worker])
          return
        }
        index -= cut.jobs
      }
    }
    try Interruption.check()
  }

  /// A product that is a part, in some row panels, which are then packed; `size` columns at a time.
  private func compute(
    _ placed: Placed, panels: Range<Int>, _ size: Int, _ region: Region, _ buffer: UnsafeMutablePointer<Float>
  ) {
    guard let number = placed.part.product else { return }
    let product = products[number]
    for column in stride(from: 0, to: product.columnCount, by: size) {
      compute(
        product, columns: column..<min(product.columnCount, column + size), panels: panels, region, buffer)
    }
    for panel in panels {
      for block in 0..<tiling.blocks(placed.part.k) {
        pack(placed, block: block, panel: panel, of: region.panels, region.rows, to: region.packed, buffer)
      }
    }
  }

  /// The outputs of some column panels, in some row panels.
  private func compute(
    _ product: Product, columns: Range<Int>, panels: Range<Int>, _ region: Region,
    _ buffer: UnsafeMutablePointer<Float>
  ) {
    let width = tiling.kernels.columns
    let rows = region.rows
    let streamed = tiling.streamedCount
    let present = tiling.count(columns.count, by: width)
    let vectors = buffer + MatmulKernels.scratchCount
    let tiles = vectors + present * streamed
    let tileCount = tiling.tileCount
    let lastTerm = product.terms.lastIndex { parts[$0.part].k > 0 }
    var isFirst = true
    for (number, term) in product.terms.enumerated() {
      let placed = region.parts[term.part]
      if placed.part.product != nil { region.awaited.wait() }
      let blocks = tiling.blocks(placed.part.k)
      for block in 0..<blocks {
        let steps = tiling.steps(block, of: placed.part.k)
        let isLast = number == lastTerm && block == blocks - 1
        packColumns(term.columns, columns, steps, to: vectors, buffer)
        let first = region.packed + placed.offset(block: block, panel: 0, panels: region.panels, tiling.rowPanelCount)
        for panel in panels {
          let lanes = tiling.rowPanel(panel, of: rows.count)
          let sums = tiles + (panel - panels.lowerBound) * present * tileCount
          let place = lanes.shifted(by: rows.lowerBound)
          if isLast { tiling.prefetch(place, columns, of: product.output) }
          tiling.multiply(
            first + panel * tiling.rowPanelCount, lanes.count, vectors, columns.count, streamed,
            tiling.words(steps.count), sums, isFirst, tiling.mode.rawValue)
          guard isLast else { continue }
          for index in 0..<present {
            tiling.store(
              sums + index * tileCount, place,
              tiling.columnPanel(index, of: columns.count).shifted(by: columns.lowerBound), to: product.output, buffer)
          }
        }
        isFirst = false
      }
    }
  }

  /// Packs the column panels of a group. Where lanes follow each other, a few steps at a time across the panels, so
  /// that a cache line or a page is used up once it is there.
  private func packColumns(
    _ operand: MatmulOperand, _ columns: Range<Int>, _ steps: Range<Int>, to vectors: UnsafeMutablePointer<Float>,
    _ buffer: UnsafeMutablePointer<Float>
  ) {
    let width = tiling.kernels.columns
    let run = operand.runsAlongSteps ? steps.count : Self.streamedSteps
    for step in stride(from: steps.lowerBound, to: steps.upperBound, by: run) {
      operand.packPanels(
        tiling, columns: columns, steps: step..<min(steps.upperBound, step + run),
        to: vectors + tiling.words(step - steps.lowerBound) * width, pitch: tiling.streamedCount, scratch: buffer)
    }
  }
}
