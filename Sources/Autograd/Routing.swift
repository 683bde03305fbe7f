import Tensors

// A layer of experts: which rows of its input go to which expert, their weights, and the sum of what comes back.

/// Which experts each token goes to, and with what weight (Shazeer et al. 2017). A row stands for one token at one
/// expert; rows are in the order of experts, those of one expert in the order of tokens.
public struct Routing {
  /// Rows of each expert.
  public let counts: [Int]
  /// i32 [rows], the token of each row.
  public let tokens: Tensor
  /// f32 [rows], the weight of each row.
  public let weights: Tensor

  /// Sends every token to the `perToken` experts with the largest logits, of equal ones to the first.
  ///
  /// The probabilities of a token are the softmax of its logits. They are the weights, or with `normalizes` the weights
  /// are those of the chosen experts divided by their sum.
  /// - Parameters:
  ///   - logits: [tokens, experts], f32
  ///   - perToken: 1 to the number of experts
  ///   - normalizes: whether the weights of a token add up to 1
  ///   - balance: is told the probabilities, and what they do to its loss
  /// - Throws: `TensorError.badShape` for logits that are no matrix, `.badDType`, `.badValue` for `perToken`,
  ///   `.outOfMemory`; what the device reports.
  public init(_ logits: Tensor, perToken: Int, normalizes: Bool, balance: RouterBalance? = nil) throws {
    guard logits.rank == 2 else {
      throw TensorError.badShape(operation: "routing", shape: logits.shape, problem: .notAMatrix)
    }
    guard logits.dtype == .f32 else {
      throw TensorError.badDType(operation: "routing", got: logits.dtype, expected: [.f32])
    }
    let (tokenCount, expertCount, backend) = (logits.shape[0], logits.shape[1], logits.backend)
    try (1...expertCount).require(perToken, "experts per token", operation: "routing")
    let probabilities = try Tensor(empty: logits.shape, on: backend)
    try backend.softmax(try logits.contiguous(), into: probabilities, logarithm: false)
    let chosen: [[Int]]
    let values: [Float]
    if isRehearsal(backend) {
      values = []
      chosen = Self.heaviest(tokens: tokenCount, experts: expertCount, perToken)
    } else {
      values = try probabilities.floats()
      chosen = (0..<tokenCount).map { token in
        Self.largest(values[token * expertCount..<(token + 1) * expertCount], perToken)
      }
      balance?.add(values, chosen, experts: expertCount)
    }

    let places = Self.places(chosen, experts: expertCount)
    counts = places.counts
    let rows = places.rows
    tokens = try Tensor(ids: rows.map { Int32($0.token) }, on: backend)
    let given = Self.weights(values, chosen, rows, experts: expertCount, normalizes: normalizes)
    weights = try Tensor(empty: [given.count], on: backend)
    try given.withUnsafeBytes { try weights.write($0) }
    record("routing", inputs: [logits], output: weights) { gradient in
      let dLogits = try Tensor(full: logits.shape, value: 0, on: backend)
      guard !values.isEmpty else { return [dLogits] }
      let slopes = Self.slopes(
        try gradient.floats(), rows, given, values, experts: expertCount, normalizes: normalizes,
        onAll: balance?.slopes)
      try slopes.withUnsafeBytes { try dLogits.write($0) }
      return [dLogits]
    }
  }

  private typealias Row = (token: Int, expert: Int)

  /// Positions of the `count` largest, ascending; of equal values the first.
  private static func largest(_ values: ArraySlice<Float>, _ count: Int) -> [Int] {
    var chosen: [(value: Float, index: Int)] = []  // largest first
    for (index, value) in values.enumerated() where chosen.count < count || value > chosen[count - 1].value {
      if chosen.count == count { chosen.removeLast() }
      let place = chosen.lastIndex { $0.value >= value }.map { $0 + 1 } ?? 0
      chosen.insert((value, index), at: place)
    }
    return chosen.map(\.index).sorted()
  }

  /// A choice that takes at least as much memory as any other: every expert has a token where there are so many, so
  /// that all have gradients, and the first ones have nearly all of them.
  private static func heaviest(tokens: Int, experts: Int, _ count: Int) -> [[Int]] {
    (0..<tokens).map { token in
      let first = token * count
      return (0..<count).map { first < experts ? (first + $0) % experts : $0 }.sorted()
    }
  }

  /// The rows in their order, and how many each expert has.
  private static func places(_ chosen: [[Int]], experts: Int) -> (counts: [Int], rows: [Row]) {
    var counts = [Int](repeating: 0, count: experts)
    for expert in chosen.joined() { counts[expert] += 1 }
    var next = counts.indices.map { counts[..<$0].reduce(0, +) }
    var rows = [Row](repeating: (0, 0), count: counts.reduce(0, +))
    for (token, experts) in chosen.enumerated() {
      for expert in experts {
        rows[next[expert]] = (token, expert)
        next[expert] += 1
      }
    }
    return (counts, rows)
  }

  private static func weights(
    _ values: [Float], _ chosen: [[Int]], _ rows: [Row], experts: Int, normalizes: Bool
  ) -> [Float] {
    guard !values.isEmpty else { return [Float](repeating: 0, count: rows.count) }
    let sums = chosen.enumerated().map { token, mine in
      normalizes ? mine.reduce(Float(0)) { $0 + values[token * experts + $1] } : 1
    }
    return rows.map { values[$0.token * experts + $0.expert] / sums[$0.token] }
  }

