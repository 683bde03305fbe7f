import Tensors

/// A prompt that grows token by token.
final class Continuation {
  private let model: LanguageModel
  private let prompt: [Int32]
  private let options: GenerationOptions
  private let stops: Set<Int32>
  /// Most new tokens.
  private let room: Int
  private var sampler: Sampler
  private(set) var generated: [Int32] = []
  /// Whether another token is to come.
  private(set) var isOpen: Bool
  /// Whether it ended for want of room.
  private(set) var isFull: Bool

  /// - Throws: `TensorError.badValue` for a number of the options that is out of its range; `ModelError.tooLong` when
  ///   the prompt leaves no position for a new token; `.headerOnly`.
  init(_ prompt: [Int32], _ options: GenerationOptions, of model: LanguageModel) throws {
    guard model.isLoaded else { throw ModelError.headerOnly(operation: "generate") }
    let spec = model.spec
    let ends =
      options.ignoresEndOfSequence ? [] : spec.eosTokenIDs.map { Int32($0) } + [model.turnEnd].compactMap { $0 }
    stops = options.stopTokens.union(ends)
    try (0 ... .max).require(options.maxTokens, "max_new_tokens", operation: "generate")
    if let limit = options.vocabularyLimit { try (1 ... .max).require(limit, "vocabularyLimit", operation: "generate") }
    guard options.maxTokens <= 0 || prompt.count < spec.positionLimit else {
      throw ModelError.tooLong(tokens: prompt.count + 1, limit: spec.positionLimit)
    }
    room = max(0, min(options.maxTokens, spec.positionLimit - prompt.count))
    sampler = try Sampler(options.sampling)
    (isOpen, isFull) = (room > 0, room == 0)
    (self.prompt, self.options, self.model) = (prompt, options, model)
  }

  /// A cache for all that may come, or `kept`, which has the beginning.
  func cache(in kept: KeptCache?) throws -> KeyValueCache {
    let capacity = prompt.count + room
    return try kept?.resume(prompt, capacity: capacity, model) ?? KeyValueCache(model, capacity: capacity)
  }

  /// The tokens that a cache lacks which holds the first `count`.
  func pending(after count: Int) -> [Int32] {
    count < prompt.count ? Array(prompt[count...]) + generated : Array(generated[(count - prompt.count)...])
  }

  /// Draws the next token from the logits behind the last.
  /// - Throws: what `onToken` throws.
  func take(_ logits: UnsafeBufferPointer<Float>) throws {
    let token = Int32(try sampler.next(.init(rebasing: logits.prefix(options.vocabularyLimit ?? logits.count))))
    guard !stops.contains(token) else { return isOpen = false }
    generated.append(token)
    isFull = generated.count == room
    let goesOn = try options.onToken?(token) ?? true
    isOpen = goesOn && !isFull
  }
}
