import Numerics
import Tensors

/// Buffers and threads of a product.
package struct Workplace: Sendable {
  let state: MatmulState
  let pool: ThreadPool
}

/// What products that are computed at a time, each by one worker, keep between calls. One caller at a time.
final class ProductBatch: @unchecked Sendable {
  /// What determines how much room a product needs.
  private struct Shape: Hashable {
    let sizes: SIMD3<Int>
    let transposes: SIMD2<UInt8>
    let types: SIMD4<Int32>

    init(_ product: MatrixProduct, _ precision: DType) {
      sizes = SIMD3(product.c.shape[0], product.c.shape[1], product.depth)
      transposes = SIMD2(product.transposeA ? 1 : 0, product.transposeB ? 1 : 0)
      types = SIMD4(
        product.a.dtype.rawValue, product.b.dtype.rawValue, product.c.dtype.rawValue, precision.rawValue)
    }
  }

  private let states: [MatmulState]
  private let alone = ThreadPool(threadCount: 1)
  private let nobody = ThreadPool(threadCount: 1, isRehearsal: true)
  private var prepared: Set<Shape> = []

  init(kernels: MatmulKernels, workers: Int, memory: MemoryLedger) {
    states = (0..<workers).map { _ in MatmulState(kernels: kernels, workers: 1, memory: memory) }
  }

  /// Bytes written so far, in the buffers of all workers.
  var byteCount: Int { states.reduce(0) { $0 + $1.byteCount } }

  /// Multiply-adds from which on a product is worth all workers: they take about 0.2 ms of one.
  private static let mostWork = 1 << 24

  /// Whether a product is one for a single worker.
  static func takes(_ product: MatrixProduct) -> Bool {
    product.c.elementCount * product.depth <= mostWork
  }

  /// A place for each worker that has room for all of the products: the books take no entries from several threads.
  func places(
    _ products: [MatrixProduct], _ precision: DType, reserve: (MatrixProduct, Workplace) throws -> Void
  ) throws -> [Workplace] {
    for product in products {
      let shape = Shape(product, precision)
      guard !prepared.contains(shape) else { continue }
      for state in states { try reserve(product, Workplace(state: state, pool: nobody)) }
      prepared.insert(shape)
    }
    return states.map { Workplace(state: $0, pool: alone) }
  }
}
