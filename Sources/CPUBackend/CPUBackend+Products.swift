import Numerics
import Synchronization
import Tensors

extension CPUBackend {
  /// Packs one side in blocks that stay in the caches and streams the other past it in tiles of registers.
  ///
  /// At most 8 rows against more rows of a transposed b take dot products instead, and `ThinProduct`s small tiles.
  /// The order of the sums does not depend on the number of threads. Operands are f32, bf16 or f16; another dtype ends
  /// the program.
  /// - Throws: `TensorError.outOfMemory` for packed operands and the scratch of the threads.
  public func matmul(
    _ a: Tensor, transposeA: Bool, _ b: Tensor, transposeB: Bool, alpha: Float, beta: Float, into c: Tensor,
    precision: DType
  ) throws {
    try matmul(
      m: c.shape[0], n: c.shape[1], k: a.shape[transposeA ? 0 : 1], alpha: alpha, a: a.address, aType: a.dtype,
      aRowStride: a.rowStride, transposeA: transposeA, b: b.address, bType: b.dtype, bRowStride: b.rowStride,
      transposeB: transposeB, beta: beta, c: c.address, cType: c.dtype, cRowStride: c.rowStride, precision: precision)
  }

  /// Several small products at a time, each by one worker. To bring the workers together for each would take most of
  /// the time of products of few rows with few columns. The bits are those of one after the other.
  /// - Throws: `TensorError.outOfMemory` for the packed operands of each worker.
  public func matmuls(_ products: [MatrixProduct], precision: DType) throws {
    guard pool.threadCount > 1, products.count > 1, products.allSatisfy(ProductBatch.takes) else {
      for product in products { try product.compute(on: self, precision: precision) }
      return
    }
    let places = try productBatch.places(products, precision) {
      try compute($0, precision: precision, at: $1)
    }
    let failure = Mutex<(any Error)?>(nil)
    try pool.runUnlessInterrupted(products.count) { index, worker in
      do {
        try compute(products[index], precision: precision, at: places[worker])
      } catch {
        failure.withLock { $0 = error }
      }
    }
    if let error = failure.withLock({ $0 }) { throw error }
  }

  private func compute(_ product: MatrixProduct, precision: DType, at place: Workplace) throws {
    let (a, b, c) = (product.a, product.b, product.c)
    try matmul(
      m: c.shape[0], n: c.shape[1], k: product.depth, alpha: product.alpha, a: a.address, aType: a.dtype,
      aRowStride: a.rowStride, transposeA: product.transposeA, b: b.address, bType: b.dtype, bRowStride: b.rowStride,
      transposeB: product.transposeB, beta: product.beta, c: c.address, cType: c.dtype, cRowStride: c.rowStride,
      precision: precision, at: place)
  }

  /// Decodes W in small tiles as it is needed, to f32(codebook[code] * absmax), and never as a whole.
  ///
  /// At most 8 rows take dot products where the row and the block of W are multiples of 32. A single row in f32
  /// multiplies the sum of a group's products by absmax.
  /// - Throws: `TensorError.outOfMemory` for packed operands and the scratch of the threads.
  public func quantizedMatmul(
    _ x: Tensor, _ weight: QuantizedOperand, transposed: Bool, alpha: Float, beta: Float, into y: Tensor,
    precision: DType
  ) throws {
    try quantizedMatmul(
      rows: x.shape[0], weight: weight.pointers.pointee, transposed: transposed, alpha: alpha, x: x.address,
      xType: x.dtype, xRowStride: x.rowStride, beta: beta, y: y.address, yType: y.dtype, yRowStride: y.rowStride,
      precision: precision)
  }
}
