// Attention head by head from matrix products: the form of a device without a fused kernel. Scores of one head exist at
// a time.

extension Backend {
  /// Softmax and products of one head of one sequence after the other, in f32; the scores [n, n] of a sequence of n
  /// rows exist whole, in workspace.
  /// - Throws: `TensorError.outOfMemory`; `TensorError.badDType` when the segments are not integers;
  ///   `TensorError.elementCount`, `TensorError.badDimension`, `TensorError.badIndex` or `TensorError.shapeMismatch`
  ///   when shapes do not fit; what the device reports.
  public func attention(
    _ q: Tensor, _ k: Tensor, _ v: Tensor, _ shape: AttentionShape, into out: Tensor, lse: Tensor
  ) throws {
    for segment in try shape.ranges() {
      for head in 0..<shape.heads {
        let heads = try HeadOperands(q, k, v, shape, head: head, queries: segment, keys: segment)
        let (weights, sums) = try heads.softmax(try heads.scores(on: self).hidden, on: self)
        try heads.product(weights, false, heads.v, into: try shape.columns(of: out, head, segment), on: self)
        try copy(try sums.viewed([1, segment.count]), into: try lse.narrowed(0, head..<head + 1).narrowed(1, segment))
      }
    }
  }

  /// One head after the other, in f32; its scores [T, length] exist whole, in workspace.
  /// - Throws: `TensorError.outOfMemory`; `TensorError.elementCount`, `TensorError.badDimension`,
  ///   `TensorError.badIndex` or `TensorError.shapeMismatch` when shapes do not fit; what the device reports.
  public func cachedAttention(
    _ q: Tensor, keys: Tensor, values: Tensor, length: Int, start: Int, _ shape: AttentionShape, into out: Tensor
  ) throws {
    let queries = 0..<q.shape[0]
    for head in 0..<shape.heads {
      let heads = try HeadOperands(
        q, keys, values, shape, head: head, queries: queries, keys: 0..<length, offset: start)
      let (weights, _) = try heads.softmax(try heads.scores(on: self).hidden, on: self)
      try heads.product(weights, false, heads.v, into: try shape.columns(of: out, head, queries), on: self)
    }
  }

  /// With p = exp(s - lse): dv = p^T dOut, ds = p * (dOut v^T - rows of sum(dOut * out)), dq = ds k, dk = ds^T q,
  /// summed over the heads that share keys and values; of capped scores ds is also multiplied by the slope of the cap.
  /// The sums dk and dv are kept in f32 until the last head.
  /// - Throws: `TensorError.outOfMemory`; `TensorError.badDType` when the segments are not integers;
  ///   `TensorError.elementCount`, `TensorError.badDimension`, `TensorError.badIndex` or `TensorError.shapeMismatch`
  ///   when shapes do not fit; what the device reports.
  public func attentionBackward(
    _ dOut: Tensor, _ q: Tensor, _ k: Tensor, _ v: Tensor, out: Tensor, lse: Tensor, _ shape: AttentionShape,
    dq: Tensor, dk: Tensor, dv: Tensor
  ) throws {
    let width = shape.kvHeads * shape.headDim
    let sums = try (0..<2).map { _ in
      try Tensor(full: [k.shape[0], width], value: 0, category: .workspace, on: self)
    }
    for segment in try shape.ranges() {
      for head in 0..<shape.heads {
        let heads = try HeadOperands(q, k, v, shape, head: head, queries: segment, keys: segment)
        let scores = try heads.scores(on: self)
        let rows = try lse.narrowed(0, head..<head + 1).narrowed(1, segment).viewed([segment.count, 1])
        let weights = try evaluated(.exp, try evaluated(.subtract, scores.hidden, rows))
        let (gradient, result) = (
          try shape.columns(of: dOut, head, segment), try shape.columns(of: out, head, segment)
        )
        let shared = head * shape.kvHeads / shape.heads
        let (dKeys, dValues) = (
          try shape.columns(of: sums[0], shared, segment), try shape.columns(of: sums[1], shared, segment)
        )
        try heads.product(weights, true, gradient, beta: 1, into: dValues, on: self)
        let dWeights = try Tensor(empty: weights.shape, category: .workspace, on: self)
        try matmul(
          gradient, transposeA: false, heads.v, transposeB: true, alpha: 1, beta: 0, into: dWeights, precision: .f32)
        let dots = try reducedRows(.sum, try evaluated(.multiply, gradient, result))
        var dScores = try evaluated(.multiply, weights, try evaluated(.subtract, dWeights, dots))
        if shape.softCap > 0 {
          dScores = try evaluated(.multiply, dScores, try capSlope(scores.seen, shape.softCap))
        }
        try heads.product(
          dScores, false, heads.k, alpha: shape.scale, into: try shape.columns(of: dq, head, segment), on: self)
        try heads.product(dScores, true, heads.q, alpha: shape.scale, beta: 1, into: dKeys, on: self)
      }
    }
    try copy(try sums[0].viewed(dk.shape), into: dk)
    try copy(try sums[1].viewed(dv.shape), into: dv)
  }
}

