import Tensors

/// A linear layer y = x W^T + bias + branch(x).
public struct LinearLayer {
  /// W [out, in], dense or quantized.
  public let weight: LinearWeight
  /// [out]
  public let bias: Tensor?
  /// What is added to the product: scaling * dropout(x) A^T B^T.
  public let branch: LowRank?

  /// A layer; `linear` checks the columns of the weight and the bias, but not the branch.
  public init(weight: LinearWeight, bias: Tensor? = nil, branch: LowRank? = nil) {
    self.weight = weight
    self.bias = bias
    self.branch = branch
  }

  fileprivate var operands: LinearOperands {
    LinearOperands(weight: weight, lowRank: branch)
  }
  fileprivate var rank: Int { branch?.rank ?? 0 }
  fileprivate var isMasked: Bool { branch?.isMasked ?? false }
  fileprivate var trainedWeight: Tensor? {
    if case .dense(let matrix) = weight, matrix.requiresGradient { matrix } else { nil }
  }
}

/// The outputs y_i [T, out_i] of linear layers that share their input x [T, in], which is read once for all of them.
///
/// x is contiguous, and the outputs have its dtype. `precision` bf16 rounds the operands of products; sums are f32.
/// - Throws: `TensorError.otherDevice`, `.innerDimensions`, `.badShape` for an x that is not contiguous,
///   `.shapeMismatch` for a bias that does not broadcast, `.outOfMemory`; what the device reports.
public func linear(_ x: Tensor, _ layers: [LinearLayer], precision: DType) throws -> [Tensor] {
  let backend = x.backend
  let x = try layers.reduce(x) { x, layer in
    _ = try x.backend(for: "linear", with: layer.weight.anchor, layer.branch?.a, layer.branch?.b)
    _ = try x.backend(for: "linear", with: layer.bias)
    return try x.contiguousRows(columns: layer.weight.shape[1], operation: "linear", other: layer.weight.shape)
  }
  let tokens = x.shape[0]
  let outputs = try layers.map { layer in
    let y = try Tensor(empty: [tokens, layer.weight.shape[0]], dtype: x.dtype, on: backend)
    if let bias = layer.bias { try backend.copy(try bias.broadcasted(to: y.shape), into: y) }
    guard let branch = layer.branch else { return LinearOutput(y: y, addsToOld: layer.bias != nil) }
    let low = try Tensor(empty: [tokens, layer.rank], dtype: .f32, on: backend)
    if layer.isMasked {
      try backend.matmul(
        try branch.masked(x), transposeA: false, branch.a, transposeB: true, alpha: branch.scaling, beta: 0, into: low,
        precision: precision)
    }
    return LinearOutput(y: y, addsToOld: layer.bias != nil, low: low, lowIsGiven: layer.isMasked)
  }
  try backend.linear(x, layers.map(\.operands), into: outputs, precision: precision)
  guard GradientMode.isEnabled else { return outputs.map(\.y) }

  // The rule must not hold x or the outputs themselves.
  let lows = outputs.map(\.low)
  let (width, dtype, needsInput) = (x.shape[1], x.dtype, x.requiresGradient)
  // The input is saved only for the gradients of weights; a frozen layer needs none of it.
  let savedInput =
    layers.contains { $0.branch != nil || $0.trainedWeight != nil } ? SavedInput(x) : nil
  let inputs: [Tensor?] = [x] + layers.flatMap { [$0.trainedWeight, $0.bias, $0.branch?.a, $0.branch?.b] }
  record("linear", inputs: inputs, outputs: outputs.map(\.y)) { gradients in
    var results = [Tensor?](repeating: nil, count: 1 + 4 * layers.count)
    let reached = layers.indices.filter { gradients[$0] != nil }
    let dys = try gradients.map { try $0?.contiguous() }
    // The gradients of all h side by side, so that those of all A are one product; masked branches come last.
    let order = reached.filter { !layers[$0].isMasked } + reached.filter { layers[$0].isMasked }
    let ranks = order.map { layers[$0].rank }
    let dLow = try Tensor(empty: [tokens, ranks.reduce(0, +)], dtype: .f32, on: backend)
    var column = 0
    var slices: [Int: Range<Int>] = [:]
    for (index, rank) in zip(order, ranks) where rank > 0 {
      slices[index] = column..<column + rank
      column += rank
    }
    let dLows = try layers.indices.map { index in try slices[index].map { try dLow.narrowed(1, $0) } }
    let dx = needsInput ? try Tensor(empty: [tokens, width], dtype: dtype, on: backend) : nil
    try backend.linearBackward(
      reached.map { LinearGradient(dy: dys[$0]!, dLow: dLows[$0], reachesInput: !layers[$0].isMasked) },
      reached.map { layers[$0].operands }, into: dx, precision: precision)
    results[0] = dx

    let shared = order.filter { !layers[$0].isMasked }.reduce(0) { $0 + layers[$1].rank }
    let dA =
      shared == 0
      ? nil
      : try savedInput.map {
        try product(try dLow.narrowed(1, 0..<shared), transposed: true, $0.value(), precision: precision)
      }
    for index in reached {
      let (layer, dy) = (layers[index], dys[index]!)
      let first = 1 + 4 * index
      if layer.trainedWeight != nil, let savedInput {
        results[first] = try product(dy, transposed: true, savedInput.value(), precision: precision)
      }
      if let bias = layer.bias, bias.requiresGradient { results[first + 1] = try columnSums(dy) }
      guard let branch = layer.branch, let low = lows[index], let slice = slices[index], let savedInput else {
        continue
      }
      results[first + 2] =
        layer.isMasked
        ? try product(dLows[index]!, transposed: true, try branch.masked(savedInput.value()), precision: precision)
        : try dA?.narrowed(0, slice)
      results[first + 3] = try product(dy, transposed: true, low, precision: precision)
      if layer.isMasked, let dx { try branch.addMasked(dLows[index]!, into: dx, precision: precision) }
    }
    return results
  }
  return outputs.map(\.y)
}

