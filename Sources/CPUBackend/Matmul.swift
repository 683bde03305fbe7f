import Numerics
import Tensors

extension CPUBackend {
  /// C[m,n] = alpha * op(A) op(B) + beta * C in row-major memory.
  ///
  /// A is [m,k], or [k,m] when `transposeA`; B is [k,n], or [n,k] when `transposeB`. Row strides count elements. The
  /// three types are f32, bf16 or f16 in any mix. With `precision` .bf16 the operands are rounded to bfloat16
  /// inside the product, with .f32 they are taken as they are; sums are f32 either way. C is not read when
  /// `beta` is 0. The result does not depend on the number of threads.
  package func matmul(
    m: Int, n: Int, k: Int, alpha: Float, a: UnsafeRawPointer, aType: DType, aRowStride: Int, transposeA: Bool,
    b: UnsafeRawPointer, bType: DType, bRowStride: Int, transposeB: Bool, beta: Float, c: UnsafeMutableRawPointer,
    cType: DType, cRowStride: Int, precision: DType, at place: Workplace? = nil
  ) throws {
    precondition(aType.isFloat && bType.isFloat && cType.isFloat, "matrix products take f32, bf16 or f16")
    let left = MatmulOperand(
      source: .dense(a, type: aType, stride: aRowStride, contiguous: !transposeA), lanes: m)
    let right = MatmulOperand(
      source: .dense(b, type: bType, stride: bRowStride, contiguous: transposeB), lanes: n)
    if ThinProduct.takes(m: m, n: n, k: k) {
      try multiplyThin(
        left, right, k: k,
        output: MatmulOutput(base: c, type: cType, stride: cRowStride, transposed: m > n, alpha: alpha, beta: beta),
        precision: precision, at: place ?? workplace)
      return
    }
    // The longer side streams; a side whose lanes are contiguous along the contraction is a row side, since its panels
    // are then plain copies. Row lanes that are rows of A give the output as it lies in memory.
    if transposeB, m <= Self.dotRows, m < n {
      try multiplyRows(
        left, right, k: k, alpha: alpha, beta: beta, c: c, cType: cType, cRowStride: cRowStride, precision: precision,
        at: place)
      return
    }
    // With a short contraction writing the output is most of the work, so then whole rows of it are written at once.
    let isShort = k <= 64 && m >= 64
    let streamsLeft = isShort || m > n
    let leftIsRows = isShort || (streamsLeft ? !transposeA : !transposeB || m >= Self.turnedRows)
    try multiply(
      left, right, leftIsRows: leftIsRows, streamsLeft: streamsLeft, k: k, alpha: alpha, beta: beta, c: c,
      cType: cType, cRowStride: cRowStride, precision: precision, at: place)
  }

  /// With at most so many rows, a pass over the other side by dot products is faster than tiles.
  static let dotRows = 8
  /// From so many rows on, turning the lanes of the other side while they are packed costs less than turning the
  /// results while they are stored (measured: at 128 rows a dense side gains 6 %, a quantized one 30 to 40 %; at 16
  /// rows this loses up to a fifth).
  static let turnedRows = 128
  static let turnedQuantizedRows = 24

  private func driver(
    _ rows: MatmulOperand, _ columns: MatmulOperand, k: Int, precision: DType, output: MatmulOutput,
    at place: Workplace
  ) -> MatmulDriver {
    MatmulDriver(
      tiling: tiling(precision), state: place.state, pool: place.pool, rows: rows, columns: columns, k: max(0, k),
      output: output)
  }

  private func multiplyThin(
    _ left: MatmulOperand, _ right: MatmulOperand, k: Int, output: MatmulOutput, precision: DType, at place: Workplace
  ) throws {
    guard left.lanes > 0, right.lanes > 0 else { return }
    let tiling = MatmulTiling(kernels: matmulState.kernels, mode: Self.mode(precision, pairs: false))
    try ThinProduct(
      tiling: tiling, state: place.state, pool: place.pool, rows: output.transposed ? right : left,
      columns: output.transposed ? left : right, k: k, output: output
    ).run()
  }

  func tiling(_ precision: DType) -> MatmulTiling {
    let kernels = matmulState.kernels
    return MatmulTiling(kernels: kernels, mode: Self.mode(precision, pairs: kernels.pairsBF16))
  }

  static func mode(_ precision: DType, pairs: Bool) -> MatmulMode {
    precision == .bf16 ? (pairs ? .pairs : .rounded) : .float
  }

  /// A product of few rows.
  func multiplyRows(
    _ left: MatmulOperand, _ right: MatmulOperand, k: Int, alpha: Float, beta: Float, c: UnsafeMutableRawPointer,
    cType: DType, cRowStride: Int, precision: DType, at place: Workplace? = nil
  ) throws {
    let output = MatmulOutput(base: c, type: cType, stride: cRowStride, transposed: false, alpha: alpha, beta: beta)
    try multiplyRows(
      left, [RowProducts.Product(matrix: right, output: output)], k: k, precision: precision, at: place)
  }

  /// Products of the same few rows.
  func multiplyRows(
    _ rows: MatmulOperand, _ products: [RowProducts.Product], k: Int, precision: DType, at place: Workplace? = nil
  ) throws {
    let place = place ?? workplace
    let products = products.filter { $0.matrix.lanes > 0 }
    guard rows.lanes > 0, !products.isEmpty else { return }
    let kernels = matmulState.kernels
    let tiling = MatmulTiling(kernels: kernels, mode: Self.mode(precision, pairs: kernels.dotPairsBF16))
    guard k > 0 else {
      for product in products {
        try MatmulDriver(
          tiling: tiling, state: place.state, pool: place.pool, rows: rows, columns: product.matrix, k: 0,
          output: product.output
        ).scaleOutput()
      }
      return
    }
    try RowProducts(
      tiling: tiling, state: place.state, pool: place.pool, rows: rows, k: k, products: products
    ).run()
  }

  func multiply(
    _ left: MatmulOperand, _ right: MatmulOperand, leftIsRows: Bool, streamsLeft: Bool, k: Int, alpha: Float,
    beta: Float, c: UnsafeMutableRawPointer, cType: DType, cRowStride: Int, precision: DType, at place: Workplace? = nil
  ) throws {
    guard left.lanes > 0, right.lanes > 0 else { return }
    let driver = driver(
      leftIsRows ? left : right, leftIsRows ? right : left, k: k, precision: precision,
      output: MatmulOutput(
        base: c, type: cType, stride: cRowStride, transposed: !leftIsRows, alpha: alpha, beta: beta),
      at: place ?? workplace)
    if k <= 0 {
      try driver.scaleOutput()
    } else if streamsLeft == leftIsRows {
      try driver.runStreamingRows()
    } else {
      try driver.runStreamingColumns()
    }
  }
}
