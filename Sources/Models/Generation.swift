import Glibc
import Tensors
import Tokenizers

extension Double {
  static func exponential(_ x: Double) -> Double { exp(x) }
}

/// When generation stops and what it tells on the way.
public struct GenerationOptions {
  /// Most new tokens, at least 0.
  public var maxTokens: Int
  /// How a token is drawn.
  public var sampling: SamplingOptions
  /// Token ids that end the text, besides the model's own end-of-sequence ids.
  public var stopTokens: Set<Int32>
  /// Texts of which the first to appear ends the text of `generateText`, which does not hold it.
  public var stopTexts: [String] = []
  /// Called by `generateText` with each new piece of text, in whole characters and without what may be the beginning of
  /// a stop text; the pieces make the new text. Returning false ends it.
  public var onText: ((String) throws -> Bool)?
  /// Keeps keys and values for the next call; nil for none.
  public var cache: KeptCache?
  /// Whether the text of `generateText` begins with that of the prompt.
  public var echoes = false
  /// Ids from here on are never drawn, at least 1; a model may have more rows than its tokenizer has tokens. nil limits
  /// nothing.
  public var vocabularyLimit: Int?
  /// Go on after an end-of-sequence token of the model, as if it were any other.
  public var ignoresEndOfSequence: Bool
  /// Called with each new token; returning false ends generation.
  public var onToken: ((Int32) throws -> Bool)?

  /// Greedy and at most 128 tokens unless said otherwise.
  /// - Parameters:
  ///   - maxTokens: most new tokens.
  ///   - sampling: how a token is drawn.
  ///   - stopTokens: ids that end the text besides the model's own.
  ///   - vocabularyLimit: ids from here on are never drawn.
  ///   - ignoresEndOfSequence: goes on after the model's end-of-sequence tokens, but not after `stopTokens`.
  ///   - onToken: called with each new token; false ends generation, and what it throws `generate` throws.
  public init(
    maxTokens: Int = 128, sampling: SamplingOptions = SamplingOptions(), stopTokens: Set<Int32> = [],
    vocabularyLimit: Int? = nil, ignoresEndOfSequence: Bool = false, onToken: ((Int32) throws -> Bool)? = nil
  ) {
    self.maxTokens = maxTokens
    self.sampling = sampling
    self.stopTokens = stopTokens
    self.vocabularyLimit = vocabularyLimit
    self.ignoresEndOfSequence = ignoresEndOfSequence
    self.onToken = onToken
  }
}

extension LanguageModel {
  /// Continues `prompt` token by token with a key-value cache.
  /// - Returns: the new ids; a stop token is not among them. Ends early at the model's last position.
  /// - Throws: `TensorError.badValue` for a number of the options that is out of its range; `ModelError.tooLong` when
  ///   the prompt leaves no position for a new token; `.headerOnly`, `.emptyInput`, `.tokenOutOfRange`;
  ///   `.unreadableWeights` when streamed; `.badReplacement`, `.recursiveHook` and what a hook throws;
  ///   `.badAdapterOutput` and what an adapter's method throws; what `onToken` throws; `TensorError.outOfMemory`, and
  ///   `.noThread` when streaming starts.
  public func generate(_ prompt: [Int32], _ options: GenerationOptions) throws -> [Int32] {
    let continuation = try Continuation(prompt, options, of: self)
    let cache = try continuation.cache(in: options.cache)
    while continuation.isOpen {
      let logits = try step(continuation.pending(after: cache.length), cache: cache)
      try logits.withHostBytes { try continuation.take($0.bindMemory(to: Float.self)) }
    }
    return continuation.generated
  }

  /// Continues `prompt` and returns the new text, without `options.stopTexts` and what follows. Prompt and new ids are
  /// decoded together, so that the text of the prompt and the new text make the text of all ids. Tokens outside the
  /// tokenizer's vocabulary are never drawn.
  /// - Throws: as `generate`; `ModelError.noTokenizer`; `TokenizerError` where the ids cannot be decoded.
  public func generateText(_ prompt: [Int32], _ options: GenerationOptions) throws -> String {
    let writer = try TextWriter(prompt, options, of: self)
    return try writer.finish(try generate(prompt, writer.options))
  }

  /// Continues a text, which is encoded as the model expects it; greedy unless `options` say otherwise.
  /// - Throws: `ModelError.noTokenizer`; `TokenizerError.tooLong` and `.regexMatch` for the prompt; as
  ///   `generateText(_:_:)` for ids.
  public func generateText(_ prompt: String, _ options: GenerationOptions = GenerationOptions()) throws -> String {
    guard let tokenizer else { throw ModelError.noTokenizer(path: path) }
    return try generateText(try tokenizer.encode(prompt), options)
  }
}
