/// Ids to text.
extension Tokenizer {
  /// The text of ids. Bytes that are not UTF-8 become U+FFFD.
  /// - Parameters:
  ///   - ids: an id without a token leaves no trace.
  ///   - skipSpecial: whether special tokens leave no trace.
  /// - Returns: the tokens as the decoder joins them, with spaces between them where the tokenizer has no decoder.
  /// - Throws: `TokenizerError.idOutOfRange` for an id outside 0..<`vocabularySize`; `TokenizerError.regexMatch`;
  ///   `TokenizerError.grows`.
  public func decode(_ ids: [Int32], skipSpecial: Bool = false) throws -> String {
    try text(ids, skipSpecial: skipSpecial, continues: false)
  }

  /// The same, where `continues` says that text stands in front of that of the ids; the first of them must begin anew.
  func text(_ ids: [Int32], skipSpecial: Bool = false, continues: Bool) throws -> String {
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
    return String(decoding: Array(try decoder.apply(tokens, continues: continues).joined()), as: UTF8.self)
  }

  /// Whether the text of an id and of those behind it is the same whatever text stands in front.
  func beginsAnew(_ id: Int32) -> Bool {
    guard let decoder, id >= 0, Int(id) < spellings.count, let spelling = spellings[Int(id)] else { return false }
    return (try? decoder.beginsAnew(Array(spelling.utf8))) ?? false
  }

  /// The text that ids add to that of the ids before them: both are decoded together and the earlier text is cut off,
  /// so that no space between the two is lost. A character begun by the earlier ids and ended by these belongs to
  /// these.
  /// - Parameters:
  ///   - ids: the later ids.
  ///   - earlier: the ids before them.
  /// - Returns: the later part of the text of all ids.
  /// - Throws: as `decode(_:)`.
  public func decode(_ ids: [Int32], after earlier: [Int32]) throws -> String { try joined(earlier, ids).added }

  /// The text of ids in two pieces, before and after the place where what `ids` add begins.
  /// - Throws: as `decode(_:)`.
  package func joined(_ earlier: [Int32], _ ids: [Int32]) throws -> (kept: String, added: String) {
    let before = try decode(earlier).unicodeScalars, whole = try decode(earlier + ids).unicodeScalars
    // Only an unfinished character at the end of the earlier text makes the two differ before that text ends.
    var (a, b) = (before.startIndex, whole.startIndex)
    while a < before.endIndex, b < whole.endIndex, before[a] == whole[b] {
      a = before.index(after: a)
      b = whole.index(after: b)
    }
    return (String(whole[..<b]), String(whole[b...]))
  }
}
