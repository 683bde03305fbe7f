/// The text that ids add to those of a prompt, told id by id: at each one what `decode(_:after:)` gives for all of
/// them, but decoded from the last place on that a later id cannot reach.
package struct GrowingText {
  private let tokenizer: Tokenizer
  /// Text that no later id changes.
  private var fixed = ""
  /// The ids whose text may still change, and whether text of others stands in front of it.
  private var open: [Int32]
  private var isContinued: Bool
  /// The text of the open ids of the prompt that the text of all ids still has to repeat: it adds what follows.
  private var repeated: String
  /// What the open ids add to `fixed`.
  private var tail = ""

  /// - Throws: as `decode(_:)`.
  package init(after prompt: [Int32], _ tokenizer: Tokenizer) throws {
    self.tokenizer = tokenizer
    let start = prompt.lastIndex { tokenizer.beginsAnew($0) } ?? 0
    isContinued = try start > 0 && !tokenizer.decode(Array(prompt[..<start])).isEmpty
    open = isContinued ? Array(prompt[start...]) : prompt
    repeated = try tokenizer.text(open, continues: isContinued)
  }

  /// - Throws: as `decode(_:)`.
  package mutating func append(_ id: Int32) throws {
    if tokenizer.beginsAnew(id) {
      let text = try tokenizer.text(open, continues: isContinued)
      // A decoder may treat the beginning of the text apart, until there is some.
      if isContinued || !text.isEmpty {
        let (added, rest) = split(text)
        fixed += added
        (repeated, open, isContinued) = (rest, [], true)
      }
    }
    open.append(id)
    tail = split(try tokenizer.text(open, continues: isContinued)).added
  }

  /// The text so far.
  package var text: String { fixed + tail }

  /// Whether one of these texts stands in the text since the last id, and none of them did before it. Bytes are
  /// compared: a line feed stands in CR LF, which is one character of a Swift string.
  package func contains(_ texts: [String]) -> Bool {
    // Of what is fixed, only the end can be part of a text that was not there before.
    let longest = texts.map(\.utf8.count).max() ?? 0
    let end = Array(fixed.utf8.suffix(longest)) + Array(tail.utf8)
    return texts.contains { end.contains($0.utf8) }
  }

  /// What a text adds to `repeated`, and what of that it does not reach. Only an unfinished character at the end of the
  /// earlier text makes the two differ before that text ends.
  private func split(_ text: String) -> (added: String, rest: String) {
    if repeated.isEmpty { return (text, "") }
    let (before, after) = (repeated.unicodeScalars, text.unicodeScalars)
    var (a, b) = (before.startIndex, after.startIndex)
    while a < before.endIndex, b < after.endIndex, before[a] == after[b] {
      a = before.index(after: a)
      b = after.index(after: b)
    }
    return (String(after[b...]), b == after.endIndex ? String(before[a...]) : "")
  }
}
