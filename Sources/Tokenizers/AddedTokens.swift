/// A token that is cut out of the text before the model sees it.
struct AddedToken: Sendable {
  var id: Int32
  var content: String
  var special = true
  var normalized = false
  var singleWord = false
  var leftStrip = false
  var rightStrip = false
}

/// Finds added tokens in text: the leftmost, of those the longest.
struct AddedTokenMatcher: Sendable {
  private struct Edge: Hashable, Sendable {
    let node: Int32
    let byte: UInt8
  }
  private var edges: [Edge: Int32] = [:]
  private var terminal: [Int32] = [-1]
  private var starts = [Bool](repeating: false, count: 256)
  private var tokens: [AddedToken] = []

  mutating func insert(_ token: AddedToken, spelling: [UInt8]) {
    guard !spelling.isEmpty else { return }
    var node: Int32 = 0
    for byte in spelling {
      let edge = Edge(node: node, byte: byte)
      if let next = edges[edge] {
        node = next
      } else {
        node = Int32(terminal.count)
        terminal.append(-1)
        edges[edge] = node
      }
    }
    starts[Int(spelling[0])] = true
    if terminal[Int(node)] < 0 {
      terminal[Int(node)] = Int32(tokens.count)
      tokens.append(token)
    }
  }

  private func longest(_ text: [UInt8], at start: Int) -> (token: AddedToken, end: Int)? {
    guard starts[Int(text[start])] else { return nil }
    var node: Int32 = 0
    var best: (Int32, Int)?
    var at = start
    while at < text.count, let next = edges[Edge(node: node, byte: text[at])] {
      node = next
      at += 1
      if terminal[Int(node)] >= 0 { best = (terminal[Int(node)], at) }
    }
    return best.map { (tokens[Int($0.0)], $0.1) }
  }

  /// Calls back with the parts of the text in order: plain ranges (id nil) and tokens. Special tokens where `isLiteral`
  /// stay text.
  func forEachPart(
    _ text: [UInt8], isLiteral: (Range<Int>) -> Bool, _ body: (Int32?, Range<Int>) throws -> Void
  ) rethrows {
    var done = 0
    var at = 0
    while at < text.count, !tokens.isEmpty {
      guard let (token, end) = longest(text, at: at) else {
        at += 1
        continue
      }
      var start = at, stop = end
      at = end
      if token.special, isLiteral(start..<stop) { continue }
      if token.singleWord, wordEnds(text, before: start) || wordStarts(text, at: stop) { continue }
      if token.leftStrip {
        while start > done, let scalar = scalar(text, before: start), scalar.properties.isWhitespace {
          start -= UTF8.width(scalar)
        }
        // The token before can have taken this one with the spaces behind it.
        start = max(start, done)
      }
      if token.rightStrip {
        while let scalar = scalar(text, at: stop), scalar.properties.isWhitespace { stop += UTF8.width(scalar) }
      }
      guard start < stop else { continue }
      if done < start { try body(nil, done..<start) }
      try body(token.id, start..<stop)
      done = stop
    }
    if done < text.count { try body(nil, done..<text.count) }
  }

  private func scalar(_ text: [UInt8], at index: Int) -> Unicode.Scalar? {
    guard index < text.count else { return nil }
    return String(decoding: text[index..<min(index + 4, text.count)], as: UTF8.self).unicodeScalars.first
  }

  private func scalar(_ text: [UInt8], before index: Int) -> Unicode.Scalar? {
    var start = index - 1
    while start > 0, text[start] & 0xC0 == 0x80 { start -= 1 }
    return start < 0 ? nil : scalar(text, at: start)
  }

  private func wordStarts(_ text: [UInt8], at index: Int) -> Bool { scalar(text, at: index).map(isWord) ?? false }
  private func wordEnds(_ text: [UInt8], before index: Int) -> Bool {
    scalar(text, before: index).map(isWord) ?? false
  }
}

/// `\w` of Unicode's regular expressions.
private func isWord(_ scalar: Unicode.Scalar) -> Bool {
  if scalar.properties.isAlphabetic || scalar.properties.isJoinControl { return true }
  switch scalar.properties.generalCategory {
  case .nonspacingMark, .spacingMark, .enclosingMark, .decimalNumber, .connectorPunctuation: return true
  default: return false
  }
}
