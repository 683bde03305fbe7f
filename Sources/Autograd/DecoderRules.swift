import Tensors

// The coarse operations of a decoder, forward and backward side by side. Activations keep the dtype of their input
// (f32 or bf16); `precision` says how products round their operands.

/// Root-mean-square normalisation over the last dimension (Zhang and Sennrich 2019).
///
/// y = x * rstd * (offset + weight) with rstd = 1 / sqrt(mean(x^2) + epsilon) in f32. Gemma's weights are stored less
/// one, so its offset is 1. The dtype of x stays. x is contiguous, with as many columns as the weight has elements.
/// - Throws: `TensorError.otherDevice`, `.innerDimensions`, `.badShape` for an x that is not contiguous,
///   `.outOfMemory`; what the device reports.
public func rmsNorm(_ x: Tensor, weight: Tensor, offset: Float = 0, epsilon: Float) throws -> Tensor {
  let backend = try x.backend(for: "rms_norm", with: weight)
  let width = weight.elementCount
  let x = try x.contiguousRows(columns: width, operation: "rms_norm", other: weight.shape)
  let y = try Tensor(empty: x.shape, dtype: x.dtype, on: backend)
  let rstd = try Tensor(empty: [x.elementCount / width], dtype: .f32, on: backend)
  try backend.rmsNorm(x, weight: weight, offset: offset, epsilon: epsilon, into: y, rstd: rstd)
  guard isRecording(x, weight) else { return y }
  let saved = x.detached()
  func again() throws -> Tensor {
    let y = try Tensor(empty: saved.shape, dtype: saved.dtype, on: backend)
    try backend.rmsNorm(saved, weight: weight, offset: offset, epsilon: epsilon, into: y, rstd: rstd)
    return y
  }
  record("rms_norm", inputs: [x, weight], output: y, recompute: again) { dy in
    let dx = try Tensor(empty: saved.shape, dtype: saved.dtype, on: backend)
    let dWeight = weight.requiresGradient ? try Tensor(full: weight.shape, value: 0, on: backend) : nil
    try backend.rmsNormBackward(
      dy.contiguous(), saved, weight: weight, offset: offset, rstd: rstd, into: dx, accumulate: false,
      dWeight: dWeight)
    return [dx, dWeight]
  }
  return y
}

/// Rotary position embedding (Su et al. 2021, in the half-split form of transformers) on [T, heads * headDim].
///
/// The tables are f32 [rows, h]; `positions` i32 [T] names their rows, and the first 2h elements of a head turn. Shapes
/// and positions are not checked. Works in place on `x`, which must be a contiguous fresh result that no rule has
/// saved.
/// - Throws: `TensorError.otherDevice`; what the device reports.
public func rope(
  inPlace x: Tensor, heads: Int, headDim: Int, cosine: Tensor, sine: Tensor, positions: Tensor
) throws -> Tensor {
  let backend = try x.backend(for: "rope", with: cosine, sine, positions)
  try backend.rope(
    x, heads: heads, headDim: headDim, cosine: cosine, sine: sine, positions: positions, inverse: false)
  guard isRecording(x) else { return x }
  let y = x.detached()
  record("rope", inputs: [x], output: y) { dy in
    let dx = try dy.copied()
    try backend.rope(
      dx, heads: heads, headDim: headDim, cosine: cosine, sine: sine, positions: positions, inverse: true)
    return [dx]
  }
  return y
}

