/// Text to ids.
extension Tokenizer {
  /// The ids of a text.
  /// - Parameters:
  ///   - text: less than 2^29 bytes of UTF-8.
  ///   - special: whether to add the tokens that the model expects around a text (BOS, EOS). A BOS that the text itself
  ///     begins with, as chat templates write it, is not added again.
  ///   - literal: whether special tokens spelled in the text stay text.
  ///   - continues: whether the text goes on after earlier text, so that no space is put before it. What follows a
  ///     special token inside the text is encoded as in a whole text.
  /// - Returns: ids from 0 to `vocabularySize` - 1.
  /// - Throws: `TokenizerError.tooLong`; `TokenizerError.regexMatch` where a pattern of the tokenizer fails;
  ///   `TokenizerError.grows`.
  public func encode(
    _ text: String, special: Bool = true, literal: Bool = false, continues: Bool = false
  ) throws -> [Int32] {
    try encode(text, special: special, literal: literal, continues: continues) { _ in }
  }

  /// As `encode(_:)`; `reserve` is called with the bytes that a long text is about to take, and may throw.
  package func encode(
    _ text: String, special: Bool, literal: Bool, continues: Bool, reserve: (Int) throws -> Void
  ) throws -> [Int32] {
    var found = TokenList(isTraced: false)
    if special { found.ids = postProcessor.before }
    try encode(
      Array(text.utf8), place: continues ? .continuedStart : .textStart, isLiteral: { _ in literal }, reserve: reserve,
      into: &found)
    guard special else { return found.ids }
    let before = postProcessor.before
    if !before.isEmpty, found.ids.dropFirst(before.count).starts(with: before) { found.ids.removeFirst(before.count) }
    return found.ids + postProcessor.after
  }

  /// The ids of texts that follow one another: those of the one text that they make.
  /// - Parameters:
  ///   - parts: together less than 2^29 bytes of UTF-8.
  ///   - isLiteral: for each part whether special tokens that it spells, or spells a piece of, stay text; parts beyond
  ///     its end are not.
  /// - Returns: the ids, without those around a text, and for each part the range of the ids that stand for a piece of
  ///   it. An id that stands for the end of a part and the beginning of the next is in the ranges of both.
  /// - Throws: as `encode(_:)`.
  public func encode(parts: [String], isLiteral: [Bool] = []) throws -> (ids: [Int32], ranges: [Range<Int>]) {
    try encode(parts: parts, isLiteral: isLiteral) { _ in }
  }

  /// As `encode(parts:)`; `reserve` is called with the bytes that a long text is about to take, and may throw.
  package func encode(
    parts: [String], isLiteral: [Bool], reserve: (Int) throws -> Void
  ) throws -> (ids: [Int32], ranges: [Range<Int>]) {
    var bytes: [UInt8] = []
    var borders: [Range<Int>] = []
    for part in parts {
      let start = bytes.count
      bytes += part.utf8
      borders.append(start..<bytes.count)
    }
    var found = TokenList(isTraced: true)
    let literal = zip(borders, isLiteral).filter(\.1).map(\.0)
    try encode(
      bytes, place: .textStart, isLiteral: { range in literal.contains { $0.overlaps(range) } }, reserve: reserve,
      into: &found)
    return (found.ids, found.ranges(of: borders))
  }

  private func encode(
    _ bytes: [UInt8], place: Piece.Place, isLiteral: (Range<Int>) -> Bool, reserve: (Int) throws -> Void,
    into out: inout TokenList
  ) throws {
    guard bytes.count < 1 << 29 else { throw TokenizerError.tooLong(bytes: bytes.count) }
    // What short texts take is nothing beside the tokenizer itself, and asking for it has a price.
    func expect(_ count: Int, _ bytesEach: Int) throws {
      if count > 1 << 16 { try reserve(count * bytesEach) }
    }
    let traced = out.isTraced ? MemoryLayout<Range<Int32>>.size : 0
    // Copies of the text, and the most that a normalizer makes of it.
    try expect(bytes.count, (1 + traced) * (4 + GrowthLimit.factor))
    let splits = settings.splitsSpecialTokens
    var known: [[UInt8]: [BPE.Symbol]] = [:]
    try rawTokens.forEachPart(bytes, isLiteral: { splits || isLiteral($0) }) { id, range in
      if let id {
        out.append(id, Int32(range.lowerBound)..<Int32(range.upperBound))
        return
      }
      let origins = out.isTraced ? range.map { Int32($0)..<Int32($0 + 1) } : []
      let part = Piece(bytes: Array(bytes[range]), origins: origins, place: range.lowerBound == 0 ? place : .inner)
      let normalized = try normalizer?.apply(part) ?? part
      func isLiteralHere(_ inner: Range<Int>) -> Bool {
        let origin = normalized.origin(of: inner)
        return splits || isLiteral(Int(origin.lowerBound)..<Int(origin.upperBound))
      }
      try normalizedTokens.forEachPart(normalized.bytes, isLiteral: isLiteralHere) { id, inner in
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
            // Symbols, their neighbours and the queue of merges.
            try expect(word.bytes.count, 64)
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
