import Tensors
import Tokenizers

/// Tokenized training samples: ids packed in blocks of the backend, four bytes a token and on its books, and of each
/// sample the ranges of tokens that are trained. Samples are numbered from 0.
public final class Samples {
  /// Where a sample lies: its tokens in a block, its ranges in `ranges`.
  private struct Entry {
    var block: Int32
    var first: Int32
    var count: Int32
    /// Tokens that a limit on the length cut off.
    var dropped: Int32
    var firstRange: Int32
    var rangeCount: Int32
  }

  private let backend: any Backend
  let tokenizer: Tokenizer?
  /// i32 each; later ones are larger, up to a MiB, unless a sample is.
  private var blocks: [Tensor] = []
  private var free: Range<Int32> = 0..<0
  private var ranges: [Range<Int32>] = []
  private var entries: [Entry] = []
  /// What `contentHash` gave, and for how many samples.
  var knownHash: (count: Int, text: String)?

  /// No samples yet; their ids will lie in memory of `backend`.
  /// - Parameters:
  ///   - backend: holds the ids.
  ///   - tokenizer: for `append(prompt:answer:)`.
  public init(on backend: any Backend, tokenizer: Tokenizer? = nil) {
    self.backend = backend
    self.tokenizer = tokenizer
  }

  /// No samples yet, to be made with the tokenizer of a model.
  public convenience init(for model: LanguageModel) {
    self.init(on: model.backend, tokenizer: model.tokenizer)
  }

  /// Number of samples.
  public var count: Int { entries.count }
  /// Numbers of the samples, 0..<`count`.
  public var indices: Range<Int> { 0..<count }
  /// Bytes of the blocks of ids, which selections of the same samples share.
  public var byteCount: Int { blocks.reduce(0) { $0 + $1.byteCount } }

  /// Adds a sample, unless none of its targets is trained: then nothing is added and 0 returned.
  /// - Parameters:
  ///   - ids: the tokens. Their range is not checked here but by `LanguageModel.loss`.
  ///   - trained: ranges of positions in `ids`, ascending and disjoint; what lies outside is ignored.
  ///   - dropped: tokens that a limit on the length cut off.
  /// - Returns: its trained targets. The first token is never a target (`NextToken`).
  /// - Throws: `ModelError.overlappingRanges`, `TensorError.outOfMemory`.
  public func append(_ ids: [Int32], trained: [Range<Int>], dropped: Int = 0) throws -> Int {
    for (first, second) in zip(trained, trained.dropFirst()) where second.lowerBound < first.upperBound {
      throw ModelError.overlappingRanges(first: first, second: second)
    }
    let length = Int32(ids.count)
    let own = trained.map { $0.clamped(to: ids.indices) }.filter { !$0.isEmpty }.map {
      Int32($0.lowerBound)..<Int32($0.upperBound)
    }
    let targets = NextToken.targetCount(trained: own, of: length)
    guard targets > 0 else { return 0 }
    try reserve(length)
    let block = blocks[blocks.count - 1]
    try backend.copy(
      try Tensor(ids: ids, category: .workspace, on: backend),
      into: try block.narrowed(0, Int(free.lowerBound)..<Int(free.lowerBound + length)))
    entries.append(
      Entry(
        block: Int32(blocks.count - 1), first: free.lowerBound, count: length, dropped: Int32(clamping: dropped),
        firstRange: Int32(ranges.count), rangeCount: Int32(own.count)))
    ranges += own
    free = free.lowerBound + length..<free.upperBound
    return targets
  }

  private func reserve(_ length: Int32) throws {
    guard free.count < length else { return }
    let size = max(4096 << min(6, blocks.count), Int(length))
    blocks.append(try Tensor(empty: [size], dtype: .i32, category: .samples, on: backend))
    free = 0..<Int32(size)
  }

  private func entry(_ number: Int) throws -> Entry {
    guard indices.contains(number) else { throw ModelError.noSuchSample(number: number, count: count) }
    return entries[number]
  }

  private func trained(_ entry: Entry) -> ArraySlice<Range<Int32>> {
    ranges[Int(entry.firstRange)..<Int(entry.firstRange + entry.rangeCount)]
  }

  /// The tokens of a sample.
  /// - Throws: `ModelError.noSuchSample`.
  public func ids(_ number: Int) throws -> [Int32] {
    let entry = try entry(number)
    let view = try blocks[Int(entry.block)].narrowed(0, Int(entry.first)..<Int(entry.first + entry.count))
    return try view.withHostBytes { Array($0.bindMemory(to: Int32.self)) }
  }

  /// The tokens of a sample where they are trained, `NextToken.untrained` elsewhere; aligned with `ids`, not shifted.
  /// - Throws: `ModelError.noSuchSample`.
  public func labels(_ number: Int) throws -> [Int32] {
    let ids = try ids(number)
    var labels = [Int32](repeating: NextToken.untrained, count: ids.count)
    for range in trained(try entry(number)) {
      for position in range { labels[Int(position)] = ids[Int(position)] }
    }
    return labels
  }

