import Tokenizers

/// Makes the text of a prompt's continuation while its tokens come.
final class TextWriter {
  /// Those for the tokens, which come to the writer first.
  private(set) var options: GenerationOptions
  private let prompt: [Int32]
  private let tokenizer: Tokenizer
  private var pieces: TextPieces

  /// - Throws: `ModelError.headerOnly`, `.noTokenizer`; `TokenizerError` where the prompt cannot be decoded.
  init(_ prompt: [Int32], _ given: GenerationOptions, of model: LanguageModel) throws {
    guard model.isLoaded else { throw ModelError.headerOnly(operation: "generate") }
    guard let tokenizer = model.tokenizer else { throw ModelError.noTokenizer(path: model.path) }
    (self.prompt, self.tokenizer, options) = (prompt, tokenizer, given)
    pieces = TextPieces(stops: given.stopTexts)
    options.vocabularyLimit = min(given.vocabularyLimit ?? .max, tokenizer.vocabularySize)
    guard !given.stopTexts.isEmpty || given.onText != nil else { return }
    var grown = try GrowingText(after: prompt, tokenizer)
    options.onToken = { [unowned self] token in
      if let onToken = given.onToken, try !onToken(token) { return false }
      try grown.append(token)
      if grown.contains(given.stopTexts) { return false }
      guard let onText = given.onText, let piece = pieces.next(of: grown.text) else { return true }
      return try onText(piece)
    }
  }

  /// The text of all new tokens; the rest of it is told.
  func finish(_ ids: [Int32]) throws -> String {
    let (kept, text) = try tokenizer.joined(prompt, ids)
    let stops = options.stopTexts.compactMap { text.utf8.firstRange(of: $0.utf8)?.lowerBound }
    let end = stops.min().map { String(text[..<$0]) } ?? text
    if let onText = options.onText, let piece = pieces.rest(of: end) { _ = try onText(piece) }
    return options.echoes ? kept + end : end
  }
}
