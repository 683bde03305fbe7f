/// Text to ids.
extension Tokenizer {
  /// The ids of a text.
  /// - Parameters:
  ///   - text: less than 2^29 bytes of UTF-8.
  ///   - special: whether to add the tokens that the model expects around a text (BOS, EOS).
  ///   - literal: whether special tokens spelled in the text stay text.
  ///   - continues: whether the text goes on after earlier text, so that no space is put before it. What follows a special
  ///     token inside the text is encoded as in a whole text.
  /// - Returns: ids from 0 to `vocabularySize` - 1.
  /// - Throws: `TokenizerError.tooLong`; `TokenizerError.regexMatch` where a pattern of the tokenizer fails;
  ///   `TokenizerError.grows`.
  public func encode(
    _ text: String, special: Bool = true, literal: Bool = false, continues: Bool = false
  ) throws -> [Int32] {
    var found = TokenList(isTraced: false)
    if special { found.ids = postProcessor.before }
    try encode(Array(text.utf8), literal: literal, place: continues ? .continuedStart : .textStart, into: &found)
    return special ? found.ids + postProcessor.after : found.ids
  }

  /// The ids of texts that follow one another: those of the one text that they make.
  /// - Parameters:
  ///   - parts: together less than 2^29 bytes of UTF-8.
  ///   - literal: whether special tokens spelled in the texts stay text.
  /// - Returns: the ids, without those around a text, and for each part the range of the ids that stand for a piece of it.
  ///   An id that stands for the end of a part and the beginning of the next is in the ranges of both.
  /// - Throws: as `encode(_:)`.
  public func encode(parts: [String], literal: Bool = false) throws -> (ids: [Int32], ranges: [Range<Int>]) {
    var bytes: [UInt8] = []
    var borders: [Range<Int>] = []
    for part in parts {
      let start = bytes.count
      bytes += part.utf8
      borders.append(start..<bytes.count)
    }
    var found = TokenList(isTraced: true)
    try encode(bytes, literal: literal, place: .textStart, into: &found)
    return (found.ids, found.ranges(of: borders))
  }

  private func encode(_ bytes: [UInt8], literal: Bool, place: Piece.Place, into out: inout TokenList) throws {
    guard bytes.count < 1 << 29 else { throw TokenizerError.tooLong(bytes: bytes.count) }
    let literal = literal || settings.splitsSpecialTokens
    var known: [[UInt8]: [BPE.Symbol]] = [:]
    try rawTokens.forEachPart(bytes, literal: literal) { id, range in
      if let id {
        out.append(id, Int32(range.lowerBound)..<Int32(range.upperBound))
        return
      }
      let origins = out.isTraced ? range.map { Int32($0)..<Int32($0 + 1) } : []
      let part = Piece(bytes: Array(bytes[range]), origins: origins, place: range.lowerBound == 0 ? place : .inner)
      let normalized = try normalizer?.apply(part) ?? part
      try normalizedTokens.forEachPart(normalized.bytes, literal: literal) { id, inner in
        if let id {
          out.append(id, normalized.origin(of: inner))
          return
        }
        let piece = normalized[inner]
        for word in try preTokenizer?.apply([piece]) ?? [piece] {
          let symbols: [BPE.Symbol]
          if let earlier = known[word.bytes] {
            symbols = earlier
          } else {
            symbols = model.encode(word.bytes)
            // Long words hardly recur and would only fill the memory.
            if word.bytes.count <= 64 { known[word.bytes] = symbols }
          }
          for symbol in symbols { out.append(symbol.id, word.origin(of: symbol.range)) }
        }
      }
    }
  }
}

/// Ids in order and, where they are asked for, what each stands for in the text.
private struct TokenList {
  let isTraced: Bool
  var ids: [Int32] = []
  private var origins: [Range<Int32>] = []

  init(isTraced: Bool) { self.isTraced = isTraced }

  mutating func append(_ id: Int32, _ origin: @autoclosure () -> Range<Int32>) {
    ids.append(id)
    if isTraced { origins.append(origin()) }
  }

  /// For each stretch of the text, in order, the range of the tokens that share a byte with it.
  func ranges(of stretches: [Range<Int>]) -> [Range<Int>] {
    var first = 0
    return stretches.map { stretch in
      while first < origins.count, Int(origins[first].upperBound) <= stretch.lowerBound { first += 1 }
      if stretch.isEmpty { return first..<first }
      var end = first
      while end < origins.count, Int(origins[end].lowerBound) < stretch.upperBound { end += 1 }
      return first..<end
    }
  }
}