/// Query rows of one head against keys, as matrices whose rows are apart.
private struct HeadOperands {
  let q: Tensor
  let k: Tensor
  let v: Tensor
  let shape: AttentionShape
  let head: Int
  /// Position of the first query among the keys.
  let offset: Int

  init(
    _ q: Tensor, _ k: Tensor, _ v: Tensor, _ shape: AttentionShape, head: Int, queries: Range<Int>, keys: Range<Int>,
    offset: Int = 0
  ) throws {
    let shared = head * shape.kvHeads / shape.heads
    self.q = try shape.columns(of: q, head, queries)
    self.k = try shape.columns(of: k, shared, keys)
    self.v = try shape.columns(of: v, shared, keys)
    (self.shape, self.head, self.offset) = (shape, head, offset)
  }

  /// Scaled and capped scores [queries, keys], and the same with -infinity where a query does not see a key.
  func scores(on backend: some Backend) throws -> (seen: Tensor, hidden: Tensor) {
    let (rows, columns) = (q.shape[0], k.shape[0])
    let scores = try Tensor(empty: [rows, columns], category: .workspace, on: backend)
    try backend.matmul(
      q, transposeA: false, k, transposeB: true, alpha: shape.scale, beta: 0, into: scores, precision: .f32)
    if shape.softCap > 0 { try backend.softCap(scores, shape.softCap, into: scores) }
    let mask = (0..<rows * columns).map { index -> Float in
      let distance = index / columns + offset - index % columns
      return distance < 0 || shape.window > 0 && distance >= shape.window ? -.infinity : 0
    }
    let hidden = try backend.evaluated(
      .add, scores, try Tensor(mask, shape: [rows, columns], category: .workspace, on: backend))
    return (scores, hidden)
  }

  /// exp(s - lse) with lse [rows, 1] the logarithm of the sum of exponentials, the sink of the head among them.
  func softmax(_ scores: Tensor, on backend: some Backend) throws -> (weights: Tensor, lse: Tensor) {
    let sink = try shape.sinks.map { try $0.narrowed(0, head..<head + 1) }
    var peaks = try backend.reducedRows(.maximum, scores)
    if let sink { peaks = try backend.evaluated(.maximum, peaks, sink) }
    let exponentials = try backend.evaluated(.exp, try backend.evaluated(.subtract, scores, peaks))
    var sums = try backend.reducedRows(.sum, exponentials)
    if let sink {
      sums = try backend.evaluated(
        .add, sums, try backend.evaluated(.exp, try backend.evaluated(.subtract, sink, peaks)))
    }
    let lse = try backend.evaluated(.add, peaks, try backend.evaluated(.log, sums))
    return (try backend.evaluated(.divide, exponentials, sums), lse)
  }

  /// target = alpha * a b + beta * target, or with a transposed.
  func product(
    _ a: Tensor, _ transposed: Bool, _ b: Tensor, alpha: Float = 1, beta: Float = 0, into target: Tensor,
    on backend: some Backend
  ) throws {
    try backend.matmul(
      a, transposeA: transposed, b, transposeB: false, alpha: alpha, beta: beta, into: target, precision: .f32)
  }
}

extension AttentionShape {
  /// The rows of each sequence.
  fileprivate func ranges() throws -> [Range<Int>] {
    let starts = try segments.integers()
    return zip(starts, starts.dropFirst()).map { $0..<$1 }
  }

  /// Rows of one head of [T, heads * headDim]: a view [rows, headDim].
  fileprivate func columns(of x: Tensor, _ head: Int, _ rows: Range<Int>) throws -> Tensor {
    try x.viewed([x.shape[0], -1]).narrowed(0, rows).narrowed(1, head * headDim..<(head + 1) * headDim)
  }
}
