import Formats

/// Text to token ids and back, exactly as the tokenizers library does it with the same tokenizer.json.
///
/// Tokenizers of other origins (GGUF, sentencepiece, training) are first described as a tokenizer.json.
public final class Tokenizer: Sendable {
  /// The tokenizer.json that this tokenizer was made from.
  let description: JSON
  let settings: TokenizerSettings
  private let normalizer: Normalizer?
  private let preTokenizer: PreTokenizer?
  private let model: BPE
  private let decoder: Decoder?
  private let postProcessor: PostProcessor
  /// Matched in the text as it is, and in the normalized text.
  private let rawTokens: AddedTokenMatcher
  private let normalizedTokens: AddedTokenMatcher
  private let spellings: [String?]
  private let specialIDs: Set<Int32>
  private let ids: [UTF8Key: Int32]

  /// - Parameters:
  ///   - description: a tokenizer.json.
  ///   - settings: roles of tokens and the chat template.
  ///   - file: named in errors only.
  ///   - ranks: the rank of each merge where it is not the merge's position.
  /// - Throws: `TokenizerError` naming the field.
  init(description: JSON, settings: TokenizerSettings, file: String, ranks: [Int32]? = nil) throws {
    self.description = description
    let fields = Fields(file: file, place: "", json: description)
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
    for token in try ModelReader.addedTokens(fields) {
      ids[UTF8Key(token.content)] = token.id
      while spellings.count <= Int(token.id) { spellings.append(nil) }
      if token.special { special.insert(token.id) }
      let bytes = Array(token.content.utf8)
      let spelling = token.normalized ? try normalizer?.apply(bytes) ?? bytes : bytes
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
    self.ids = ids
    self.spellings = spellings
    specialIDs = special
    rawTokens = raw
    normalizedTokens = normalized
    self.settings = settings
  }

  /// The ids of a text.
  /// - Parameters:
  ///   - text: less than 2^29 bytes of UTF-8.
  ///   - special: whether to add the tokens that the model expects around a text (BOS, EOS).
  ///   - literal: whether special tokens spelled in the text stay text.
  ///   - continues: whether the text goes on after earlier text, so that a Prepend normalizer and a Metaspace of scheme
  ///     `first` add no leading space. ByteLevel with `add_prefix_space` and Metaspace of scheme `always` still do.
  /// - Returns: ids from 0 to `vocabularySize` - 1.
  /// - Throws: `TokenizerError.tooLong`; `TokenizerError.regexMatch` where a pattern of the tokenizer fails.
  public func encode(
    _ text: String, special: Bool = true, literal: Bool = false, continues: Bool = false
  ) throws -> [Int32] {
    let bytes = Array(text.utf8)
    guard bytes.count < 1 << 29 else { throw TokenizerError.tooLong(bytes: bytes.count) }
    var out = special ? postProcessor.before : []
    var known: [[UInt8]: [Int32]] = [:]
    try rawTokens.forEachPart(bytes, literal: literal) { id, range in
      if let id {
        out.append(id)
        return
      }
      let part = Array(bytes[range])
      let normalized = try normalizer?.apply(part, continues: continues) ?? part
      try normalizedTokens.forEachPart(normalized, literal: literal) { id, inner in
        if let id {
          out.append(id)
          return
        }
        let first = range.lowerBound == 0 && inner.lowerBound == 0 && !continues
        let piece = Piece(bytes: inner.count == normalized.count ? normalized : Array(normalized[inner]), first: first)
        for word in try preTokenizer?.apply([piece]) ?? [piece] {
          if let ids = known[word.bytes] {
            out += ids
          } else {
            let ids = model.encode(word.bytes)
            out += ids
            // Long words hardly recur and would only fill the memory.
            if word.bytes.count <= 64 { known[word.bytes] = ids }
          }
        }
      }
    }
    return special ? out + postProcessor.after : out
  }

  /// The text of ids. Bytes that are not UTF-8 become U+FFFD.
  /// - Parameters:
  ///   - ids: an id without a token leaves no trace.
  ///   - skipSpecial: whether special tokens leave no trace.
  /// - Returns: the tokens as the decoder joins them, with spaces between them where the tokenizer has no decoder.
  /// - Throws: `TokenizerError.idOutOfRange` for an id outside 0..<`vocabularySize`; `TokenizerError.regexMatch`.
  public func decode(_ ids: [Int32], skipSpecial: Bool = false) throws -> String {
    var tokens: [[UInt8]] = []
    tokens.reserveCapacity(ids.count)
    for id in ids {
      guard id >= 0, Int(id) < spellings.count else {
        throw TokenizerError.idOutOfRange(id: id, vocabulary: spellings.count)
      }
      guard let spelling = spellings[Int(id)], !(skipSpecial && specialIDs.contains(id)) else { continue }
      tokens.append(Array(spelling.utf8))
    }
    guard let decoder else { return String(decoding: Array(tokens.joined(separator: [0x20])), as: UTF8.self) }
    return String(decoding: Array(try decoder.apply(tokens).joined()), as: UTF8.self)
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
}