  /// Gradients of the logits. With p the probabilities, S the chosen experts of a token and g the gradients of their
  /// weights w: dz_i = w_i (g_i - sum over S of g w) where the weights are normalized, which makes them the softmax
  /// over S; else dz_i = p_i (g_i - sum over all of g p), with g = 0 outside S. `onAll` are gradients of the
  /// probabilities of all experts, the same for every token.
  private static func slopes(
    _ g: [Float], _ rows: [Row], _ w: [Float], _ p: [Float], experts: Int, normalizes: Bool, onAll: [Float]?
  ) -> [Float] {
    var result = [Float](repeating: 0, count: p.count)
    var sums = [Float](repeating: 0, count: p.count / experts)
    for (row, place) in rows.enumerated() { sums[place.token] += g[row] * w[row] }
    for (row, place) in rows.enumerated() {
      let at = place.token * experts + place.expert
      result[at] = normalizes ? w[row] * (g[row] - sums[place.token]) : p[at] * g[row]
    }
    for token in sums.indices where !normalizes || onAll != nil {
      let range = token * experts..<(token + 1) * experts
      let mean = onAll.map { zip(p[range], $0).reduce(Float(0)) { $0 + $1.0 * $1.1 } } ?? 0
      for at in range {
        if !normalizes { result[at] -= p[at] * sums[token] }
        if let onAll { result[at] += p[at] * (onAll[at - range.lowerBound] - mean) }
      }
    }
    return result
  }
}

/// The rows of each expert of x [rows, D], as views; nil for an expert without rows.
/// - Throws: `TensorError.badIndex` when there are other rows, `.outOfMemory`; what the device reports.
public func splitRows(_ x: Tensor, _ counts: [Int]) throws -> [Tensor?] {
  var start = 0
  let ranges = counts.map { count in
    defer { start += count }
    return start..<start + count
  }
  let parts = try ranges.map { $0.isEmpty ? nil : try x.narrowed(0, $0) }
  let (shape, dtype, backend) = (x.shape, x.dtype, x.backend)
  let taken = ranges.filter { !$0.isEmpty }
  record("split_rows", inputs: [x], outputs: parts.compactMap { $0 }) { gradients in
    let dx = try Tensor(empty: shape, dtype: dtype, on: backend)
    for (range, gradient) in zip(taken, gradients) {
      let target = try dx.narrowed(0, range)
      if let gradient { try backend.copy(gradient, into: target) } else { try backend.fill(target, 0) }
    }
    return [dx]
  }
  return parts
}

extension Routing {
  /// y[t] = the sum over the rows of token t, in the order of experts, of weight * part: [tokens, D] of the dtype of
  /// the parts, added up in f32. A part holds the rows of one expert; it is nil for one without.
  /// - Throws: `TensorError.badIndex` when the parts have other rows than the routing, `.badDType` when they have
  ///   several dtypes, `.otherDevice`, `.outOfMemory`; what the device reports.
  public func combined(_ parts: [Tensor?], tokens count: Int) throws -> Tensor {
    let given = try parts.compactMap { try $0?.contiguous() }
    guard let first = given.first else {
      throw TensorError.badShape(operation: "experts", shape: [], problem: .notAMatrix)
    }
    let (width, dtype, backend) = (first.shape[1], first.dtype, first.backend)
    let rowCount = given.reduce(0) { $0 + $1.shape[0] }
    guard rowCount == tokens.elementCount else {
      throw TensorError.badIndex(operation: "experts", index: rowCount, count: tokens.elementCount)
    }
    if let other = given.first(where: { $0.dtype != dtype }) {
      throw TensorError.badDType(operation: "experts", got: other.dtype, expected: [dtype])
    }
    let sums = try Tensor(full: [count, width], value: 0, on: backend)
    try backend.embeddingBackward(given, ids: tokens, weights: weights, into: sums)
    let y = dtype == .f32 ? sums : try sums.converted(to: dtype)
    // The products of the parts are needed for the gradients of the weights alone.
    let saved = isRecording(weights) ? given.map { $0.detached() } : []
    let (tokens, weights, rowCounts) = (tokens, weights, given.map { $0.shape[0] })
    record("experts", inputs: [weights] + given, output: y) { dy in
      try gradients(try dy.contiguous(), saved, rowCounts, tokens, weights)
    }
    return y
  }

  private func gradients(
    _ dy: Tensor, _ saved: [Tensor], _ rowCounts: [Int], _ tokens: Tensor, _ weights: Tensor
  ) throws -> [Tensor?] {
    let backend = dy.backend
    // One block for all: those of single experts would all have other sizes, and take fresh pages.
    let dParts = try Tensor(empty: [tokens.shape[0], dy.shape[1]], dtype: dy.dtype, on: backend)
    try backend.embedding(dy, ids: tokens, weights: weights, into: dParts)
    let dWeights = saved.isEmpty ? nil : try Tensor(empty: weights.shape, on: backend)
    var results: [Tensor?] = [dWeights]
    var row = 0
    for (index, count) in rowCounts.enumerated() {
      let range = row..<row + count
      if let dWeights {
        try backend.embeddingDots(
          dy, ids: try tokens.narrowed(0, range), saved[index], into: try dWeights.narrowed(0, range))
      }
      results.append(try dParts.narrowed(0, range))
      row += count
    }
    return results
  }
}
