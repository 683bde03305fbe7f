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
    try fields.allow(TokenizerKeys.normalizer)
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

  /// - Parameter piece: text between added tokens. At the beginning of a continued text nothing is prepended.
  /// - Returns: the changed text; an empty one stays empty.
  /// - Throws: `regexMatch`; `grows` for a text that becomes much longer than it was.
  func apply(_ piece: Piece) throws(TokenizerError) -> Piece {
    try apply(piece, GrowthLimit(of: piece.bytes.count, part: "normalizer"))
  }

  private func apply(_ piece: Piece, _ limit: GrowthLimit) throws(TokenizerError) -> Piece {
    let text = piece.bytes
    guard !text.isEmpty else { return piece }
    switch self {
    case .nfc: return Normalizer.composed(piece) { Normalizer.bytes($0._nfc) }
    case .nfd: return Normalizer.composed(piece) { Normalizer.bytes($0._nfd) }
    case .lowercase:
      // Character by character: a final sigma becomes an ordinary one, as in the tokenizers library.
      var out: [(Range<Int>, [UInt8])] = []
      out.reserveCapacity(text.count)
      forEachScalar(text) { scalar, range in out.append((range, Array(scalar.properties.lowercaseMapping.utf8))) }
      return piece.spelled(out)
    case .prepend(let prefix):
      if piece.place == .continuedStart { return piece }
      try limit.check(text.count + prefix.count)
      return piece.prepending(prefix)
    case .replace(let pattern, let content):
      let found = try pattern.matches(in: text)
      try limit.check(text, replacing: found, by: content)
      return piece.replacing(found, by: content)
    case .strip(let left, let right):
      let spaces = characters(in: text) { $0.properties.isWhitespace }
      var start = 0, end = text.count
      if left { for range in spaces where range.lowerBound == start { start = range.upperBound } }
      if right {
        for range in spaces.reversed() where range.upperBound == end && end > start { end = range.lowerBound }
      }
      return piece[start..<end]
    case .sequence(let steps):
      var piece = piece
      for step in steps { piece = try step.apply(piece, limit) }
      return piece
    }
  }

  /// Canonical forms never join what stands in two grapheme clusters, so that a traced text is changed cluster by
  /// cluster.
  private static func composed(_ piece: Piece, _ form: (String) -> [UInt8]) -> Piece {
    if piece.bytes.allSatisfy({ $0 < 0x80 }) { return piece }
    let text = String(decoding: piece.bytes, as: UTF8.self)
    if !piece.isTraced { return Piece(bytes: form(text), place: piece.place) }
    var out = Piece(bytes: [], place: piece.place)
    var at = 0
    for cluster in text {
      let range = at..<at + cluster.utf8.count
      at = range.upperBound
      let formed = form(String(cluster))
      out.bytes += formed
      // Letters and marks of a cluster that stays as it is may belong to two parts of a text.
      let isKept = formed.elementsEqual(piece.bytes[range])
      out.origins +=
        isKept ? Array(piece.origins[range]) : Array(repeating: piece.origin(of: range), count: formed.count)
    }
    return out
  }

  private static func bytes(_ scalars: some Sequence<Unicode.Scalar>) -> [UInt8] {
    var out: [UInt8] = []
    for scalar in scalars { out.append(contentsOf: UTF8.encode(scalar)!) }
    return out
  }
}

/// The most bytes that a part of a tokenizer may make of a text, so that no file of a few bytes fills the memory.
struct GrowthLimit {
  /// Spaces become marks of three bytes and decompositions at most eleven, so that no sound tokenizer comes near.
  static let factor = 16
  private let part: String
  private let byteCount: Int
  private let limit: Int

  init(of byteCount: Int, part: String) {
    self.part = part
    self.byteCount = byteCount
    limit = byteCount * GrowthLimit.factor + 1024
  }

  func check(_ count: Int) throws(TokenizerError) {
    guard count <= limit else { throw .grows(part: part, bytes: byteCount, limit: limit) }
  }

  func check(_ text: [UInt8], replacing ranges: [Range<Int>], by content: [UInt8]) throws(TokenizerError) {
    let (added, overflow) = ranges.count.multipliedReportingOverflow(by: content.count)
    try check(overflow ? .max : text.count - ranges.reduce(0) { $0 + $1.count } + added)
  }
}
