// Norms, gates and softmax in terms of elementwise operations and reductions: the forms of a device without kernels of
// its own for them. They allocate what lies between.

extension Backend {
  /// Multiplies in f32 to workspace and copies back, also by a factor of 1.
  /// - Throws: `TensorError.outOfMemory`; `TensorError.shapeMismatch` when the factor has more than one element; what
  ///   the device reports.
  public func scale(_ x: Tensor, by factor: Tensor) throws { try copy(try evaluated(.multiply, x, factor), into: x) }

  /// The chosen rows of the table and the products are workspace.
  /// - Throws: `TensorError.outOfMemory`; `TensorError.shapeMismatch` when shapes do not fit; what the device reports.
  public func embeddingDots(_ table: Tensor, ids: Tensor, _ rows: Tensor, into y: Tensor) throws {
    let chosen = try Tensor(empty: rows.shape, category: .workspace, on: self)
    try embedding(table, ids: ids, weights: nil, into: chosen)
    try copy(try reducedRows(.sum, try evaluated(.multiply, chosen, rows)).viewed(y.shape), into: y)
  }

  /// Without an offset the product x * rstd is rounded to bf16 where that is the dtype of y, as on the CPU; otherwise
  /// it stays f32 until it is stored. Intermediate results are workspace.
  /// - Throws: `TensorError.outOfMemory`; `TensorError.shapeMismatch` or `TensorError.elementCount` when shapes do not
  ///   fit; what the device reports.
  public func rmsNorm(
    _ x: Tensor, weight: Tensor, offset: Float, epsilon: Float, into y: Tensor, rstd: Tensor
  ) throws {
    let rows = try x.rows(of: weight.elementCount)
    let means = try reducedRows(.mean, try evaluated(.square, rows))
    try unary(.rsqrt, try evaluated(.add, means, try scalar(epsilon)), into: rstd)
    let normal = try normalised(rows, rstd)
    let result = try evaluated(
      .multiply, offset == 0 ? try rounded(normal, to: y.dtype) : normal,
      try evaluated(.add, weight, try scalar(offset)))
    try copy(try result.viewed(y.shape), into: y)
  }

  /// With n = x * rstd and g = dy * (offset + weight): dx = rstd * (g - n * mean(g * n)), dWeight += sum of dy * n.
  /// - Throws: `TensorError.outOfMemory`; `TensorError.shapeMismatch` or `TensorError.elementCount` when shapes do not
  ///   fit; what the device reports.
  public func rmsNormBackward(
    _ dy: Tensor, _ x: Tensor, weight: Tensor, offset: Float, rstd: Tensor, into dx: Tensor, accumulate: Bool,
    dWeight: Tensor?
  ) throws {
    let width = weight.elementCount
    let (rows, dRows) = (try x.rows(of: width), try dy.rows(of: width))
    let n = try normalised(rows, rstd)
    let g = try evaluated(.multiply, dRows, try evaluated(.add, weight, try scalar(offset)))
    let means = try reducedRows(.mean, try evaluated(.multiply, g, n))
    let result = try normalised(try evaluated(.subtract, g, try evaluated(.multiply, n, means)), rstd)
    try put(try result.viewed(dx.shape), into: dx, accumulate: accumulate)
    guard let dWeight else { return }
    let sums = try Tensor(empty: [width], category: .workspace, on: self)
    let products = try evaluated(.multiply, dRows, n)
    try reduce(.sum, products, outer: 1, count: rows.shape[0], inner: width, into: sums)
    try self.accumulate(sums, scale: 1, into: dWeight, scale: 1)
  }

  /// The activated gate, rounded to bf16 where that is the dtype of y as on the CPU, and the product are workspace.
  /// - Throws: `TensorError.outOfMemory`; `TensorError.shapeMismatch` when shapes do not fit; what the device reports.
  public func gated(_ activation: Activation, gate: Tensor, up: Tensor, into y: Tensor) throws {
    let (gate, up) = try bounded(activation, gate, up)
    try copy(try evaluated(.multiply, try rounded(try activated(activation, gate), to: y.dtype), up), into: y)
  }

  /// dGate = dy * a'(gate) * up and dUp = dy * a(gate), both computed before either is stored.
  /// - Throws: `TensorError.outOfMemory`; `TensorError.shapeMismatch` when shapes do not fit; what the device reports.
  public func gatedBackward(
    _ activation: Activation, _ dy: Tensor, gate: Tensor, up: Tensor, dGate: Tensor, dUp: Tensor
  ) throws {
    let (g, u) = try bounded(activation, gate, up)
    let slopes = try evaluated(.multiply, dy, try slope(activation, g))
    var dGates = try evaluated(.multiply, slopes, u)
    var dUps = try evaluated(.multiply, dy, try activated(activation, g))
    if activation == .clampedSwish {
      let bound = try scalar(Activation.bound)
      dGates = try evaluated(.multiply, dGates, try evaluated(.lessEqual, gate, bound))
      dUps = try evaluated(.multiply, dUps, try evaluated(.lessEqual, try evaluated(.abs, up), bound))
    }
    try copy(dGates, into: dGate)
    try copy(dUps, into: dUp)
  }

