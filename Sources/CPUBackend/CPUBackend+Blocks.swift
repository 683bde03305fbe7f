import Numerics
import Tensors

extension CPUBackend {
  /// Decodes W in small tiles as it is needed, to exactly the values that ggml computes, and never as a whole.
  ///
  /// At most 8 rows (16 where products take pairs of bf16) take dot products, in which the scales multiply sums of
  /// products with the codes: these are not rounded, and a row has the same bits whatever rows it is multiplied with.
  /// - Throws: `TensorError.outOfMemory` for packed operands and the scratch of the threads.
  public func blockMatmul(
    _ x: Tensor, _ weight: BlockOperand, transposed: Bool, alpha: Float, beta: Float, into y: Tensor, precision: DType
  ) throws {
    let (rows, out, columns) = (x.shape[0], weight.shape[0], weight.shape[1])
    let left = MatmulOperand(
      source: .dense(x.address, type: x.dtype, stride: x.rowStride, contiguous: true), lanes: rows)
    let right = MatmulOperand(
      source: .blocks(weight.pointers, lanesAreRows: !transposed), lanes: transposed ? columns : out)
    let kernels = matmulState.kernels
    if !transposed, rows <= kernels.blocks.dotRows(Self.mode(precision, pairs: kernels.dotPairsBF16)) {
      return try multiplyRows(
        left, right, k: columns, alpha: alpha, beta: beta, c: y.address, cType: y.dtype, cRowStride: y.rowStride,
        precision: precision)
    }
    // As in `quantizedMatmul`, the weight always streams.
    try multiply(
      left, right, leftIsRows: transposed || rows >= Self.turnedQuantizedRows, streamsLeft: false,
      k: transposed ? out : columns, alpha: alpha, beta: beta, c: y.address, cType: y.dtype, cRowStride: y.rowStride,
      precision: precision)
  }

  /// Decodes rows in parallel, each by way of floats. An id outside the table is not caught.
  /// - Throws: `TensorError.outOfMemory` for a row of floats for each thread.
  public func decodeBlocks(_ operand: BlockOperand, ids: Tensor?, into y: Tensor) throws {
    let (count, width) = (ids?.elementCount ?? operand.shape[0], operand.shape[1])
    let (weight, target) = (Shared(operand.pointers), Shared(y.address))
    let rows = Shared(ids.map { UnsafePointer($0.idAddress) })
    let (decode, cast, type) = (matmulState.kernels.blocks.decodeRow, tables.rows.cast, y.dtype)
    let buffers = try matmulState.workerBuffers(width)
    pool.forEachRange(count, grain: rowGrain(width)) { range, worker in
      for index in range {
        let row = rows.value.map { Int($0[index]) } ?? index
        let to = target.value + index * width * type.byteCount
        if type == .f32 {
          decode(weight.value, row, to.assumingMemoryBound(to: Float.self))
        } else {
          decode(weight.value, row, buffers[worker])
          cast(buffers[worker], DType.f32.rawValue, to, type.rawValue, width)
        }
      }
    }
  }
}
