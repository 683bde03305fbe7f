import Tensors

// The coarse operations of a decoder, forward and backward side by side. Activations keep the dtype of their input
// (f32 or bf16); `precision` says how products round their operands.

/// A frozen or trained matrix [out, in] of a linear layer.
public enum LinearWeight: Sendable {
  case dense(Tensor)
  case quantized(QuantizedOperand)

  public var shape: [Int] {
    switch self {
    case .dense(let weight): weight.shape
    case .quantized(let operand): operand.shape
    }
  }

  /// y = x W^T + beta * y, or with `transposed` dx = dy W + beta * dx.
  func multiply(_ x: Tensor, transposed: Bool, beta: Float, into y: Tensor, precision: DType) throws {
    switch self {
    case .dense(let weight):
      try x.backend.matmul(
        x, transposeA: false, weight, transposeB: !transposed, alpha: 1, beta: beta, into: y, precision: precision)
    case .quantized(let operand):
      try x.backend.quantizedMatmul(
        x, operand, transposed: transposed, alpha: 1, beta: beta, into: y, precision: precision)
    }
  }
}

/// The low-rank branch of a linear layer: scaling * B (A dropout(x)), A [rank, in] and B [out, rank] in f32
/// (Hu et al. 2021, section 4.1; dropout as in PEFT, on the input of the branch only).
public struct LowRankBranch {
  public let a: Tensor
  public let b: Tensor
  public let scaling: Float
  public let dropout: Float
  /// Where the mask comes from; unused without dropout.
  public let stream: RandomStream

  public init(a: Tensor, b: Tensor, scaling: Float, dropout: Float = 0, stream: RandomStream) {
    self.a = a
    self.b = b
    self.scaling = scaling
    self.dropout = dropout
    self.stream = stream
  }
}

/// y[T, out] = x[T, in] W^T + bias + branch(x).
public func linear(
  _ x: Tensor, _ weight: LinearWeight, bias: Tensor? = nil, branch: LowRankBranch? = nil, precision: DType
) throws -> Tensor {
  let backend = x.backend
  let x = try x.contiguousRows(columns: weight.shape[1], operation: "linear", other: weight.shape)
  let tokens = x.shape[0]
  let y = try Tensor(empty: [tokens, weight.shape[0]], dtype: x.dtype, on: backend)
  if let bias {
    try backend.copy(try bias.broadcasted(to: y.shape), into: y)
  }
  try weight.multiply(x, transposed: false, beta: bias == nil ? 0 : 1, into: y, precision: precision)

  var low: Tensor?
  if let branch {
    let input = try branch.dropped(x)
    let h = try Tensor(empty: [tokens, branch.a.shape[0]], dtype: .f32, on: backend)
    try backend.matmul(
      input, transposeA: false, branch.a, transposeB: true, alpha: 1, beta: 0, into: h, precision: precision)
    try backend.matmul(
      h, transposeA: false, branch.b, transposeB: true, alpha: branch.scaling, beta: 1, into: y, precision: precision)
    low = h
  }
  var denseWeight: Tensor?
  if case .dense(let matrix) = weight, matrix.requiresGradient { denseWeight = matrix }
  let needsInput = x.requiresGradient
  // The input is saved only for the gradients of weights; a frozen layer needs none of it.
  let savedInput = branch != nil || denseWeight != nil ? SavedInput(x) : nil

  record("linear", inputs: [x, denseWeight, bias, branch?.a, branch?.b], output: y) { dy in
    let dy = try dy.contiguous()
    var dx: Tensor?
    if needsInput {
      let gradient = try Tensor(empty: [tokens, weight.shape[1]], dtype: dy.dtype, on: backend)
      try weight.multiply(dy, transposed: true, beta: 0, into: gradient, precision: precision)
      dx = gradient
    }
    var dWeight: Tensor?
    if denseWeight != nil, let savedInput {
      dWeight = try product(dy, transposed: true, savedInput.value(), scale: 1, precision: precision)
    }
    var dBias: Tensor?
    if let bias, bias.requiresGradient { dBias = try columnSums(dy) }
    guard let branch, let low, let savedInput else { return [dx, dWeight, dBias, nil, nil] }

    let dB = try product(dy, transposed: true, low, scale: branch.scaling, precision: precision)
    let dLow = try product(dy, transposed: false, branch.b, scale: branch.scaling, precision: precision)
    let dA = try product(dLow, transposed: true, try branch.dropped(savedInput.value()), scale: 1, precision: precision)
    if let dx { try branch.addInputGradient(dLow, into: dx, precision: precision) }
    return [dx, dWeight, dBias, dA, dB]
  }
  return y
}

extension LowRankBranch {
  fileprivate func dropped(_ x: Tensor) throws -> Tensor {
    guard dropout > 0 else { return x }
    let y = try Tensor(empty: x.shape, dtype: x.dtype, on: x.backend)
    try x.backend.dropout(x, probability: dropout, stream: stream, into: y, accumulate: false)
    return y
  }

  /// dx += mask * (dLow A), with the mask of the forward pass.
  fileprivate func addInputGradient(_ dLow: Tensor, into dx: Tensor, precision: DType) throws {
    let backend = dx.backend
    guard dropout > 0 else {
      return try backend.matmul(
        dLow, transposeA: false, a, transposeB: false, alpha: 1, beta: 1, into: dx, precision: precision)
    }
    let through = try Tensor(empty: dx.shape, dtype: dx.dtype, on: backend)
    try backend.matmul(
      dLow, transposeA: false, a, transposeB: false, alpha: 1, beta: 0, into: through, precision: precision)
    try backend.dropout(through, probability: dropout, stream: stream, into: dx, accumulate: true)
  }
}

/// f32 scale * op(a) b for matrices.
private func product(_ a: Tensor, transposed: Bool, _ b: Tensor, scale: Float, precision: DType) throws -> Tensor {
  let rows = transposed ? a.shape[1] : a.shape[0]
  let c = try Tensor(empty: [rows, b.shape[1]], dtype: .f32, on: a.backend)
  try a.backend.matmul(
    a, transposeA: transposed, b, transposeB: false, alpha: scale, beta: 0, into: c, precision: precision)
  return c
}

/// f32 [D] sums over the rows of [T, D].
private func columnSums(_ x: Tensor) throws -> Tensor {
  let source = try x.dtype == .f32 ? x : x.converted(to: .f32)
  let y = try Tensor(empty: [x.shape[1]], dtype: .f32, on: x.backend)
  try x.backend.reduce(.sum, source, outer: 1, count: x.shape[0], inner: x.shape[1], into: y)
  return y
}

/// Root-mean-square normalisation over the last dimension (Zhang and Sennrich 2019), f32 statistics.
public func rmsNorm(_ x: Tensor, weight: Tensor, epsilon: Float) throws -> Tensor {
  let backend = x.backend
  let width = weight.elementCount
  let x = try x.contiguousRows(columns: width, operation: "rms_norm", other: weight.shape)
  let y = try Tensor(empty: x.shape, dtype: x.dtype, on: backend)
  let rstd = try Tensor(empty: [x.elementCount / width], dtype: .f32, on: backend)
  try backend.rmsNorm(x, weight: weight, epsilon: epsilon, into: y, rstd: rstd)
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
  fileprivate func contiguousRows(columns: Int, operation: String, other: [Int]) throws -> Tensor {
    guard rank >= 1, shape.last == columns else {
      throw TensorError.innerDimensions(operation: operation, lhs: shape, rhs: other)
    }
    guard !isContiguous else { return self }
    throw TensorError.badShape(operation: operation, shape: shape, reason: "is not contiguous")
  }
}
