import Tensors

/// The low-rank branch of some rows of a linear layer: what several experiments that share a pass add to their own rows.
public struct RowBranch: Sendable {
  /// The rows of x that see it.
  public let rows: Range<Int>
  /// What it adds there; its mask counts from the first of `rows`.
  public let branch: LowRank

  /// A branch for these rows.
  public init(rows: Range<Int>, branch: LowRank) {
    self.rows = rows
    self.branch = branch
  }
}

/// `linear` of layers whose rows have branches of their own: the frozen matrices are read once for all rows, and each
/// branch sees and changes its rows alone.
///
/// The layers have no branch for all rows and nothing that is trained.
/// - Parameters:
///   - x: [T, in], contiguous.
///   - layers: they share x.
///   - branches: for each layer; rows without one get the base product.
///   - precision: bf16 rounds the operands of products; sums are f32.
/// - Returns: [T, out] of each layer, of the dtype of x.
/// - Throws: as `linear`; `TensorError.badIndex` for rows that x does not have.
public func linear(
  _ x: Tensor, _ layers: [LinearLayer], branches: [[RowBranch]], precision: DType
) throws -> [Tensor] {
  let x = try layers.reduce(x) { x, layer in
    _ = try x.backend(for: "linear", with: layer.weight.anchor, layer.bias)
    return try x.contiguousRows(columns: layer.weight.shape[1], operation: "linear", other: layer.weight.shape)
  }
  let outputs = try layers.map { try $0.output(of: x, precision: precision) }
  try x.backend.linear(x, layers.map(\.operands), into: outputs, precision: precision)
  let lows = try zip(outputs, branches).map { output, branches in
    try branches.map { try $0.add(x, to: output.y, precision: precision) }
  }
  guard GradientMode.isEnabled else { return outputs.map(\.y) }
  let rule = RowBranchRule(x, layers, branches, lows, precision: precision)
  let inputs: [Tensor?] = [x] + branches.joined().flatMap { [$0.branch.a, $0.branch.b] }
  record("linear", inputs: inputs, outputs: outputs.map(\.y)) { try rule.gradients($0) }
  return outputs.map(\.y)
}

extension RowBranch {
  /// y += h B^T in the own rows.
  /// - Returns: h = scaling * dropout(x) A^T, f32 [rows, rank].
  fileprivate func add(_ x: Tensor, to y: Tensor, precision: DType) throws -> Tensor {
    let low = try Tensor(empty: [rows.count, branch.rank], dtype: .f32, on: x.backend)
    try x.backend.matmul(
      try input(x), transposeA: false, branch.a, transposeB: true, alpha: branch.scaling, beta: 0, into: low,
      precision: precision)
    try x.backend.matmul(
      low, transposeA: false, branch.b, transposeB: true, alpha: 1, beta: 1, into: try y.narrowed(0, rows),
      precision: precision)
    return low
  }

  /// The own rows of x, masked where the branch is.
  private func input(_ x: Tensor) throws -> Tensor {
    let own = try x.narrowed(0, rows)
    return branch.isMasked ? try branch.masked(own) : own
  }

  /// The gradients of A and B, f32; that of x is added to the own rows of dx.
  fileprivate func gradients(
    _ dy: Tensor, _ x: Tensor, _ low: Tensor, into dx: Tensor?, precision: DType
  ) throws -> [Tensor?] {
    let own = try dy.narrowed(0, rows)
    let dLow = try Tensor(empty: low.shape, dtype: .f32, on: low.backend)
    try low.backend.matmul(
      own, transposeA: false, branch.b, transposeB: false, alpha: branch.scaling, beta: 0, into: dLow,
      precision: precision)
    let dA = try product(dLow, transposed: true, try input(x), precision: precision)
    let dB = try product(own, transposed: true, low, precision: precision)
    guard let part = try dx?.narrowed(0, rows) else { return [dA, dB] }
    if branch.isMasked {
      try branch.addMasked(dLow, into: part, precision: precision)
    } else {
      try low.backend.matmul(
        dLow, transposeA: false, branch.a, transposeB: false, alpha: 1, beta: 1, into: part, precision: precision)
    }
    return [dA, dB]
  }
}

/// The backward pass of `linear` with branches by rows. It must not hold x or the outputs themselves.
private struct RowBranchRule {
  let layers: [LinearLayer]
  let branches: [[RowBranch]]
  /// h of each branch.
  let lows: [[Tensor]]
  let precision: DType
  let backend: any Backend
  let shape: [Int]
  let dtype: DType
  let wantsInput: Bool
  let savedInput: SavedInput

  init(
    _ x: Tensor, _ layers: [LinearLayer], _ branches: [[RowBranch]], _ lows: [[Tensor]], precision: DType
  ) {
    (self.layers, self.branches, self.lows, self.precision) = (layers, branches, lows, precision)
    (backend, shape, dtype, wantsInput) = (x.backend, x.shape, x.dtype, x.requiresGradient)
    savedInput = SavedInput(x)
  }

  /// Gradients of x and then of A and B of each branch, layer by layer.
  func gradients(_ gradients: [Tensor?]) throws -> [Tensor?] {
    let dys = try gradients.map { try $0?.contiguous() }
    let reached = layers.indices.filter { dys[$0] != nil }
    let dx = wantsInput ? try Tensor(empty: shape, dtype: dtype, on: backend) : nil
    try backend.linearBackward(
      reached.map { LinearGradient(dy: dys[$0]!) }, reached.map { layers[$0].operands }, into: dx,
      precision: precision)
    var results: [Tensor?] = [dx]
    for (index, own) in branches.enumerated() {
      guard let dy = dys[index] else {
        results += [Tensor?](repeating: nil, count: 2 * own.count)
        continue
      }
      for (branch, low) in zip(own, lows[index]) {
        results += try branch.gradients(dy, try savedInput.value(), low, into: dx, precision: precision)
      }
    }
    return results
  }
}
