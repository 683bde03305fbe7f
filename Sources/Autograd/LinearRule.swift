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

  var operands: LinearOperands {
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
  var (operands, outputs) = ([LinearOperands](), [LinearOutput]())
  operands.reserveCapacity(layers.count)
  outputs.reserveCapacity(layers.count)
  for layer in layers {
    _ = try x.backend(for: "linear", with: layer.weight.anchor, layer.branch?.a, layer.branch?.b)
    if let bias = layer.bias { _ = try x.backend(for: "linear", with: bias) }
    _ = try x.contiguousRows(columns: layer.weight.shape[1], operation: "linear", other: layer.weight.shape)
    operands.append(layer.operands)
  }
  for layer in layers { outputs.append(try layer.output(of: x, precision: precision)) }
  try x.backend.linear(x, operands, into: outputs, precision: precision)
  guard GradientMode.isEnabled else { return outputs.map(\.y) }

  let rule = LinearRule(x, layers, lows: outputs.map(\.low), precision: precision)
  let inputs: [Tensor?] = [x] + layers.flatMap { [$0.trainedWeight, $0.bias, $0.branch?.a, $0.branch?.b] }
  let saved = layers.flatMap { [$0.trainedWeight, $0.branch?.a, $0.branch?.b] }
  record("linear", inputs: inputs, saving: saved, outputs: outputs.map(\.y)) { try rule.gradients($0) }
  return outputs.map(\.y)
}

extension LinearLayer {
  /// Memory for the outputs of a product with x, with what is added to it or given to it already in place.
  func output(of x: Tensor, precision: DType) throws -> LinearOutput {
    let y = try Tensor(empty: [x.shape[0], weight.shape[0]], dtype: x.dtype, on: x.backend)
    if let bias { try x.backend.copy(try bias.broadcasted(to: y.shape), into: y) }
    guard let branch else { return LinearOutput(y: y, addsToOld: bias != nil) }
    let low = try Tensor(empty: [x.shape[0], rank], dtype: .f32, on: x.backend)
    if isMasked {
      try x.backend.matmul(
        try branch.masked(x), transposeA: false, branch.a, transposeB: true, alpha: branch.scaling, beta: 0, into: low,
        precision: precision)
    }
    return LinearOutput(y: y, addsToOld: bias != nil, low: low, lowIsGiven: isMasked)
  }
}

/// The backward pass of `linear`. It must not hold x or the outputs themselves.
private struct LinearRule {
  let layers: [LinearLayer]
  /// h = scaling * dropout(x) A^T of each layer with a branch.
  let lows: [Tensor?]
  let precision: DType
  let backend: any Backend
  let tokens: Int
  /// Columns of dx, where it is wanted.
  let inputWidth: Int?
  let dtype: DType
  /// Only for the gradients of weights; frozen layers need none of it.
  let savedInput: SavedInput?

  init(_ x: Tensor, _ layers: [LinearLayer], lows: [Tensor?], precision: DType) {
    self.layers = layers
    self.lows = lows
    self.precision = precision
    (backend, tokens, dtype) = (x.backend, x.shape[0], x.dtype)
    inputWidth = x.requiresGradient ? x.shape[1] : nil
    savedInput = layers.contains { $0.branch != nil || $0.trainedWeight != nil } ? SavedInput(x) : nil
  }

