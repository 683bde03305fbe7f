import Autograd
import Tensors

/// How far the predictions b are from a, row by row.
public struct LogitComparison: Sendable {
  /// Sum over the rows of KL(a || b) in nats.
  public private(set) var divergence: Double
  /// Rows whose largest logit is at the same place.
  public private(set) var agreements: Int
  /// Rows compared, T.
  public private(set) var rows: Int
  /// Sums over the rows with a target of -log p(target), of a and of b.
  public private(set) var losses = (a: 0.0, b: 0.0)

  /// Compares logits of the same positions, [T, V] each; nothing is recorded.
  /// - Parameters:
  ///   - a: logits.
  ///   - b: logits of the same positions.
  ///   - targets: of the rows, below V; negative ones count for nothing, and so do none at all.
  /// - Throws: `TensorError.shapeMismatch` for shapes that differ or are no matrices; `.badShape` for matrices without
  ///   columns; `.outOfMemory`.
  public init(_ a: Tensor, _ b: Tensor, targets: ArraySlice<Int32> = []) throws {
    guard a.shape == b.shape, a.rank == 2 else {
      throw TensorError.shapeMismatch(operation: "compare_logits", lhs: a.shape, rhs: b.shape)
    }
    (divergence, agreements, losses) = try GradientMode.disabled {
      let (x, y) = (try reduce(.argmax, a, axis: 1).integers(), try reduce(.argmax, b, axis: 1).integers())
      let (p, q) = (try softmax(a, logarithm: true), try softmax(b, logarithm: true))
      let losses = (try Self.loss(p, targets), try Self.loss(q, targets))
      let terms = try binary(.multiply, try unary(.exp, p), try binary(.subtract, p, q))
      return (try reduce(.sum, terms).item(), zip(x, y).reduce(0) { $0 + ($1.0 == $1.1 ? 1 : 0) }, losses)
    }
    rows = a.shape[0]
  }

  private static func loss(_ logarithms: Tensor, _ targets: ArraySlice<Int32>) throws -> Double {
    let width = logarithms.shape[1]
    return try logarithms.withHostBytes { bytes in
      let values = bytes.bindMemory(to: Float.self)
      return zip(0..., targets).reduce(0.0) { sum, pair in
        pair.1 < 0 ? sum : sum - Double(values[pair.0 * width + Int(pair.1)])
      }
    }
  }

  static func += (sum: inout LogitComparison, part: LogitComparison) {
    sum.divergence += part.divergence
    sum.agreements += part.agreements
    sum.rows += part.rows
    sum.losses = (sum.losses.a + part.losses.a, sum.losses.b + part.losses.b)
  }
}

/// A model as a comparison takes it.
public enum ComparedSide {
  /// With the adapters in use.
  case live(LanguageModel)
  /// Without adapters.
  case base(LanguageModel)
  /// With adapters merged into weights.
  case merged(MergedWeights)

  /// Whose weights and tokenizer they are.
  public var model: LanguageModel {
    switch self {
    case .live(let model), .base(let model): model
    case .merged(let weights): weights.model
    }
  }

  fileprivate func run<R>(_ body: (LanguageModel) throws -> R) rethrows -> R {
    switch self {
    case .live(let model): try body(model)
    case .base(let model): try model.withoutAdapters { try body(model) }
    case .merged(let weights): try weights.run { try body(weights.model) }
    }
  }

  /// Compares this side with others on each sequence of a batch, in one pass of each. Of a base that lies in a file one
  /// matrix is in memory at a time when weights are merged; logits are there for some rows at a time.
  /// - Returns: for each of `others` one comparison a sequence.
  /// - Throws: as `LanguageModel.logits` and `LogitComparison.init`; what merging throws.
  public func compared(with others: [ComparedSide], on batch: Batch) throws -> [[LogitComparison]] {
    for side in [self] + others { try side.model.check(batch.targets.filter { $0 != NextToken.untrained }) }
    let states = try run { try $0.finalStates(batch) }
    return try others.map { other in
      let theirs = try other.run { try $0.finalStates(batch) }
      return try zip(batch.segments, batch.segments.dropFirst()).map { start, end in
        try compared(with: other, states, theirs, batch, Int(start)..<Int(end))
      }
    }
  }

  /// The rows of one sequence.
  private func compared(
    with other: ComparedSide, _ states: Tensor, _ theirs: Tensor, _ batch: Batch, _ sequence: Range<Int>
  ) throws -> LogitComparison {
    let count = max(1, (1 << 21) / model.spec.vocabularySize)
    var sum: LogitComparison?
    for start in stride(from: sequence.lowerBound, to: sequence.upperBound, by: count) {
      let rows = start..<min(start + count, sequence.upperBound)
      func logits(_ side: ComparedSide, _ states: Tensor) throws -> Tensor {
        try side.run { try $0.logits(ofStates: try states.narrowed(0, rows).copied()) }
      }
      let part = try LogitComparison(
        try logits(self, states), try logits(other, theirs), targets: batch.targets[rows])
      if sum == nil { sum = part } else { sum? += part }
    }
    guard let sum else { throw ModelError.emptyInput(operation: "compare") }
    return sum
  }
}
