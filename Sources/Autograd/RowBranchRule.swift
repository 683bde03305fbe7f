import Tensors

/// The low-rank branch of some rows of a linear layer: what several experiments that share a pass add to their own
/// rows.
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
  let lows = try branches.map { try $0.map { try $0.low(x) } }
  try x.backend.matmuls(
    try zip(branches, lows).flatMap { try zip($0, $1).map { try $0.lowProduct(x, into: $1) } }, precision: precision)
  try x.backend.matmuls(
    try outputs.indices.flatMap { layer in
      try zip(branches[layer], lows[layer]).map { try $0.addition(of: $1, to: outputs[layer].y) }
    }, precision: precision)
  guard GradientMode.isEnabled else { return outputs.map(\.y) }
  let rule = RowBranchRule(x, layers, branches, lows, precision: precision)
  let inputs: [Tensor?] = [x] + branches.joined().flatMap { [$0.branch.a, $0.branch.b] }
  record("linear", inputs: inputs, outputs: outputs.map(\.y)) { try rule.gradients($0) }
  return outputs.map(\.y)
}

extension RowBranch {
  /// Room for h, f32 [rows, rank].
  fileprivate func low(_ x: Tensor) throws -> Tensor {
    try Tensor(empty: [rows.count, branch.rank], dtype: .f32, on: x.backend)
  }

  /// h = scaling * dropout(x) A^T.
  fileprivate func lowProduct(_ x: Tensor, into low: Tensor) throws -> MatrixProduct {
    MatrixProduct(try input(x), branch.a, transposeB: true, alpha: branch.scaling, into: low)
  }

  /// y += h B^T in the own rows.
  fileprivate func addition(of low: Tensor, to y: Tensor) throws -> MatrixProduct {
    MatrixProduct(low, branch.b, transposeB: true, beta: 1, into: try y.narrowed(0, rows))
  }

  /// The own rows of x, masked where the branch is.
  fileprivate func input(_ x: Tensor) throws -> Tensor {
    let own = try x.narrowed(0, rows)
    return branch.isMasked ? try branch.masked(own) : own
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
    let own = try layers.indices.map { layer in
      guard let dy = dys[layer] else { return [BranchGradients]() }
      return try zip(branches[layer], lows[layer]).map { try BranchGradients($0, low: $1, dy: dy) }
    }
    let all = own.flatMap { $0 }
    try backend.matmuls(all.map(\.dLowProduct), precision: precision)
    if !all.isEmpty {
      let x = try savedInput.value()
      try backend.matmuls(try all.flatMap { [try $0.dAProduct(x), $0.dBProduct] }, precision: precision)
    }
    if let dx {
      // Layers one after the other, since they add to the same rows.
      for own in own {
        try backend.matmuls(
          try own.compactMap { try $0.addition(to: dx, precision: precision) }, precision: precision)
      }
    }
    return [dx]
      + layers.indices.flatMap { layer -> [Tensor?] in
        guard dys[layer] != nil else { return branches[layer].flatMap { _ in [nil, nil] } }
        return own[layer].flatMap { [$0.dA.handedOver(), $0.dB.handedOver()] }
      }
  }
}

/// Gradients of one branch, f32.
private struct BranchGradients {
  let branch: RowBranch
  /// h of the forward pass.
  let low: Tensor
  /// The own rows of dy.
  let dy: Tensor
  /// The gradients of h, A and B.
  let dLow: Tensor
  let dA: Tensor
  let dB: Tensor

  init(_ branch: RowBranch, low: Tensor, dy: Tensor) throws {
    (self.branch, self.low, self.dy) = (branch, low, try dy.narrowed(0, branch.rows))
    dLow = try Tensor(empty: low.shape, dtype: .f32, on: low.backend)
    dA = try Tensor(empty: branch.branch.a.shape, dtype: .f32, category: .gradients, on: low.backend)
    dB = try Tensor(empty: branch.branch.b.shape, dtype: .f32, category: .gradients, on: low.backend)
  }

  var dLowProduct: MatrixProduct { MatrixProduct(dy, branch.branch.b, alpha: branch.branch.scaling, into: dLow) }
  var dBProduct: MatrixProduct { MatrixProduct(dy, transposeA: true, low, into: dB) }
  func dAProduct(_ x: Tensor) throws -> MatrixProduct {
    MatrixProduct(dLow, transposeA: true, try branch.input(x), into: dA)
  }
  /// dx += mask * (dh A) in the own rows; a branch with a mask adds it at once.
  func addition(to dx: Tensor, precision: DType) throws -> MatrixProduct? {
    let part = try dx.narrowed(0, branch.rows)
    guard branch.branch.isMasked else { return MatrixProduct(dLow, branch.branch.a, beta: 1, into: part) }
    try branch.branch.addMasked(dLow, into: part, precision: precision)
    return nil
  }
}
