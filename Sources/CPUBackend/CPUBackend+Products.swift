import Numerics
import Tensors

extension CPUBackend {
  public func matmul(
    _ a: Tensor, transposeA: Bool, _ b: Tensor, transposeB: Bool, alpha: Float, beta: Float, into c: Tensor,
    precision: DType
  ) throws {
    try matmul(
      m: c.shape[0], n: c.shape[1], k: a.shape[transposeA ? 0 : 1], alpha: alpha, a: a.address, aType: a.dtype,
      aRowStride: a.rowStride, transposeA: transposeA, b: b.address, bType: b.dtype, bRowStride: b.rowStride,
      transposeB: transposeB, beta: beta, c: c.address, cType: c.dtype, cRowStride: c.rowStride, precision: precision)
  }

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