/// Causal softmax attention over packed sequences; q [T, heads * headDim], k and v [T, kvHeads * headDim], contiguous.
///
/// A sink s of a head adds exp(s) to the denominators of its rows, p = exp(s - lse) of each; a row's values then sum to
/// out with weight 1 - p, so that ds = -sum over rows of p * (dOut . out). Shapes are not checked.
/// - Throws: `TensorError.otherDevice`, `.outOfMemory`, `.badDType` for segments that are not integers; what the device
///   reports.
public func attention(_ q: Tensor, _ k: Tensor, _ v: Tensor, _ shape: AttentionShape) throws -> Tensor {
  let backend = try q.backend(for: "attention", with: k, v, shape.segments)
  let out = try Tensor(empty: q.shape, dtype: q.dtype, on: backend)
  let lse = try Tensor(empty: [shape.heads, q.shape[0]], dtype: .f32, on: backend)
  try backend.attention(q, k, v, shape, into: out, lse: lse)
  guard isRecording(q, k, v) || isRecording(shape.sinks) else { return out }
  let (savedQ, savedK, savedV, savedOut) = (q.detached(), k.detached(), v.detached(), out.detached())
  record("attention", inputs: [q, k, v, shape.sinks], output: out) { dOut in
    let dOut = try dOut.contiguous()
    let dq = try Tensor(empty: savedQ.shape, dtype: savedQ.dtype, on: backend)
    let dk = try Tensor(empty: savedK.shape, dtype: savedK.dtype, on: backend)
    let dv = try Tensor(empty: savedV.shape, dtype: savedV.dtype, on: backend)
    try backend.attentionBackward(
      dOut, savedQ, savedK, savedV, out: savedOut, lse: lse, shape, dq: dq, dk: dk, dv: dv)
    guard let sinks = shape.sinks, sinks.requiresGradient else { return [dq, dk, dv, nil] }
    return [dq, dk, dv, try sinkGradient(sinks, dOut, savedOut, lse, shape)]
  }
  return out
}

/// See `attention`.
private func sinkGradient(
  _ sinks: Tensor, _ dOut: Tensor, _ out: Tensor, _ lse: Tensor, _ shape: AttentionShape
) throws -> Tensor {
  let (backend, tokens, heads) = (out.backend, out.shape[0], shape.heads)
  let products = try Tensor(empty: [tokens, heads, shape.headDim], on: backend)
  try backend.binary(.multiply, try dOut.viewed(products.shape), try out.viewed(products.shape), into: products)
  let dots = try Tensor(empty: [tokens, heads], on: backend)
  try backend.reduce(.sum, products, outer: tokens * heads, count: shape.headDim, inner: 1, into: dots)
  let weights = try Tensor(empty: [heads, tokens], on: backend)
  try backend.binary(.subtract, try sinks.viewed([heads, 1]), lse, into: weights)
  try backend.unary(.exp, weights, into: weights)
  try backend.binary(.multiply, weights, try dots.transposed(0, 1), into: weights)
  let sums = try Tensor(empty: [heads], on: backend)
  try backend.reduce(.sum, weights, outer: heads, count: tokens, inner: 1, into: sums)
  try backend.accumulate(sums, scale: -1, into: sums, scale: 0)
  return sums
}

/// a(gate) * up with the activation of a gated MLP (Shazeer 2020), elementwise on contiguous tensors of one dtype.
/// - Throws: `TensorError.shapeMismatch`, `.otherDevice`, `.outOfMemory`; what the device reports.
public func gated(_ activation: Activation, gate: Tensor, up: Tensor) throws -> Tensor {
  guard gate.shape == up.shape else {
    throw TensorError.shapeMismatch(operation: "gated", lhs: gate.shape, rhs: up.shape)
  }
  let backend = try gate.backend(for: "gated", with: up)
  let y = try Tensor(empty: gate.shape, dtype: gate.dtype, on: backend)
  try backend.gated(activation, gate: gate, up: up, into: y)
  guard isRecording(gate, up) else { return y }
  let (savedGate, savedUp) = (gate.detached(), up.detached())
  func again() throws -> Tensor {
    let y = try Tensor(empty: savedGate.shape, dtype: savedGate.dtype, on: backend)
    try backend.gated(activation, gate: savedGate, up: savedUp, into: y)
    return y
  }
  record("gated", inputs: [gate, up], output: y, recompute: again) { dy in
    let dGate = try Tensor(empty: savedGate.shape, dtype: savedGate.dtype, on: backend)
    let dUp = try Tensor(empty: savedUp.shape, dtype: savedUp.dtype, on: backend)
    try backend.gatedBackward(
      activation, dy.contiguous(), gate: savedGate, up: savedUp, dGate: dGate, dUp: dUp)
    return [dGate, dUp]
  }
  return y
}

