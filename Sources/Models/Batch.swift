/// Sequences laid end to end without padding; attention sees each on its own.
public struct Batch: Sendable {
  /// Token ids of all sequences, [T].
  public let ids: [Int32]
  /// What each row must predict: the label of the next token of the same sequence, -100 where nothing is trained.
  public let targets: [Int32]
  /// Position inside its own sequence, [T].
  public let positions: [Int32]
  /// Start of each sequence and the end of the last.
  public let segments: [Int32]

  /// Packs sequences; `labels` are aligned with `ids` (as in transformers, the model shifts by one) and default to
  /// the ids themselves. A label of -100 is not trained.
  /// - Throws: `emptyInput` for no sequences, an empty one, or labels of another length.
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
      targets += labels.dropFirst()
      targets.append(-100)
      positions += (0..<Int32(sequence.ids.count))
      segments.append(Int32(ids.count))
    }
    self.ids = ids
    self.targets = targets
    self.positions = positions
    self.segments = segments
  }

  public var tokenCount: Int { ids.count }
  public var trainedTokenCount: Int { targets.reduce(0) { $0 + ($1 >= 0 ? 1 : 0) } }
  public var longestSequence: Int { zip(segments, segments.dropFirst()).map { Int($1 - $0) }.max() ?? 0 }
}
