import Tensors

// The operations of recurrent layers of the gated delta rule (Yang et al. 2024).

/// silu of a causal convolution of each channel of x[T, C] with weight [C, 1, K] over packed sequences: y[t, c] =
/// silu(sum over j of weight[c, 0, j] * x[t - K + 1 + j, c]). The dtype of x stays.
/// - Throws: `TensorError.otherDevice`; `.badShape` for an x that is not contiguous, `.innerDimensions` where its
///   columns are not the weight's; `.badDType` for segments that are not integers, `.outOfMemory`; what the device
///   reports.
public func causalConvolution(_ x: Tensor, weight: Tensor, segments: Tensor) throws -> Tensor {
  let backend = try x.backend(for: "convolution", with: weight, segments)
  let (channels, taps) = (weight.shape[0], weight.elementCount / weight.shape[0])
  let x = try x.contiguousRows(columns: channels, operation: "convolution", other: weight.shape)
  // Channels lie side by side in the kernels.
  let taken = try weight.viewed([channels, taps]).transposed(0, 1).contiguous()
    .converted(to: .f32, category: .workspace)
  let y = try Tensor(empty: x.shape, dtype: x.dtype, on: backend)
  try backend.causalConvolution(x, weight: taken, segments: segments, into: y)
  guard isRecording(x, weight) else { return y }
  let saved = x.detached()
  func again() throws -> Tensor {
    let y = try Tensor(empty: saved.shape, dtype: saved.dtype, on: backend)
    try backend.causalConvolution(saved, weight: taken, segments: segments, into: y)
    return y
  }
  record("convolution", inputs: [x, weight], output: y, recompute: again) { dy in
    let dx = try Tensor(empty: saved.shape, dtype: saved.dtype, on: backend)
    let dTaken = try weight.requiresGradient ? Tensor(empty: [taps, channels], on: backend) : nil
    try backend.causalConvolutionBackward(
      dy.contiguous(), saved, weight: taken, segments: segments, dx: dx, dWeight: dTaken)
    return [dx, try dTaken?.transposed(0, 1).contiguous().viewed(weight.shape)]
  }
  return y
}

/// The gated delta rule of packed sequences: [T, valueWidth] of the dtype of x[T, width]; see `Backend.deltaRule`.
/// decay and beta are f32 [T, valueHeads]. Where x is the result of a convolution, it is computed again in the backward
/// pass.
///
/// `state`, f32 [valueHeads, keyDim, valueDim], is what the only sequence goes on from and leaves its last state in;
/// then nothing is recorded.
/// - Throws: `TensorError.otherDevice`; `.badShape` for an x that is not contiguous, `.innerDimensions` where its
///   columns are not those of the shape; `.badDType` for segments that are not integers, `.outOfMemory`; what the
///   device reports.
public func deltaRule(
  _ x: Tensor, decay: Tensor, beta: Tensor, _ shape: DeltaRuleShape, state: Tensor? = nil
) throws -> Tensor {
  let backend = try x.backend(for: "delta_rule", with: decay, beta, shape.segments)
  let x = try x.contiguousRows(columns: shape.width, operation: "delta_rule", other: [shape.width])
  let (decay, beta) = (try decay.contiguous(), try beta.contiguous())
  let out = try Tensor(empty: [x.shape[0], shape.valueWidth], dtype: x.dtype, on: backend)
  try backend.deltaRule(x, decay: decay, beta: beta, shape, state: state, into: out)
  guard state == nil, isRecording(x, decay, beta) else { return out }
  let (saved, savedDecay, savedBeta) = (SavedInput(x), decay.detached(), beta.detached())
  record("delta_rule", inputs: [x, decay, beta], output: out) { dOut in
    let input = try saved.value()
    let dx = try Tensor(empty: input.shape, dtype: input.dtype, on: backend)
    let dDecay = try Tensor(empty: savedDecay.shape, on: backend)
    let dBeta = try Tensor(empty: savedBeta.shape, on: backend)
    try backend.deltaRuleBackward(
      dOut.contiguous(), input, decay: savedDecay, beta: savedBeta, shape, dx: dx, dDecay: dDecay, dBeta: dBeta)
    return [dx, dDecay, dBeta]
  }
  return out
}

/// The decays -exp(rate) * softplus(x + bias) of heads, f32 [T, heads], from x of a float dtype; rate and bias are f32
/// [heads].
/// - Throws: `TensorError.otherDevice`, `.shapeMismatch`, `.outOfMemory`; what the device reports.
public func headDecays(_ x: Tensor, rate: Tensor, bias: Tensor) throws -> Tensor {
  _ = try x.backend(for: "decays", with: rate, bias)
  func combine(_ operation: BinaryOperation, _ a: Tensor, _ b: Tensor) throws -> Tensor {
    try evaluate(operation, a, b, name: "decays")
  }
  let sum = try combine(.add, x, bias)
  // softplus(s) = max(s, 0) + log(1 + exp(-|s|)), which overflows nowhere.
  let small = try evaluate(.exp, try evaluate(.negate, try evaluate(.abs, sum)))
  let one = try Tensor([1], on: x.backend)
  let positive = try combine(.add, try evaluate(.relu, sum), try evaluate(.log, try combine(.add, small, one)))
  let factor = try evaluate(.negate, try evaluate(.exp, rate))
  let decay = try combine(.multiply, positive, factor)
  guard isRecording(x, rate, bias) else { return decay }
  let (dtype, saved) = (x.dtype, decay.detached())
  record("decays", inputs: [x, rate, bias], output: decay) { dDecay in
    let dSum = try combine(.multiply, try combine(.multiply, dDecay, factor), try evaluate(.sigmoid, sum))
    return [
      try dSum.converted(to: dtype),
      try rate.requiresGradient ? reduced(try combine(.multiply, dDecay, saved), to: rate.shape) : nil,
      try bias.requiresGradient ? reduced(dSum, to: bias.shape) : nil,
    ]
  }
  return decay
}