/// scale * x + residual, written over `x`, which must be a contiguous fresh result that no rule has saved.
///
/// The residual is contiguous too; the dtype of x stays.
/// - Throws: `TensorError.shapeMismatch`, `.otherDevice`; what the device reports.
public func addResidual(inPlace x: Tensor, scale: Float = 1, _ residual: Tensor) throws -> Tensor {
  guard x.shape == residual.shape else {
    throw TensorError.shapeMismatch(operation: "residual", lhs: x.shape, rhs: residual.shape)
  }
  try x.backend(for: "residual", with: residual).accumulate(residual, scale: 1, into: x, scale: scale)
  guard isRecording(x, residual) else { return x }
  let y = x.detached()
  record("residual", inputs: [x, residual], output: y) { dy in [try multiplied(dy, by: scale), dy] }
  return y
}

/// scale * x, written over `x`, which must be a contiguous fresh result that no rule has saved.
/// - Throws: What the device reports.
public func scaled(inPlace x: Tensor, by scale: Float) throws -> Tensor {
  guard scale != 1 else { return x }
  try x.backend.accumulate(x, scale: scale, into: x, scale: 0)
  guard isRecording(x) else { return x }
  let y = x.detached()
  record("scale", inputs: [x], output: y) { dy in [try multiplied(dy, by: scale)] }
  return y
}

private func multiplied(_ dy: Tensor, by scale: Float) throws -> Tensor {
  guard scale != 1 else { return dy }
  let dx = try Tensor(empty: dy.shape, dtype: dy.dtype, on: dy.backend)
  try dy.backend.accumulate(try dy.contiguous(), scale: scale, into: dx, scale: 0)
  return dx
}

/// Rows of a contiguous `table` [V, D] for i32 ids [T], in `dtype`; both are float ones. Ids outside 0..<V are not
/// caught here.
/// - Throws: `TensorError.otherDevice`, `.outOfMemory`; what the device reports.
public func embedding(_ table: Tensor, ids: Tensor, dtype: DType) throws -> Tensor {
  let backend = try table.backend(for: "embedding", with: ids)
  let rows = try Tensor(empty: [ids.elementCount, table.shape[1]], dtype: dtype, on: backend)
  try backend.embedding(table, ids: ids, weights: nil, into: rows)
  record("embedding", inputs: [table], output: rows) { dRows in
    let dTable = try Tensor(full: table.shape, value: 0, on: backend)
    try backend.embeddingBackward([dRows.contiguous()], ids: ids, weights: nil, into: dTable)
    return [dTable]
  }
  return rows
}

/// Rows of a table [V, D] in any form, in `dtype`. No gradient goes to a table that is not dense; one in 4 bits cannot
/// be read by rows and is decoded as a whole.
/// - Throws: `TensorError.otherDevice`, `.outOfMemory`; what the device reports.
public func embedding(_ table: LinearWeight, ids: Tensor, dtype: DType) throws -> Tensor {
  let backend = try table.anchor.backend(for: "embedding", with: ids)
  switch table {
  case .dense(let table): return try embedding(table, ids: ids, dtype: dtype)
  case .blocks(let operand):
    let rows = try Tensor(empty: [ids.elementCount, table.shape[1]], dtype: dtype, on: backend)
    try backend.decodeBlocks(operand, ids: ids, into: rows)
    return rows
  case .quantized(let operand):
    let dense = try Tensor(empty: table.shape, dtype: dtype, category: .workspace, on: backend)
    try backend.dequantize4(operand, into: dense)
    return try embedding(dense, ids: ids, dtype: dtype)
  }
}

extension Tensor {
  /// Itself as packed rows of `columns` elements, or an error that names both shapes.
  func contiguousRows(columns: Int, operation: String, other: [Int]) throws -> Tensor {
    guard rank >= 1, shape.last == columns else {
      throw TensorError.innerDimensions(operation: operation, lhs: shape, rhs: other)
    }
    guard !isContiguous else { return self }
    throw TensorError.badShape(operation: operation, shape: shape, problem: .notContiguous)
  }
}