  /// Tokens of a sample.
  /// - Throws: `ModelError.noSuchSample`.
  public func length(_ number: Int) throws -> Int { Int(try entry(number).count) }

  /// Tokens of each sample.
  public var lengths: [Int] { entries.map { Int($0.count) } }

  /// The first sample with a token that a vocabulary of `size` tokens lacks, and that token; nil when it has all.
  public func outside(vocabulary size: Int) throws -> (number: Int, id: Int)? {
    for number in indices {
      if let id = try ids(number).first(where: { !(0..<size).contains(Int($0)) }) { return (number, Int(id)) }
    }
    return nil
  }

  /// Targets of a sample that count in the loss.
  /// - Throws: `ModelError.noSuchSample`.
  public func trainedTargets(_ number: Int) throws -> Int { targets(try entry(number)) }

  private func targets(_ entry: Entry) -> Int { NextToken.targetCount(trained: trained(entry), of: entry.count) }

  /// What the samples are in all.
  public struct Statistics: Sendable, Equatable {
    /// Tokens, trained or not.
    public var tokens = 0
    /// Targets that count in the loss.
    public var trained = 0
    /// Tokens of the longest sample; 0 without samples.
    public var longest = 0
    /// Samples that a limit on the length cut.
    public var truncated = 0
  }

  /// Sums over all samples, computed anew at each call.
  public var statistics: Statistics {
    entries.reduce(into: Statistics()) { sum, entry in
      sum.tokens += Int(entry.count)
      sum.trained += targets(entry)
      sum.longest = max(sum.longest, Int(entry.count))
      sum.truncated += entry.dropped > 0 ? 1 : 0
    }
  }

  /// The samples of these numbers, in their order; the tokens are shared. A number may occur twice.
  /// - Throws: `ModelError.noSuchSample`.
  public func selecting(_ numbers: [Int]) throws -> Samples {
    let chosen = Samples(on: backend, tokenizer: tokenizer)
    chosen.blocks = blocks
    chosen.ranges = ranges
    chosen.entries = try numbers.map(entry)
    return chosen
  }

  /// All tokens as one stream cut into samples of `length`, every token trained once. The last sample holds the rest. A
  /// rest of one token is left out, since it would have nothing to predict.
  /// - Parameters:
  ///   - length: the tokens of a sample.
  ///   - stride: the tokens from the start of a sample to that of the next, at most `length`; nil for `length`. What a
  ///     sample repeats of the one before is context, as in the perplexity of Hugging Face's documentation.
  /// - Returns: the new samples, which share nothing with these.
  /// - Throws: `TensorError.badValue` for a length below 2 or a stride outside 1...length; `TensorError.outOfMemory`.
  public func windows(_ length: Int, stride: Int? = nil) throws -> Samples {
    try (2 ... .max).require(length, "length", operation: "windows")
    let stride = stride ?? length
    try (1...length).require(stride, "stride", operation: "windows")
    let cut = Samples(on: backend, tokenizer: tokenizer)
    var window: [Int32] = []
    var context = 0
    for number in indices {
      for id in try ids(number) {
        window.append(id)
        guard window.count == length else { continue }
        _ = try cut.append(window, trained: [context..<length])
        window.removeFirst(stride)
        context = length - stride
      }
    }
    if window.count > context { _ = try cut.append(window, trained: [context..<window.count]) }
    return cut
  }

  // MARK: Batches

  /// The samples of these numbers as one batch.
  /// - Throws: `ModelError.noSuchSample`; `ModelError.emptyInput` for no numbers.
  public func batch(_ numbers: some Sequence<Int>) throws -> Batch {
    try Batch(try numbers.map { (ids: try ids($0), labels: try labels($0)) })
  }

  /// A step over the samples of these numbers in parts of at most `size`. Their losses add up to the mean over the
  /// trained targets of the step, however it is cut.
  /// - Parameters:
  ///   - numbers: the samples of the step, in this order.
  ///   - size: most samples in a part, at least 1.
  ///   - step: counted from 1; with the number of the part it keys the dropout masks.
  /// - Returns: the parts, ceil(numbers / size) of them; none for no numbers.
  /// - Throws: `ModelError.noSuchSample`; `TensorError.badValue` for a size below 1 or a step outside 0..<2^32.
  public func microBatches(_ numbers: some Collection<Int>, size: Int, step: Int) throws -> [MicroBatch] {
    try (1 ... .max).require(size, "size", operation: "micro_batches")
    let numbers = Array(numbers)
    let denominator = try numbers.reduce(0) { $0 + (try trainedTargets($1)) }
    return try stride(from: 0, to: numbers.count, by: min(size, max(1, numbers.count))).enumerated().map {
      position, start in
      MicroBatch(
        try batch(numbers[start..<start + min(size, numbers.count - start)]), denominator: denominator,
        masks: try MaskNumber(step: step, microBatch: position + 1))
    }
  }
}
