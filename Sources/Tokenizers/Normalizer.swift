@_spi(_Unicode) import Swift

/// Changes text before it is cut. Compatibility forms (NFKC, NFKD) need tables that the standard library lacks.
indirect enum Normalizer: Sendable {
  case nfc, nfd, lowercase
  case prepend([UInt8])
  case replace(Pattern, by: [UInt8])
  case strip(left: Bool, right: Bool)
  case sequence([Normalizer])

  static let supported = ["NFC", "NFD", "Lowercase", "Prepend", "Replace", "Strip", "Sequence"]

  init(_ fields: Fields) throws {
    switch try fields.string("type") {
    case "NFC": self = .nfc
    case "NFD": self = .nfd
    case "Lowercase": self = .lowercase
    case "Prepend": self = .prepend(Array(try fields.string("prepend").utf8))
    case "Replace": self = .replace(try fields.pattern("pattern"), by: Array(try fields.string("content").utf8))
    case "Strip":
      self = .strip(
        left: try fields.bool("strip_left", default: true), right: try fields.bool("strip_right", default: true))
    case "Sequence": self = .sequence(try fields.list("normalizers").map { try Normalizer($0) })
    default: throw fields.unsupported("type", Normalizer.supported)
    }
  }

  /// - Parameters:
  ///   - text: UTF-8.
  ///   - continues: whether earlier text stands before this one, so that nothing is prepended.
  /// - Returns: the changed text; an empty one stays empty.
  /// - Throws: `regexMatch`.
  func apply(_ text: [UInt8], continues: Bool = false) throws(TokenizerError) -> [UInt8] {
    guard !text.isEmpty else { return text }
    switch self {
    case .nfc:
      if text.allSatisfy({ $0 < 0x80 }) { return text }
      return Normalizer.bytes(String(decoding: text, as: UTF8.self)._nfc)
    case .nfd:
      if text.allSatisfy({ $0 < 0x80 }) { return text }
      return Normalizer.bytes(String(decoding: text, as: UTF8.self)._nfd)
    case .lowercase:
      // Character by character: a final sigma becomes an ordinary one, as in the tokenizers library.
      var out: [UInt8] = []
      out.reserveCapacity(text.count)
      forEachScalar(text) { scalar, _ in out += scalar.properties.lowercaseMapping.utf8 }
      return out
    case .prepend(let prefix): return continues ? text : prefix + text
    case .replace(let pattern, let content): return try pattern.replace(in: text, by: content)
    case .strip(let left, let right):
      let spaces = characters(in: text) { $0.properties.isWhitespace }
      var start = 0, end = text.count
      if left { for range in spaces where range.lowerBound == start { start = range.upperBound } }
      if right {
        for range in spaces.reversed() where range.upperBound == end && end > start { end = range.lowerBound }
      }
      return Array(text[start..<end])
    case .sequence(let steps):
      var text = text
      for step in steps { text = try step.apply(text, continues: continues) }
      return text
    }
  }

  private static func bytes(_ scalars: some Sequence<Unicode.Scalar>) -> [UInt8] {
    var out: [UInt8] = []
    for scalar in scalars { out.append(contentsOf: UTF8.encode(scalar)!) }
    return out
  }
}
