// Matrices in block formats on a device without kernels for them: rows are decoded on the host, element by element.

extension Backend {
  /// Decodes on the host, row by row.
  /// - Throws: `TensorError.outOfMemory`; what the device reports.
  public func decodeBlocks(_ operand: BlockOperand, ids: Tensor?, into y: Tensor) throws {
    try composedDecodeBlocks(operand, ids: ids, into: y)
  }

  /// `decodeBlocks` on the host.
  package func composedDecodeBlocks(_ operand: BlockOperand, ids: Tensor?, into y: Tensor) throws {
    let width = operand.shape[1]
    let rows = try ids?.integers() ?? Array(0..<operand.shape[0])
    var values = [Float](repeating: 0, count: rows.count * width)
    func decode(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer?) {
      guard let base = first.baseAddress else { return }
      values.withUnsafeMutableBufferPointer { values in
        guard let target = values.baseAddress else { return }
        for (index, row) in rows.enumerated() {
          operand.decodeRow(row, base, second?.baseAddress, into: target + index * width)
        }
      }
    }
    try operand.bytes.withHostBytes { first in
      guard let second = operand.rows.second else { return decode(first, nil) }
      try second.withHostBytes { decode(first, $0) }
    }
    let decoded = try Tensor(values, category: .workspace, on: self)
    try copy(try decoded.viewed(y.shape), into: y)
  }

  /// Decodes the whole weight to workspace of dtype `precision` before the product.
  /// - Throws: `TensorError.outOfMemory`; what `decodeBlocks` and `matmul` throw.
  public func blockMatmul(
    _ x: Tensor, _ weight: BlockOperand, transposed: Bool, alpha: Float, beta: Float, into y: Tensor, precision: DType
  ) throws {
    let dense = try Tensor(empty: weight.shape, dtype: precision, category: .workspace, on: self)
    try decodeBlocks(weight, ids: nil, into: dense)
    try matmul(
      x, transposeA: false, dense, transposeB: !transposed, alpha: alpha, beta: beta, into: y, precision: precision)
  }
}