/// `linear` of one layer.
/// - Throws: `TensorError.otherDevice`, `.innerDimensions`, `.badShape` for an x that is not contiguous,
///   `.shapeMismatch` for a bias that does not broadcast, `.outOfMemory`; what the device reports.
public func linear(
  _ x: Tensor, _ weight: LinearWeight, bias: Tensor? = nil, branch: LowRank? = nil, precision: DType
) throws -> Tensor {
  try linear(x, [LinearLayer(weight: weight, bias: bias, branch: branch)], precision: precision)[0]
}

extension LowRank {
  fileprivate func masked(_ x: Tensor) throws -> Tensor {
    let y = try Tensor(empty: x.shape, dtype: x.dtype, on: x.backend)
    try x.backend.dropout(x, probability: dropout, stream: stream, into: y, accumulate: false)
    return y
  }

  /// dx += mask * (dLow A), with the mask of the forward pass.
  fileprivate func addMasked(_ dLow: Tensor, into dx: Tensor, precision: DType) throws {
    let through = try Tensor(empty: dx.shape, dtype: dx.dtype, on: dx.backend)
    try dx.backend.matmul(
      dLow, transposeA: false, a, transposeB: false, alpha: 1, beta: 0, into: through, precision: precision)
    try dx.backend.dropout(through, probability: dropout, stream: stream, into: dx, accumulate: true)
  }
}

/// f32 op(a) b for matrices.
private func product(_ a: Tensor, transposed: Bool, _ b: Tensor, precision: DType) throws -> Tensor {
  let rows = transposed ? a.shape[1] : a.shape[0]
  let c = try Tensor(empty: [rows, b.shape[1]], dtype: .f32, on: a.backend)
  try a.backend.matmul(
    a, transposeA: transposed, b, transposeB: false, alpha: 1, beta: 0, into: c, precision: precision)
  return c
}

/// f32 [D] sums over the rows of [T, D].
private func columnSums(_ x: Tensor) throws -> Tensor {
  let source = try x.dtype == .f32 ? x : x.converted(to: .f32)
  let y = try Tensor(empty: [x.shape[1]], dtype: .f32, on: x.backend)
  try x.backend.reduce(.sum, source, outer: 1, count: x.shape[0], inner: x.shape[1], into: y)
  return y
}
