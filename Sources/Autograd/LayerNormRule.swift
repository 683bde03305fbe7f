import Tensors

/// Layer normalisation over the last dimension (Ba et al. 2016).
///
/// y = (x - mean) * rstd * weight + bias with rstd = 1 / sqrt(variance + epsilon) in f32, the variance that of the row.
/// The dtype of x stays; weight and bias are f32. x is contiguous, with as many columns as the weight has elements.
/// - Throws: `TensorError.otherDevice`, `.innerDimensions`, `.badDType` for a weight or bias that is not f32,
///   `.shapeMismatch` for a bias of another shape, `.badShape` for an x that is not contiguous, `.outOfMemory`; what
///   the device reports.
public func layerNorm(_ x: Tensor, weight: Tensor, bias: Tensor, epsilon: Float) throws -> Tensor {
  let backend = try x.backend(for: "layer_norm", with: weight, bias)
  guard weight.shape == bias.shape else {
    throw TensorError.shapeMismatch(operation: "layer_norm", lhs: weight.shape, rhs: bias.shape)
  }
  for parameter in [weight, bias] where parameter.dtype != .f32 {
    throw TensorError.badDType(operation: "layer_norm", got: parameter.dtype, expected: [.f32])
  }
  let width = weight.elementCount
  let x = try x.contiguousRows(columns: width, operation: "layer_norm", other: weight.shape)
  let y = try Tensor(empty: x.shape, dtype: x.dtype, on: backend)
  let rows = x.elementCount / width
  let (mean, rstd) = (try Tensor(empty: [rows], on: backend), try Tensor(empty: [rows], on: backend))
  try backend.layerNorm(x, weight: weight, bias: bias, epsilon: epsilon, into: y, mean: mean, rstd: rstd)
  guard isRecording(x, weight, bias) else { return y }
  let saved = x.detached()
  func again() throws -> Tensor {
    let y = try Tensor(empty: saved.shape, dtype: saved.dtype, on: backend)
    try backend.layerNorm(saved, weight: weight, bias: bias, epsilon: epsilon, into: y, mean: mean, rstd: rstd)
    return y
  }
  record("layer_norm", inputs: [x, weight, bias], output: y, recompute: again) { dy in
    let dx = try Tensor(empty: saved.shape, dtype: saved.dtype, on: backend)
    let trains = weight.requiresGradient || bias.requiresGradient
    let sums = try trains ? Tensor(empty: [2, width], on: backend) : nil
    try backend.layerNormBackward(
      dy.contiguous(), saved, weight: weight, mean: mean, rstd: rstd, into: dx, sums: sums)
    return [dx, try sums?.selected(0, 0).copied(), try sums?.selected(0, 1).copied()]
  }
  return y
}
