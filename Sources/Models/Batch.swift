/// Sequences laid end to end without padding; attention sees each on its own.
public struct Batch: Sendable {
  /// Token ids of all sequences, [T].
  public let ids: [Int32]
  /// What each row must predict, [T]; `untrained` where nothing is trained. See `NextToken`.
  public let targets: [Int32]
  /// Position inside its own sequence, [T].
  public let positions: [Int32]
  /// Start of each sequence and the end of the last, [sequences + 1].
  public let segments: [Int32]

  /// Packs sequences; `labels` are aligned with `ids` (as in transformers, the model shifts by one) and default to
  /// the ids themselves. A label of -100 is not trained.
  /// - Throws: `ModelError.emptyInput` for no sequences, an empty one, or labels of another length.
  public init(_ sequences: [(ids: [Int32], labels: [Int32]?)]) throws {
    var ids: [Int32] = []
    var targets: [Int32] = []
    var positions: [Int32] = []
    var segments: [Int32] = [0]
    guard !sequences.isEmpty else { throw ModelError.emptyInput(operation: "batch") }
    for sequence in sequences {
      let labels = sequence.labels ?? sequence.ids
      guard !sequence.ids.isEmpty, labels.count == sequence.ids.count else {
        throw ModelError.emptyInput(operation: "batch")
      }
      ids += sequence.ids
      targets += NextToken.targets(labels)
      positions += (0..<Int32(sequence.ids.count))
      segments.append(Int32(ids.count))
    }
    self.ids = ids
    self.targets = targets
    self.positions = positions
    self.segments = segments
  }

  init(ids: [Int32], targets: [Int32], positions: [Int32], segments: [Int32]) {
    (self.ids, self.targets, self.positions, self.segments) = (ids, targets, positions, segments)
  }

  /// Tokens of all sequences.
  public var tokenCount: Int { ids.count }
  /// Targets that count in the loss.
  public var trainedTokenCount: Int { targets.reduce(0) { $0 + ($1 >= 0 ? 1 : 0) } }
  /// Tokens of each sequence.
  public var lengths: [Int] { zip(segments, segments.dropFirst()).map { Int($1 - $0) } }
  /// Tokens of the longest sequence.
  public var longestSequence: Int { lengths.max() ?? 0 }

  /// `positions`, counted in each sequence from a number of its own.
  func positions(from starts: [Int]) -> [Int32] {
    var moved = positions
    for (sequence, start) in starts.enumerated() where start != 0 {
      for row in segments[sequence]..<segments[sequence + 1] { moved[Int(row)] += Int32(start) }
    }
    return moved
  }
}

/// Which position predicts which: position i predicts token i + 1 of its own sequence. So the first token of a sequence
/// is never a target, and its last position has none. The one place where this is said.
public enum NextToken {
  /// The label of what is not trained, as in PyTorch and transformers.
  public static let untrained: Int32 = -100

  /// What each position predicts, from labels aligned with the tokens.
  static func targets(_ labels: [Int32]) -> [Int32] { labels.dropFirst() + [untrained] }

  /// Targets among the trained tokens of a sequence.
  static func targetCount(trained ranges: some Sequence<Range<Int32>>, of length: Int32) -> Int {
    ranges.reduce(0) { $0 + $1.clamped(to: min(1, length)..<length).count }
  }
}