  /// The activated elements are f32 workspace.
  /// - Throws: `TensorError.outOfMemory`; `TensorError.shapeMismatch` when shapes do not fit; what the device reports.
  public func activated(_ activation: Activation, _ x: Tensor, into y: Tensor) throws {
    try copy(try activated(activation, x), into: y)
  }

  /// The slopes are f32 workspace.
  /// - Throws: `TensorError.outOfMemory`; `TensorError.shapeMismatch` when shapes do not fit; what the device reports.
  public func activatedBackward(_ activation: Activation, _ dy: Tensor, _ x: Tensor, into dx: Tensor) throws {
    try copy(try evaluated(.multiply, dy, try slope(activation, x)), into: dx)
  }

  /// The quotient and its tanh are f32 workspace.
  /// - Throws: `TensorError.outOfMemory`; `TensorError.shapeMismatch` when shapes do not fit; what the device reports.
  public func softCap(_ x: Tensor, _ cap: Float, into y: Tensor) throws {
    let bent = try evaluated(.tanh, try evaluated(.divide, x, try scalar(cap)))
    try binary(.multiply, bent, try scalar(cap), into: y)
  }

  /// The slope 1 - (y / cap)^2 is f32 workspace.
  /// - Throws: `TensorError.outOfMemory`; `TensorError.shapeMismatch` when shapes do not fit; what the device reports.
  public func softCapBackward(_ dy: Tensor, _ y: Tensor, _ cap: Float, into dx: Tensor) throws {
    try binary(.multiply, dy, try capSlope(y, cap), into: dx)
  }

  /// 1 - (y / cap)^2, the slope of `softCap` by its result.
  func capSlope(_ y: Tensor, _ cap: Float) throws -> Tensor {
    try evaluated(.subtract, try scalar(1), try evaluated(.square, try evaluated(.divide, y, try scalar(cap))))
  }

  /// With s = x - max(x) of each row: exp(s) / sum(exp(s)), or s - log(sum(exp(s))) for the logarithm.
  /// - Throws: `TensorError.outOfMemory`; `TensorError.shapeMismatch` or `TensorError.elementCount` when shapes do not
  ///   fit; what the device reports.
  public func softmax(_ x: Tensor, into y: Tensor, logarithm: Bool) throws {
    let rows = try x.rows(of: x.shape.last ?? 1)
    let shifted = try evaluated(.subtract, rows, try reducedRows(.maximum, rows))
    let exponentials = try evaluated(.exp, shifted)
    let sums = try reducedRows(.sum, exponentials)
    let result =
      logarithm
      ? try evaluated(.subtract, shifted, try evaluated(.log, sums)) : try evaluated(.divide, exponentials, sums)
    try copy(try result.viewed(y.shape), into: y)
  }

  /// dx = y * (dy - sum(dy * y)) of each row, or dy - exp(y) * sum(dy) for the logarithm.
  /// - Throws: `TensorError.outOfMemory`; `TensorError.shapeMismatch` or `TensorError.elementCount` when shapes do not
  ///   fit; what the device reports.
  public func softmaxBackward(_ dy: Tensor, _ y: Tensor, into dx: Tensor, logarithm: Bool) throws {
    let width = y.shape.last ?? 1
    let (dRows, rows) = (try dy.rows(of: width), try y.rows(of: width))
    let result: Tensor
    if logarithm {
      let sums = try reducedRows(.sum, dRows)
      result = try evaluated(.subtract, dRows, try evaluated(.multiply, try evaluated(.exp, rows), sums))
    } else {
      let sums = try reducedRows(.sum, try evaluated(.multiply, dRows, rows))
      result = try evaluated(.multiply, rows, try evaluated(.subtract, dRows, sums))
    }
    try copy(try result.viewed(dx.shape), into: dx)
  }

  private func normalised(_ rows: Tensor, _ rstd: Tensor) throws -> Tensor {
    try evaluated(.multiply, rows, try rstd.viewed([rows.shape[0], 1]))
  }

  /// A factor as the kernels of the CPU keep it before the next product: bf16 for activations in bf16, else f32.
  private func rounded(_ x: Tensor, to dtype: DType) throws -> Tensor {
    try dtype == .bf16 ? x.converted(to: .bf16, category: .workspace) : x
  }

  /// What the product sees of a gate and its partner.
  private func bounded(_ activation: Activation, _ gate: Tensor, _ up: Tensor) throws -> (gate: Tensor, up: Tensor) {
    guard activation == .clampedSwish else { return (gate, up) }
    let bound = try scalar(Activation.bound)
    let inside = try evaluated(.maximum, try evaluated(.minimum, up, bound), try scalar(-Activation.bound))
    return (try evaluated(.minimum, gate, bound), try evaluated(.add, inside, try scalar(1)))
  }

