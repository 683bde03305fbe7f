import Tensors

// The coarse operations of a decoder, forward and backward side by side. Activations keep the dtype of their input
// (f32 or bf16); `precision` says how products round their operands.

/// Root-mean-square normalisation over the last dimension (Zhang and Sennrich 2019), f32 statistics.
public func rmsNorm(_ x: Tensor, weight: Tensor, epsilon: Float) throws -> Tensor {
  let backend = x.backend
  let width = weight.elementCount
  let x = try x.contiguousRows(columns: width, operation: "rms_norm", other: weight.shape)
  let y = try Tensor(empty: x.shape, dtype: x.dtype, on: backend)
  let rstd = try Tensor(empty: [x.elementCount / width], dtype: .f32, on: backend)
  try backend.rmsNorm(x, weight: weight, epsilon: epsilon, into: y, rstd: rstd)
  guard isRecording(x, weight) else { return y }
  let saved = x.detached()
  func again() throws -> Tensor {
    let y = try Tensor(empty: saved.shape, dtype: saved.dtype, on: backend)
    try backend.rmsNorm(saved, weight: weight, epsilon: epsilon, into: y, rstd: rstd)
    return y
  }
  record("rms_norm", inputs: [x, weight], output: y, recompute: again) { dy in
    let dx = try Tensor(empty: saved.shape, dtype: saved.dtype, on: backend)
    let dWeight = weight.requiresGradient ? try Tensor(full: weight.shape, value: 0, on: backend) : nil
    try backend.rmsNormBackward(
      dy.contiguous(), saved, weight: weight, rstd: rstd, into: dx, accumulate: false, dWeight: dWeight)
    return [dx, dWeight]
  }
  return y
}

/// Rotary position embedding (Su et al. 2021, in the half-split form of transformers) on [T, heads * headDim].
/// Works in place on `x`, which must be a fresh result that no rule has saved.
public func rope(
  inPlace x: Tensor, heads: Int, headDim: Int, cosine: Tensor, sine: Tensor, positions: Tensor
) throws -> Tensor {
  let backend = x.backend
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

/// Causal softmax attention over packed sequences; q [T, heads * headDim], k and v [T, kvHeads * headDim].
public func attention(_ q: Tensor, _ k: Tensor, _ v: Tensor, _ shape: AttentionShape) throws -> Tensor {
  let backend = q.backend
  let out = try Tensor(empty: q.shape, dtype: q.dtype, on: backend)
  let lse = try Tensor(empty: [shape.heads, q.shape[0]], dtype: .f32, on: backend)
  try backend.attention(q, k, v, shape, into: out, lse: lse)
  guard isRecording(q, k, v) else { return out }
  let (savedQ, savedK, savedV, savedOut) = (q.detached(), k.detached(), v.detached(), out.detached())
  record("attention", inputs: [q, k, v], output: out) { dOut in
    let dq = try Tensor(empty: savedQ.shape, dtype: savedQ.dtype, on: backend)
    let dk = try Tensor(empty: savedK.shape, dtype: savedK.dtype, on: backend)
    let dv = try Tensor(empty: savedV.shape, dtype: savedV.dtype, on: backend)
    try backend.attentionBackward(
      dOut.contiguous(), savedQ, savedK, savedV, out: savedOut, lse: lse, shape, dq: dq, dk: dk, dv: dv)
    return [dq, dk, dv]
  }
  return out
}

/// silu(gate) * up (Shazeer 2020).
public func swiglu(gate: Tensor, up: Tensor) throws -> Tensor {
  guard gate.shape == up.shape else {
    throw TensorError.shapeMismatch(operation: "swiglu", lhs: gate.shape, rhs: up.shape)
  }
  let backend = gate.backend
  let y = try Tensor(empty: gate.shape, dtype: gate.dtype, on: backend)
  try backend.swiglu(gate: gate, up: up, into: y)
  guard isRecording(gate, up) else { return y }
  let (savedGate, savedUp) = (gate.detached(), up.detached())
  func again() throws -> Tensor {
    let y = try Tensor(empty: savedGate.shape, dtype: savedGate.dtype, on: backend)
    try backend.swiglu(gate: savedGate, up: savedUp, into: y)
    return y
  }
  record("swiglu", inputs: [gate, up], output: y, recompute: again) { dy in
    let dGate = try Tensor(empty: savedGate.shape, dtype: savedGate.dtype, on: backend)
    let dUp = try Tensor(empty: savedUp.shape, dtype: savedUp.dtype, on: backend)
    try backend.swigluBackward(dy.contiguous(), gate: savedGate, up: savedUp, dGate: dGate, dUp: dUp)
    return [dGate, dUp]
  }
  return y
}

/// x + residual, written over `x`, which must be a fresh result that no rule has saved.
public func addResidual(inPlace x: Tensor, _ residual: Tensor) throws -> Tensor {
  guard x.shape == residual.shape else {
    throw TensorError.shapeMismatch(operation: "residual", lhs: x.shape, rhs: residual.shape)
  }
  try x.backend.accumulate(residual, scale: 1, into: x, scale: 1)
  guard isRecording(x, residual) else { return x }
  let y = x.detached()
  record("residual", inputs: [x, residual], output: y) { dy in [dy, dy] }
  return y
}

/// Rows of `table` [V, D] for i32 ids [T], in `dtype`.
public func embedding(_ table: Tensor, ids: Tensor, dtype: DType) throws -> Tensor {
  let backend = table.backend
  let rows = try Tensor(empty: [ids.elementCount, table.shape[1]], dtype: dtype, on: backend)
  try backend.embedding(table, ids: ids, into: rows)
  record("embedding", inputs: [table], output: rows) { dRows in
    let dTable = try Tensor(full: table.shape, value: 0, on: backend)
    try backend.embeddingBackward(dRows.contiguous(), ids: ids, into: dTable)
    return [dTable]
  }
  return rows
}

extension Tensor {
  /// Itself as packed rows of `columns` elements, or an error that names both shapes.
  func contiguousRows(columns: Int, operation: String, other: [Int]) throws -> Tensor {
    guard rank >= 1, shape.last == columns else {
      throw TensorError.innerDimensions(operation: operation, lhs: shape, rhs: other)
    }
    guard !isContiguous else { return self }
    throw TensorError.badShape(operation: operation, shape: shape, reason: "is not contiguous")
  }
}
