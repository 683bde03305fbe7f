import Numerics
import Tensors

/// Products of the same few rows of x, at most 8 (of blocks `BlockKernels.mostRows`), with the rows of long matrices:
/// y_i = alpha x W_i^T + beta y_i.
///
/// Each matrix is read once and not packed. All products are one region of the pool, so that the threads wait for each
/// other once, and each thread reads rows that follow each other as one stream. What a row gives depends neither on the
/// other matrices nor on the threads.
struct RowProducts: @unchecked Sendable {
  struct Product {
    /// The rows of a matrix are its lanes.
    var matrix: MatmulOperand
    var output: MatmulOutput
  }

  let tiling: MatmulTiling
  let state: MatmulState
  let pool: ThreadPool
  /// x: its lanes are the few rows.
  let rows: MatmulOperand
  let k: Int
  let products: [Product]

  private var kernels: MatmulKernels { tiling.kernels }
  private var mode: MatmulMode { tiling.mode }

  /// Room for the few rows: packing that transposes completes them to 8, the kernels to a multiple of 4.
  private var lanes: Int { (rows.lanes + 7) / 8 * 8 }
  /// Products of so few multiplications take less time than a second thread needs to see them.
  private static let alone = 1 << 14

  /// How the kernels of a matrix want x.
  private enum Order: Equatable {
    case plain
    case split(isWide: Bool)
    case blocks(format: Int32)
  }

  /// A product with its share of the panels of all.
  private struct Part {
    var product: Product
    var panels: Range<Int>
    var order: Order
    /// Which of the different orders that is.
    var place: Int
    /// x in this order, and the words from one row of it to the next.
    var x: UnsafeMutablePointer<Float>
    var pitch: Int
  }

  func run() throws {
    let tile = max(kernels.columns * lanes, kernels.blocks.tileCount(columns: kernels.columns))
    let scratch = try state.workerBuffers(MatmulKernels.scratchCount + tile)
    state.readAhead.note(products, k: k, pool.expectation)
    // A product of one row takes less time than a list on the heap for each would.
    try withUnsafeTemporaryAllocation(of: Part.self, capacity: products.count) { all in
      guard let first = all.baseAddress else { return }
      let parts = Shared(UnsafePointer(first))
      let panels = try fill(all, scratch[0])
      let work = products.reduce(0) { $0 + $1.matrix.lanes } * k * rows.lanes
      let jobs = work <= Self.alone ? 1 : min(panels, 8 * pool.threadCount)
      // The threads get values alone: counting references to the same objects, they would wait for each other.
      let (tiling, lanes, k) = (tiling, rows.lanes, k)
      try pool.runUnlessInterrupted(jobs, inShares: true) { job, worker in
        let end = panels * (job + 1) / jobs
        var (panel, index) = (panels * job / jobs, 0)
        while panel < end {
          while panel >= parts.value[index].panels.upperBound { index += 1 }
          Self.multiply(parts.value + index, panel, lanes: lanes, k: k, tiling, scratch[worker])
          panel += 1
        }
      }
    }
  }

  /// Brings x into the orders that the matrices need, each once.
  /// - Returns: the panels of all products.
  private func fill(_ parts: UnsafeMutableBufferPointer<Part>, _ scratch: UnsafeMutablePointer<Float>) throws -> Int {
    var (panels, orders) = (0, 0)
    for (index, product) in products.enumerated() {
      let order = order(of: product.matrix)
      let place = parts[..<index].first { $0.order == order }?.place ?? orders
      orders = max(orders, place + 1)
      let count = tiling.count(product.matrix.lanes, by: kernels.columns)
      parts.initializeElement(
        at: index,
        to: Part(product: product, panels: panels..<panels + count, order: order, place: place, x: scratch, pitch: 0))
      panels += count
    }
    // Blocks read x from a copy behind the packed rows.
    let arranged = products.reduce(0) { most, product in
      guard case .blocks(let weight, _) = product.matrix.source else { return most }
      return max(most, kernels.blocks.arrangedCount(weight.pointee.format, k, mode.rawValue))
    }
    let room = ((k + 31) / 32 * 32 + arranged) * lanes
    let packed = try state.packed(room * orders)
    orders = 0
    for index in products.indices {
      let place = parts[index].place
      parts[index].x = packed + room * place
      if place == orders {
        (parts[index].x, parts[index].pitch) = pack(parts[index].order, parts[index].x, scratch)
        orders += 1
      } else {
        if let same = parts[..<index].first(where: { $0.place == place }) {
          (parts[index].x, parts[index].pitch) = (same.x, same.pitch)
        }
      }
    }
    return panels
  }

  private func order(of matrix: MatmulOperand) -> Order {
    switch matrix.source {
    case .dense: .plain
    case .quantized(let weight, _): .split(isWide: weight.pointee.hasWideSteps)
    case .blocks(let weight, _): .blocks(format: weight.pointee.format)
    }
  }

  /// - Returns: where x is, and the words from one row to the next.
  private func pack(
    _ order: Order, _ target: UnsafeMutablePointer<Float>, _ scratch: UnsafeMutablePointer<Float>
  ) -> (UnsafeMutablePointer<Float>, Int) {
    // Rows that will be split are packed as floats first.
    var packMode = mode
    if case .split = order, mode == .pairs { packMode = .rounded }
    let pitch = ((packMode == .pairs ? tiling.words(k) : k) + 31) / 32 * 32
    rows.pack(
      kernels, packMode, lanes: 0..<rows.lanes, steps: 0..<k, to: target, laneStride: pitch, wordStride: 1,
      scratch: scratch)
    switch order {
    case .plain: break
    case .split(let isWide):
      for lane in 0..<rows.lanes { kernels.splitEvenOdd(target + lane * pitch, pitch, mode.rawValue, isWide) }
    case .blocks(let format):
      let to = target + pitch * lanes
      kernels.blocks.arrange(format, target, rows.lanes, k, pitch, to, mode.rawValue)
      return (to, kernels.blocks.arrangedCount(format, k, mode.rawValue))
    }
    return (target, pitch)
  }

  private static func multiply(
    _ part: UnsafePointer<Part>, _ panel: Int, lanes: Int, k: Int, _ tiling: MatmulTiling,
    _ scratch: UnsafeMutablePointer<Float>
  ) {
    let (kernels, mode) = (tiling.kernels, tiling.mode.rawValue)
    let (x, pitch, matrix) = (part.pointee.x, part.pointee.pitch, part.pointee.product.matrix)
    let range = tiling.columnPanel(panel - part.pointee.panels.lowerBound, of: matrix.lanes)
    let tile = scratch + MatmulKernels.scratchCount
    switch matrix.source {
    case .dense(let base, let type, let stride, _):
      kernels.dots(
        base + range.lowerBound * stride * type.byteCount, type.rawValue, stride, range.count, k, x, lanes, pitch, tile,
        mode)
    case .quantized(let weight, _):
      kernels.quantizedDots(UnsafeRawPointer(weight), range.lowerBound, range.count, x, lanes, pitch, tile, mode)
    case .blocks(let weight, _):
      kernels.blocks.dots(UnsafeRawPointer(weight), range.lowerBound, range.count, x, lanes, pitch, tile, mode)
    }
    tiling.store(tile, 0..<lanes, range, to: part.pointee.product.output, scratch)
  }
}