  private func activated(_ activation: Activation, _ gate: Tensor) throws -> Tensor {
    switch activation {
    case .clampedSwish:
      try evaluated(.multiply, gate, try evaluated(.sigmoid, try evaluated(.multiply, gate, try scalar(1.702))))
    case .silu: try evaluated(.silu, gate)
    case .geluTanh: try evaluated(.gelu, gate)
    case .gelu: try evaluated(.multiply, gate, try normalDistribution(gate))
    case .sigmoid: try evaluated(.sigmoid, gate)
    }
  }

  /// (1 + erf(x / sqrt(2))) / 2
  private func normalDistribution(_ x: Tensor) throws -> Tensor {
    let error = try evaluated(.erf, try evaluated(.multiply, x, try scalar(0.707_106_78)))
    return try evaluated(.multiply, try evaluated(.add, error, try scalar(1)), try scalar(0.5))
  }

  /// Of SiLU s(1 + g(1 - s)) with s = sigmoid(g), of which s(1 - s) is the slope; of the clamped swish as of SiLU with
  /// 1.702 g for g; of the tanh form of GELU (1 + t + g(1 - t^2)u') / 2 with t = tanh(u),
  /// u = c(g + 0.044715 g^3); of GELU the normal distribution and g times its density.
  private func slope(_ activation: Activation, _ gate: Tensor) throws -> Tensor {
    func plus(_ x: Tensor, _ value: Float) throws -> Tensor { try evaluated(.add, x, try scalar(value)) }
    func times(_ x: Tensor, _ value: Float) throws -> Tensor { try evaluated(.multiply, x, try scalar(value)) }
    switch activation {
    case .silu, .clampedSwish:
      let gain: Float = activation == .silu ? 1 : 1.702
      let s = try evaluated(.sigmoid, try times(gate, gain))
      let rest = try evaluated(.multiply, try times(gate, gain), try plus(try evaluated(.negate, s), 1))
      return try evaluated(.multiply, s, try plus(rest, 1))
    case .sigmoid:
      let s = try evaluated(.sigmoid, gate)
      return try evaluated(.multiply, s, try plus(try evaluated(.negate, s), 1))
    case .gelu:
      let density = try evaluated(.exp, try times(try evaluated(.square, gate), -0.5))
      let bend = try evaluated(.multiply, gate, try times(density, 0.398_942_28))
      return try evaluated(.add, try normalDistribution(gate), bend)
    case .geluTanh:
      let (c, cubic): (Float, Float) = (0.797_884_56, 0.044_715)
      let square = try evaluated(.square, gate)
      let t = try evaluated(.tanh, try evaluated(.multiply, gate, try times(try plus(try times(square, cubic), 1), c)))
      let inner = try times(try plus(try times(square, 3 * cubic), 1), c)
      let bend = try evaluated(.multiply, try plus(try evaluated(.negate, try evaluated(.square, t)), 1), inner)
      return try times(try evaluated(.add, try plus(t, 1), try evaluated(.multiply, gate, bend)), 0.5)
    }
  }
}

// MARK: What the composed forms are made of

extension Backend {
  /// f32, of the shape that the operands broadcast to.
  func evaluated(_ operation: BinaryOperation, _ a: Tensor, _ b: Tensor) throws -> Tensor {
    let shape = try Shape.broadcast(a.shape, b.shape, operation: "composed")
    let y = try Tensor(empty: shape, category: .workspace, on: self)
    try binary(operation, a, b, into: y)
    return y
  }

  func evaluated(_ operation: UnaryOperation, _ x: Tensor) throws -> Tensor {
    let y = try Tensor(empty: x.shape, category: .workspace, on: self)
    try unary(operation, try x.contiguous(), into: y)
    return y
  }

  /// [T, 1] of the rows of f32 [T, D].
  func reducedRows(_ operation: Reduction, _ x: Tensor) throws -> Tensor {
    let y = try Tensor(empty: [x.shape[0], 1], category: .workspace, on: self)
    try reduce(operation, try x.contiguous(), outer: x.shape[0], count: x.shape[1], inner: 1, into: y)
    return y
  }

  func scalar(_ value: Float) throws -> Tensor { try Tensor([value], category: .workspace, on: self) }

  /// y (+)= x, whatever the float dtypes.
  func put(_ x: Tensor, into y: Tensor, accumulate: Bool) throws {
    if accumulate { try self.accumulate(x, scale: 1, into: y, scale: 1) } else { try copy(x, into: y) }
  }
}

extension Tensor {
  /// [rows, width]
  func rows(of width: Int) throws -> Tensor { try viewed([elementCount / max(1, width), width]) }
}
