/// Mutations of JSON text by its values: extremes, other types, members dropped, repeated, renamed and exchanged, deep
/// nesting. The text is scanned and not parsed, so that repeated keys and values that no writer gives can be made.
enum JSONMutator {
  /// A value and, for a member of an object, its key.
  struct Span {
    let value: Range<Int>
    let key: Range<Int>?
    let depth: Int
    var whole: Range<Int> { (key?.lowerBound ?? value.lowerBound)..<value.upperBound }
  }

  private static let hostile: [String] = [
    "0", "-0", "-0.0", "1", "-1", "2", "3", "7", "255", "256", "65535", "65536", "1000000", "2147483647", "2147483648",
    "-2147483648", "-2147483649", "4294967295", "4294967296", "9007199254740993", "1152921504606846976",
    "4611686018427387904", "9223372036854775807", "-9223372036854775808", "9223372036854775808",
    "18446744073709551615", "1e18", "1e19", "1e308", "-1e308", "1e400", "1e-320", "0.5", "1.5", "-0.5", "1e-9",
    "0.9999999999999999", "NaN", "Infinity", "null", "true", "false", "\"\"", "\"x\"", "\"0\"", "\"none\"", "\"a b\"",
    "\"\\u0000\"", "\"\\ud83d\\ude00\"", "\"\\ud800\"", "\"e\\u0301\"", "\"../x\"", "\"/etc/passwd\"", "[]", "{}",
    "[[]]",
    "[{}]", "[null]", "[0]", "[-1,9223372036854775807]", "[1,2,3]", "[\"a\",\"b\"]", "{\"\":null}",
    "{\"a\":{\"a\":[]}}",
    "{\"type\":\"Sequence\",\"normalizers\":[],\"pretokenizers\":[],\"decoders\":[]}",
  ]

  static func mutated(_ text: [UInt8], with other: [UInt8], _ random: inout Random) -> [UInt8] {
    let spans = spans(text)
    guard let span = chosen(spans, &random) else { return ByteMutator.mutated(text, with: other, &random) }
    switch random.below(14) {
    case 0...3: return replaced(text, span.value, Array(random.pick(hostile).utf8))
    case 4: return removed(text, span)
    case 5:
      let copies = repeatElement(Array(text[span.whole]) + [0x2C], count: random.pick([1, 1, 2, 40]))
      return inserted(text, at: span.whole.lowerBound, Array(copies.joined()))
    case 6:  // the value of another seed, of the same key where there is one
      let others = JSONMutator.spans(other)
      let key = span.key.map { Array(text[$0]) }
      let twins = others.filter { twin in key != nil && twin.key.map { Array(other[$0]) } == key }
      guard let twin = chosen(twins.isEmpty ? others : twins, &random) else { return text }
      return replaced(text, span.value, Array(other[twin.value]))
    case 7:  // a member of another seed
      guard let twin = chosen(JSONMutator.spans(other).filter { $0.key != nil }, &random) else { return text }
      return inserted(text, at: span.whole.lowerBound, Array(other[twin.whole]) + [0x2C])
    case 8:  // two values exchanged
      guard let second = chosen(spans, &random) else { return text }
      let (a, b) =
        span.value.lowerBound < second.value.lowerBound ? (span.value, second.value) : (second.value, span.value)
      guard a.upperBound <= b.lowerBound else { return replaced(text, span.value, Array(text[second.value])) }
      return replaced(replaced(text, b, Array(text[a])), a, Array(text[b]))
    case 9:  // a key renamed to another one of the text
      guard let key = span.key, let twin = spans.filter({ $0.key != nil }).randomElement(&random)?.key else {
        return text
      }
      return replaced(text, key, Array(text[twin]))
    case 10: return replaced(text, span.value, [0x5B] + text[span.value] + [0x5D])
    case 11:
      let depth = random.pick([3, 60, 200, 600, 5000, 50_000])
      let unit = random.once(in: 2) ? "[" : "{\"a\":"
      let close = unit == "[" ? "]" : "}"
      let nest = String(repeating: unit, count: depth) + "1" + String(repeating: close, count: depth)
      return replaced(text, span.value, Array(nest.utf8))
    case 12:  // digits appended, a sign turned, a text made long
      let value = Array(text[span.value])
      guard let first = value.first else { return text }
      if first == 0x22 {
        let piece = Array(random.pick(["a", "é", "\\u0000", " ", "▁", "(a+)+", "\\\\p{L}", "{9999}", "<s>"]).utf8)
        let middle = Array(repeatElement(piece, count: random.pick([1, 2, 30, 3000])).joined())
        return replaced(text, span.value, [0x22] + middle + value.dropFirst())
      }
      return replaced(text, span.value, random.once(in: 2) ? [0x2D] + value : value + value)
    default:  // bytes inside one value
      let piece = ByteMutator.mutated(Array(text[span.value]), with: Array(other.prefix(64)), &random)
      return replaced(text, span.value, piece)
    }
  }

