/// Turns tokens back into text; each step maps a list of strings to a list of strings, which are joined at the end.
indirect enum Decoder: Sendable {
  case byteLevel, byteFallback, fuse
  case replace(Pattern, by: [UInt8])
  case strip(content: [UInt8], start: Int, stop: Int)
  case metaspace(Metaspace)
  case sequence([Decoder])

  static let supported = ["ByteLevel", "ByteFallback", "Fuse", "Replace", "Strip", "Metaspace", "Sequence"]

  init(_ fields: Fields) throws {
    try fields.allow(TokenizerKeys.decoder)
    switch try fields.string("type") {
    case "ByteLevel": self = .byteLevel
    case "ByteFallback": self = .byteFallback
    case "Fuse": self = .fuse
    case "Replace": self = .replace(try fields.pattern("pattern"), by: Array(try fields.string("content").utf8))
    case "Strip":
      let content = try fields.string("content")
      guard content.unicodeScalars.count == 1 else { throw fields.bad("content", "one character") }
      self = .strip(content: Array(content.utf8), start: try fields.count("start"), stop: try fields.count("stop"))
    case "Metaspace": self = .metaspace(try Metaspace(fields))
    case "Sequence": self = .sequence(try fields.list("decoders").map { try Decoder($0) })
    default: throw fields.unsupported("type", Decoder.supported)
    }
  }

  /// - Parameters:
  ///   - tokens: their spellings.
  ///   - continues: whether text stands in front of theirs.
  /// - Returns: texts, to be laid end to end.
  /// - Throws: `regexMatch`; `grows` for a text that becomes much longer than its tokens.
  func apply(_ tokens: [[UInt8]], continues: Bool = false) throws(TokenizerError) -> [[UInt8]] {
    let limit = GrowthLimit(of: tokens.reduce(0) { $0 + $1.count }, part: "decoder")
    var (tokens, isJoined) = (tokens, false)
    for step in steps {
      tokens = try step.apply(tokens, limit, continues: continues, isJoined: isJoined)
      isJoined = isJoined || step.joins
    }
    return tokens
  }

  /// The steps one after the other, without sequences.
  private var steps: [Decoder] {
    if case .sequence(let steps) = self { return steps.flatMap(\.steps) }
    return [self]
  }

  /// Whether one text is left of all tokens.
  private var joins: Bool {
    switch self {
    case .byteLevel, .fuse: true
    default: false
    }
  }

  /// Whether the text of a token and of those behind it is the same whatever text stands in front. What a step does to
  /// the text of all tokens may depend on everything, but for the beginning of that text, which is not theirs.
  /// - Throws: as `apply`.
  func beginsAnew(_ token: [UInt8]) throws(TokenizerError) -> Bool {
    var (token, isJoined) = (token, false)
    for step in steps {
      switch step {
      case .byteLevel:
        let first = (ByteLevel.decode(token) ?? token).first
        guard !isJoined, let first, first & 0xC0 != 0x80 else { return false }
      case .byteFallback: if isJoined || Decoder.byteToken(token) != nil { return false }
      case .fuse, .sequence: break
      case .strip(_, _, let stop) where isJoined: if stop > 0 { return false }
      case .replace, .strip, .metaspace:
        if isJoined { return false }
        let limit = GrowthLimit(of: token.count, part: "decoder")
        token = Array(try step.apply([token], limit, continues: true, isJoined: false).joined())
      }
      isJoined = isJoined || step.joins
    }
    return true
  }

  private func apply(
    _ tokens: [[UInt8]], _ limit: GrowthLimit, continues: Bool, isJoined: Bool
  ) throws(TokenizerError) -> [[UInt8]] {
    switch self {
    case .byteLevel:
      var bytes: [UInt8] = []
      for token in tokens { bytes += ByteLevel.decode(token) ?? token }
      return [Decoder.repaired(bytes)]
    case .byteFallback: return Decoder.joinBytes(tokens)
    case .fuse: return [Array(tokens.joined())]
    case .replace(let pattern, let content):
      var out: [[UInt8]] = []
      var total = 0
      for token in tokens {
        let found = try pattern.matches(in: token)
        try limit.check(token, replacing: found, by: content)
        out.append(Piece(bytes: token, place: .inner).replacing(found, by: content).bytes)
        total += out[out.count - 1].count
        try limit.check(total)
      }
      return out
    case .strip(let content, let start, let stop):
      return tokens.map { token in
        var from = 0, to = token.count
        // What was stripped from the beginning of the text is not stripped again further on.
        for _ in 0..<(isJoined && continues ? 0 : start) {
          guard from + content.count <= to, token[from..<from + content.count].elementsEqual(content) else { break }
          from += content.count
        }
        for _ in 0..<stop {
          guard to - content.count >= from, token[to - content.count..<to].elementsEqual(content) else { break }
          to -= content.count
        }
        return Array(token[from..<to])
      }
    case .metaspace(let metaspace):
      var out: [[UInt8]] = []
      for (i, token) in tokens.enumerated() { out.append(try metaspace.unmark(token, isFirst: i == 0 && !continues)) }
      return out
    case .sequence: return tokens
    }
  }

  /// Malformed UTF-8 replaced by U+FFFD, one per maximal part.
  static func repaired(_ bytes: [UInt8]) -> [UInt8] { Array(String(decoding: bytes, as: UTF8.self).utf8) }

  /// Runs of `<0xNN>` tokens become the text they spell, or one U+FFFD per byte where that is not UTF-8.
  private static func joinBytes(_ tokens: [[UInt8]]) -> [[UInt8]] {
    var out: [[UInt8]] = []
    var run: [UInt8] = []
    func flush() {
      if run.isEmpty { return }
      if repaired(run) == run {
        out.append(run)
      } else {
        for _ in run { out.append([0xEF, 0xBF, 0xBD]) }
      }
      run.removeAll()
    }
    for token in tokens {
      if let byte = byteToken(token) {
        run.append(byte)
      } else {
        flush()
        out.append(token)
      }
    }
    flush()
    return out
  }

  /// The byte that a token `<0xNN>` stands for.
  static func byteToken(_ token: [UInt8]) -> UInt8? {
    guard token.count == 6, token.starts(with: "<0x".utf8), token[5] == UInt8(ascii: ">") else { return nil }
    return UInt8(String(decoding: token[3..<5], as: UTF8.self), radix: 16)
  }
}