  /// Gradients of x and then of weight, bias, A and B of each layer, where one is wanted and one arrives.
  func gradients(_ gradients: [Tensor?]) throws -> [Tensor?] {
    let dys = try gradients.map { try $0?.contiguous() }
    let reached = layers.indices.filter { dys[$0] != nil }
    let low = try LowGradients(layers, reached, tokens: tokens, on: backend)
    let dx = try inputWidth.map { try Tensor(empty: [tokens, $0], dtype: dtype, on: backend) }
    try backend.linearBackward(
      reached.map { LinearGradient(dy: dys[$0]!, dLow: low.parts[$0], reachesInput: !layers[$0].isMasked) },
      reached.map { layers[$0].operands }, into: dx, precision: precision)

    // x is read once for the A of all branches without a mask.
    let dA = try low.unmasked.flatMap { low in
      try savedInput.map { try product(low, $0.value(), precision: precision) }
    }
    var results = [Tensor?](repeating: nil, count: 1 + 4 * layers.count)
    results[0] = dx
    for index in reached {
      let (layer, dy, first) = (layers[index], dys[index]!, 1 + 4 * index)
      if layer.trainedWeight != nil, let savedInput {
        results[first] = try product(dy, savedInput.value(), precision: precision)
      }
      if let bias = layer.bias, bias.requiresGradient { results[first + 1] = try columnSums(dy) }
      guard let branch = layer.branch, let h = lows[index], let dh = low.parts[index], let savedInput else { continue }
      results[first + 2] =
        layer.isMasked
        ? try product(dh, try branch.masked(savedInput.value()), precision: precision)
        : try dA?.narrowed(0, low.columns[index]).handedOver()
      results[first + 3] = try product(dy, h, precision: precision)
      if layer.isMasked, let dx { try branch.addMasked(dh, into: dx, precision: precision) }
    }
    return results
  }
}

/// The gradients of the h of all branches side by side, so that those of all A are one product; masked branches come
/// last.
private struct LowGradients {
  /// [T, rank] by layer; none without a branch or without a gradient.
  let parts: [Tensor?]
  /// The columns of each layer.
  let columns: [Range<Int>]
  /// [T, ranks] of the branches without a mask.
  let unmasked: Tensor?

  init(_ layers: [LinearLayer], _ reached: [Int], tokens: Int, on backend: any Backend) throws {
    var columns = [Range<Int>](repeating: 0..<0, count: layers.count)
    var (count, shared) = (0, 0)
    for isMasked in [false, true] {
      for index in reached where layers[index].isMasked == isMasked {
        columns[index] = count..<count + layers[index].rank
        count += layers[index].rank
      }
      if !isMasked { shared = count }
    }
    let all = try Tensor(empty: [tokens, count], dtype: .f32, on: backend)
    parts = try columns.map { $0.isEmpty ? nil : try all.narrowed(1, $0) }
    unmasked = shared == 0 ? nil : try all.narrowed(1, 0..<shared)
    self.columns = columns
  }
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
  /// x with the mask of the branch.
  func masked(_ x: Tensor) throws -> Tensor {
    let y = try Tensor(empty: x.shape, dtype: x.dtype, on: x.backend)
    try x.backend.dropout(x, probability: dropout, stream: stream, into: y, accumulate: false)
    return y
  }

  /// dx += mask * (dLow A), with the mask of the forward pass.
  func addMasked(_ dLow: Tensor, into dx: Tensor, precision: DType) throws {
    let through = try Tensor(empty: dx.shape, dtype: dx.dtype, on: dx.backend)
    try dx.backend.matmul(
      dLow, transposeA: false, a, transposeB: false, alpha: 1, beta: 0, into: through, precision: precision)
    try dx.backend.dropout(through, probability: dropout, stream: stream, into: dx, accumulate: true)
  }
}

/// f32 a^T b for matrices: a gradient for one input.
private func product(_ a: Tensor, _ b: Tensor, precision: DType) throws -> Tensor {
  let c = try Tensor(empty: [a.shape[1], b.shape[1]], dtype: .f32, category: .gradients, on: a.backend)
  try a.backend.matmul(
    a, transposeA: true, b, transposeB: false, alpha: 1, beta: 0, into: c, precision: precision)
  return c.handedOver()
}

/// f32 [D] sums over the rows of [T, D].
private func columnSums(_ x: Tensor) throws -> Tensor {
  let source = try x.dtype == .f32 ? x : x.converted(to: .f32)
  let y = try Tensor(empty: [x.shape[1]], dtype: .f32, on: x.backend)
  try x.backend.reduce(.sum, source, outer: 1, count: x.shape[0], inner: x.shape[1], into: y)
  return y
}
