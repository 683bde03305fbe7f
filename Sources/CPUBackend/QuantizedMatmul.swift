import Numerics
import Tensors

package typealias QuantizedWeightPointers = Numerics.QuantizedWeightPointers

extension CPUBackend {
  /// y[rows,out] = alpha * x[rows,in] W^T + beta * y for a 4-bit quantized W [out,in]; with `transposed`
  /// y[rows,in] = alpha * x[rows,out] W + beta * y, which is the gradient of the former with respect to its input.
  ///
  /// W is decoded in small tiles as it is needed, to exactly the values f32(codebook[code] * absmax); `precision`
  /// .bf16 rounds these and x to bfloat16 inside the product. A single row in f32 multiplies the sum of a group's
  /// products by absmax instead. y is not read when `beta` is 0. The result does not depend on the number of threads.
  package func quantizedMatmul(
    rows: Int, weight: QuantizedWeightPointers, transposed: Bool, alpha: Float, x: UnsafeRawPointer, xType: DType,
    xRowStride: Int, beta: Float, y: UnsafeMutableRawPointer, yType: DType, yRowStride: Int, precision: DType
  ) throws {
    precondition(xType.isFloat && yType.isFloat, "matrix products take f32, bf16 or f16")
    precondition(
      weight.absmax != nil
        || (weight.absmaxCodes != nil && weight.nestedAbsmax != nil && weight.nestedMap != nil),
      "a quantized weight needs the scales of its blocks")
    precondition(weight.blockSize > 0, "the block size of a quantized weight must be positive")
    try withUnsafePointer(to: weight) { address in
      let left = MatmulOperand(source: .dense(x, type: xType, stride: xRowStride, contiguous: true), lanes: rows)
      let right = MatmulOperand(
        source: .quantized(address, lanesAreRows: !transposed), lanes: transposed ? weight.in : weight.out)
      if !transposed, Self.takesDots(rows, weight) {
        try multiplyRows(
          left, right, k: weight.in, alpha: alpha, beta: beta, c: y, cType: yType, cRowStride: yRowStride,
          precision: precision)
        return
      }
      // The weight always streams. Decoding gives runs of a row of W, which fill a row panel as they are when the
      // contraction runs along W's rows and a column panel when it runs across them.
      try multiply(
        left, right, leftIsRows: transposed || rows >= Self.turnedQuantizedRows, streamsLeft: false,
        k: transposed ? weight.out : weight.in, alpha: alpha, beta: beta, c: y, cType: yType, cRowStride: yRowStride,
        precision: precision)
    }
  }

  /// Whether a product of so many rows is one of dots.
  static func takesDots(_ rows: Int, _ weight: QuantizedWeightPointers) -> Bool {
    guard rows <= dotRows else { return false }
    return rows == 1 ? weight.in % 32 == 0 && weight.blockSize % 32 == 0 : weight.hasWideSteps
  }
}
