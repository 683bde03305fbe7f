// Layer normalisation in terms of elementwise operations and reductions: the form of a device without a kernel for it.

extension Backend {
  /// Intermediate results are f32 workspace.
  /// - Throws: `TensorError.outOfMemory`; `TensorError.shapeMismatch` or `TensorError.elementCount` when shapes do not
  ///   fit; what the device reports.
  public func layerNorm(
    _ x: Tensor, weight: Tensor, bias: Tensor, epsilon: Float, into y: Tensor, mean: Tensor, rstd: Tensor
  ) throws {
    let rows = try x.rows(of: weight.elementCount)
    let wide = try rows.converted(to: .f32, category: .workspace)
    try reduce(.mean, wide, outer: rows.shape[0], count: rows.shape[1], inner: 1, into: mean)
    let centred = try evaluated(.subtract, wide, try mean.viewed([rows.shape[0], 1]))
    let variance = try reducedRows(.mean, try evaluated(.square, centred))
    try unary(.rsqrt, try evaluated(.add, variance, try scalar(epsilon)), into: rstd)
    let normal = try evaluated(.multiply, centred, try rstd.viewed([rows.shape[0], 1]))
    let result = try evaluated(.add, try evaluated(.multiply, normal, weight), bias)
    try copy(try result.viewed(y.shape), into: y)
  }

  /// With n = (x - mean) * rstd and g = dy * weight: dx = rstd * (g - mean(g) - n * mean(g * n)), in f32 workspace.
  /// - Throws: `TensorError.outOfMemory`; `TensorError.shapeMismatch` or `TensorError.elementCount` when shapes do not
  ///   fit; what the device reports.
  public func layerNormBackward(
    _ dy: Tensor, _ x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, into dx: Tensor, sums: Tensor?
  ) throws {
    let width = weight.elementCount
    let (rows, dRows) = (try x.rows(of: width), try dy.rows(of: width))
    let count = rows.shape[0]
    let scales = try rstd.viewed([count, 1])
    let centred = try evaluated(.subtract, rows, try mean.viewed([count, 1]))
    let n = try evaluated(.multiply, centred, scales)
    let g = try evaluated(.multiply, dRows, weight)
    let along = try evaluated(.multiply, n, try reducedRows(.mean, try evaluated(.multiply, g, n)))
    let rest = try evaluated(.subtract, try evaluated(.subtract, g, try reducedRows(.mean, g)), along)
    try copy(try evaluated(.multiply, rest, scales).viewed(dx.shape), into: dx)
    guard let sums else { return }
    let products = [try evaluated(.multiply, dRows, n), try dRows.converted(to: .f32, category: .workspace)]
    for (index, terms) in products.enumerated() {
      try reduce(.sum, terms, outer: 1, count: count, inner: width, into: try sums.selected(0, index))
    }
  }
}
