import Formats

/// Text to token ids and back, exactly as the tokenizers library does it with the same tokenizer.json.
///
/// Tokenizers of other origins (GGUF, sentencepiece, training) are first described as a tokenizer.json.
public final class Tokenizer: Sendable {
  /// The tokenizer.json that this tokenizer was made from.
  let description: JSON
  let settings: TokenizerSettings
  let normalizer: Normalizer?
  let preTokenizer: PreTokenizer?
  let model: BPE
  let decoder: Decoder?
  let postProcessor: PostProcessor
  /// Matched in the text as it is, and in the normalized text.
  let rawTokens: AddedTokenMatcher
  let normalizedTokens: AddedTokenMatcher
  let spellings: [String?]
  let specialIDs: Set<Int32>
  let ids: [UTF8Key: Int32]

  /// - Parameters:
  ///   - description: a tokenizer.json.
  ///   - settings: roles of tokens, tokens added beside the file and the chat template.
  ///   - file: named in errors only.
  ///   - ranks: the rank of each merge where it is not the merge's position.
  /// - Throws: `TokenizerError` naming the field.
  init(description: JSON, settings: TokenizerSettings, file: String, ranks: [Int32]? = nil) throws {
    let fields = Fields(file: file, place: "", json: description)
    try fields.allow(TokenizerKeys.file)
    guard let model = try fields.optional("model") else {
      throw TokenizerError.missingField(file: file, field: "model")
    }
    let parsed = try ModelReader(model, ranks: ranks)
    self.model = parsed.model
    normalizer = try fields.optional("normalizer").map { try Normalizer($0) }
    preTokenizer = try fields.optional("pre_tokenizer").map { try PreTokenizer($0) }
    decoder = try fields.optional("decoder").map { try Decoder($0) }
    postProcessor = try fields.optional("post_processor").map { try PostProcessor($0) } ?? PostProcessor()
    var ids = parsed.model.vocabulary
    var spellings = parsed.spellings
    var special: Set<Int32> = []
    var raw = AddedTokenMatcher(), normalized = AddedTokenMatcher()
    let tokens = try settings.completed(try ModelReader.addedTokens(fields), vocabulary: ids)
    for token in tokens {
      ids[UTF8Key(token.content)] = token.id
      while spellings.count <= Int(token.id) { spellings.append(nil) }
      if token.special { special.insert(token.id) }
      let bytes = Array(token.content.utf8)
      let whole = Piece(bytes: bytes, place: .textStart)
      let spelling = token.normalized ? try normalizer?.apply(whole).bytes ?? bytes : bytes
      // Since tokenizers 0.23 such tokens are also spelled normalized when decoding.
      spellings[Int(token.id)] = String(decoding: spelling, as: UTF8.self)
      if token.normalized {
        normalized.insert(token, spelling: spelling)
      } else {
        raw.insert(token, spelling: bytes)
      }
    }
    for id in postProcessor.before + postProcessor.after where Int(id) >= spellings.count {
      throw TokenizerError.badField(
        file: file, field: "post_processor.special_tokens", value: "\(id)", expected: "ids below \(spellings.count)")
    }
    var completed = description.object
    if !tokens.isEmpty { completed?["added_tokens"] = .array(tokens.map(\.json)) }
    self.description = completed.map { .object($0) } ?? description
    self.ids = ids
    self.spellings = spellings
    specialIDs = special
    rawTokens = raw
    normalizedTokens = normalized
    self.settings = settings
  }

  private init(_ other: Tokenizer, _ settings: TokenizerSettings) {
    (description, self.settings, ids) = (other.description, settings, other.ids)
    (normalizer, preTokenizer, model) = (other.normalizer, other.preTokenizer, other.model)
    (decoder, postProcessor) = (other.decoder, other.postProcessor)
    (rawTokens, normalizedTokens) = (other.rawTokens, other.normalizedTokens)
    (spellings, specialIDs) = (other.spellings, other.specialIDs)
  }

  /// The same tokenizer with another chat template, in the place of all that it has.
  package func with(chatTemplate: String) -> Tokenizer {
    var changed = settings
    (changed.chatTemplate, changed.namedTemplates) = (chatTemplate, [:])
    return Tokenizer(self, changed)
  }

  /// One more than the largest id.
  public var vocabularySize: Int { spellings.count }

  /// The spelling of a token in the vocabulary (bytes in GPT-2's letters, spaces as `▁`); nil for no such id.
  public func token(_ id: Int32) -> String? { id >= 0 && Int(id) < spellings.count ? spellings[Int(id)] : nil }

  /// The id of a token by its spelling in the vocabulary.
  public func id(of token: String) -> Int32? { ids[UTF8Key(token)] }

  /// The id of the token that begins a text; nil without one.
  public var bos: Int32? { settings.bos.flatMap { id(of: $0) } }
  /// The id of the token that ends a text; nil without one.
  public var eos: Int32? { settings.eos.flatMap { id(of: $0) } }
  /// The id of the token that fills up a batch; nil without one.
  public var pad: Int32? { settings.pad.flatMap { id(of: $0) } }
  /// The id of the token for what the vocabulary cannot spell; nil without one.
  public var unknown: Int32? { settings.unknown.flatMap { id(of: $0) } }

  /// Jinja source of the chat template.
  public var chatTemplate: String? { settings.chatTemplate }
  /// Jinja sources of the templates beside it, by name, such as `tool_use`.
  public var namedChatTemplates: [String: String] { settings.namedTemplates }
  /// The texts of the special tokens by role, as chat templates know them: `bos_token`, `eos_token`.
  public var specialTexts: [String: String] { settings.specialTexts }
}