  /// Half of the choices fall on the upper levels, which hold few values but the most meaning.
  private static func chosen(_ spans: [Span], _ random: inout Random) -> Span? {
    guard !spans.isEmpty else { return nil }
    if random.once(in: 2), let upper = spans.filter({ $0.depth <= 3 && $0.value.count < 4096 }).randomElement(&random) {
      return upper
    }
    return random.pick(spans)
  }

  private static func replaced(_ text: [UInt8], _ range: Range<Int>, _ piece: [UInt8]) -> [UInt8] {
    var text = text
    text.replaceSubrange(range, with: piece)
    return text.count > ByteMutator.limit ? Array(text[..<ByteMutator.limit]) : text
  }

  private static func inserted(_ text: [UInt8], at place: Int, _ piece: [UInt8]) -> [UInt8] {
    replaced(text, place..<place, piece)
  }

  /// Without the value, its key and one comma.
  private static func removed(_ text: [UInt8], _ span: Span) -> [UInt8] {
    var range = span.whole
    if range.upperBound < text.count, text[range.upperBound] == 0x2C {
      range = range.lowerBound..<range.upperBound + 1
    } else if let comma = text[..<range.lowerBound].lastIndex(where: { $0 > 0x20 }), text[comma] == 0x2C {
      range = comma..<range.upperBound
    }
    return replaced(text, range, [])
  }

  /// All values, as far as the text can be read.
  static func spans(_ text: [UInt8]) -> [Span] {
    var spans: [Span] = []
    var open: [(start: Int, key: Range<Int>?)] = []
    var key: Range<Int>?
    var at = 0
    func close(_ start: Int, _ end: Int, _ key: Range<Int>?) {
      spans.append(Span(value: start..<end, key: key, depth: open.count))
    }
    while at < text.count {
      let start = at
      switch text[at] {
      case 0x22:
        at += 1
        while at < text.count, text[at] != 0x22 { at += text[at] == 0x5C ? 2 : 1 }
        at = min(at + 1, text.count)
        var next = at
        while next < text.count, text[next] <= 0x20 { next += 1 }
        if next < text.count, text[next] == 0x3A {
          key = start..<at
          at = next + 1
          continue
        }
        close(start, at, key)
        key = nil
      case 0x5B, 0x7B:
        open.append((start, key))
        key = nil
        at += 1
      case 0x5D, 0x7D:
        at += 1
        if let container = open.popLast() { close(container.start, at, container.key) }
      case 0x2D, 0x30...0x39, 0x61...0x7A:
        while at < text.count, !" ,]}\n\r\t".utf8.contains(text[at]) { at += 1 }
        close(start, at, key)
        key = nil
      default: at += 1
      }
    }
    return spans
  }
}

extension Array {
  /// One of the elements; nil where there are none.
  func randomElement(_ random: inout Random) -> Element? { isEmpty ? nil : self[random.below(count)] }
}

/// Mutations of one line of JSON lines, and of the order of lines.
enum LineMutator {
  static func mutated(_ text: [UInt8], with other: [UInt8], _ random: inout Random) -> [UInt8] {
    var lines = text.split(separator: 0x0A, omittingEmptySubsequences: false).map { Array($0) }
    let at = random.below(lines.count)
    let others = other.split(separator: 0x0A).map { Array($0) }
    switch random.below(8) {
    case 0: lines.insert(lines[at], at: at)
    case 1: lines.remove(at: at)
    case 2: lines.insert(others.randomElement(&random) ?? [], at: at)
    default: lines[at] = JSONMutator.mutated(lines[at], with: others.randomElement(&random) ?? [], &random)
    }
    return Array(lines.joined(separator: [0x0A]))
  }
}
