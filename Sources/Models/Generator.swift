import Tensors

/// Texts of one model that grow together: each step continues all of them in one pass over the weights. A text may be
/// added, and taken away, between any two steps (continuous batching, Yu et al. 2022).
package final class Generator {
  /// A text of a generator.
  package final class Sequence {
    fileprivate let continuation: Continuation
    fileprivate let writer: TextWriter
    /// Empty at first, and grown with the text; nil once it has ended.
    fileprivate var cache: KeyValueCache?
    /// The text, when it has ended.
    package fileprivate(set) var text: String?
    /// Why it ended early: memory that its cache did not get, say.
    package fileprivate(set) var problem: (any Error)?
    /// Tokens of the prompt.
    package let readCount: Int

    fileprivate init(_ prompt: [Int32], _ options: GenerationOptions, of model: LanguageModel) throws {
      writer = try TextWriter(prompt, options, of: model)
      continuation = try Continuation(prompt, writer.options, of: model)
      cache = try KeyValueCache(model, capacity: min(prompt.count, Generator.promptChunk))
      readCount = prompt.count
    }

    /// Tokens of the text.
    package var writtenCount: Int { continuation.generated.count }
    /// Whether more is to come.
    package var isOpen: Bool { cache != nil }
    /// Whether it ended for want of room: by `maxTokens`, or at the model's last position.
    package var isFull: Bool { continuation.isFull }

    /// Ends it as it is. Its place is free at once.
    package func stop() throws {
      guard cache != nil else { return }
      cache = nil
      text = try writer.finish(continuation.generated)
    }
  }

  /// Tokens of prompts in one pass: the others wait no longer than that for a newcomer's long prompt.
  package static let promptChunk = 256

  private let model: LanguageModel
  private var open: [Sequence] = []
  private var adapters: AdaptersInUse

  /// One without texts.
  package init(_ model: LanguageModel) {
    self.model = model
    adapters = AdaptersInUse(model)
  }

  /// Texts that are not at their end.
  package var count: Int {
    open.removeAll { !$0.isOpen }
    return open.count
  }

  /// Adds a text, which the next step continues. `options.cache` is not used.
  /// - Throws: as `LanguageModel.generateText`; `ModelError.otherAdapters` while texts under other adapters are open.
  package func add(_ prompt: [Int32], _ options: GenerationOptions) throws -> Sequence {
    guard !prompt.isEmpty else { throw ModelError.emptyInput(operation: "generate") }
    try model.check(prompt)
    if count == 0 { adapters = AdaptersInUse(model) }
    try requireSameAdapters()
    let new = try Sequence(prompt, options, of: model)
    if new.continuation.isOpen { open.append(new) } else { try new.stop() }
    return new
  }

  /// One pass for all: each text gets a token, a newcomer some of its prompt. Returns at once where none is open.
  /// - Throws: `ModelError.otherAdapters`; what a pass throws, which ends all texts; what `onToken` or `onText` throws,
  ///   which ends the one. It is their `problem` then.
  package func step() throws {
    guard count > 0 else { return }
    try requireSameAdapters()
    var raised: (any Error)?
    do {
      let taken = parts()
      guard !taken.isEmpty else { return }
      let logits = try model.step(taken.map { ($0.new, $0.cache) })
      for (row, part) in taken.enumerated() where part.isWhole {
        do { try advance(part.sequence, logits, row) } catch {
          (part.sequence.problem, part.sequence.cache) = (error, nil)
          raised = raised ?? error
        }
      }
    } catch {
      for sequence in open where sequence.isOpen { (sequence.problem, sequence.cache) = (error, nil) }
      throw error
    }
    if let raised { throw raised }
  }

  private typealias Part = (sequence: Sequence, cache: KeyValueCache, new: [Int32], isWhole: Bool)

  /// What each text brings to the next pass. A text whose cache cannot grow ends here, the others go on.
  private func parts() -> [Part] {
    var room = Self.promptChunk
    return open.compactMap { sequence -> Part? in
      guard let cache = sequence.cache else { return nil }
      let pending = sequence.continuation.pending(after: cache.length)
      let new = pending.count == 1 ? pending : Array(pending.prefix(room))
      guard !new.isEmpty else { return nil }
      if pending.count > 1 { room -= new.count }
      do { try cache.reserve(cache.length + new.count) } catch {
        (sequence.problem, sequence.cache) = (error, nil)
        return nil
      }
      return (sequence, cache, new, new.count == pending.count)
    }
  }

  private func advance(_ sequence: Sequence, _ logits: Tensor, _ row: Int) throws {
    try logits.narrowed(0, row..<row + 1).withHostBytes {
      try sequence.continuation.take($0.bindMemory(to: Float.self))
    }
    if !sequence.continuation.isOpen { try sequence.stop() }
  }

  private func requireSameAdapters() throws {
    guard AdaptersInUse(model).isSame(as: adapters) else { throw ModelError.otherAdapters(texts: open.count) }
  }
}
