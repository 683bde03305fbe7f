import Numerics
import Tensors

extension CPUBackend {
  /// Reads a row three times: for its mean, for its variance, then for the result.
  /// - Throws: Nothing.
  public func layerNorm(
    _ x: Tensor, weight: Tensor, bias: Tensor, epsilon: Float, into y: Tensor, mean: Tensor, rstd: Tensor
  ) throws {
    let width = weight.elementCount
    let (source, target, means, scales) = (
      Shared(x.address), Shared(y.address), Shared(mean.floatAddress), Shared(rstd.floatAddress)
    )
    let (weights, biases) = (Shared(weight.floatAddress), Shared(bias.floatAddress))
    let (kernels, type, size) = (tables.rows, x.type, x.dtype.byteCount)
    pool.forEachRange(x.elementCount / width, grain: rowGrain(width)) { range, _ in
      let (first, row) = (range.lowerBound * width * size, range.lowerBound)
      kernels.layerNorm(
        source.value + first, type, weights.value, biases.value, range.count, width, epsilon, target.value + first,
        means.value + row, scales.value + row)
    }
  }

  /// Works on groups of 64 rows in parallel. The gradients of weight and bias are summed in f32 for each group and over
  /// the groups in order, so that they do not depend on the threads.
  /// - Throws: `TensorError.outOfMemory` for the sums of the groups, f32 [groups, 2, D].
  public func layerNormBackward(
    _ dy: Tensor, _ x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, into dx: Tensor, sums: Tensor?
  ) throws {
    let width = weight.elementCount
    let rows = x.elementCount / width
    let (gradient, source, target) = (Shared(dy.address), Shared(x.address), Shared(dx.address))
    let (weights, means, scales) = (
      Shared(weight.floatAddress), Shared(mean.floatAddress), Shared(rstd.floatAddress)
    )
    let (kernels, type, size) = (tables.rows, x.type, x.dtype.byteCount)
    let rowsPerGroup = 64
    let groups = (rows + rowsPerGroup - 1) / rowsPerGroup
    let partial = try sums.map { _ in
      try Tensor(full: [groups, 2 * width], value: 0, category: .workspace, on: self)
    }
    let partials = Shared(partial?.floatAddress)
    pool.run(groups) { group, _ in
      let first = group * rowsPerGroup
      let at = first * width * size
      kernels.layerNormBackward(
        gradient.value + at, source.value + at, type, weights.value, means.value + first, scales.value + first,
        min(rowsPerGroup, rows - first), width, target.value + at, partials.value.map { $0 + group * 2 * width })
    }
    guard let sums, let partial, !pool.isRehearsal else { return }
    try fill(sums, 0)
    for group in 0..<groups {
      kernels.accumulate(partial.floatAddress + group * 2 * width, 0, 1, sums.address, 0, 1, 2 * width)
    }
  }
}
