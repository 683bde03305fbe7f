/// Cuts normalized text into the words that the model sees. Matches the tokenizers library 0.23.
indirect enum PreTokenizer: Sendable {
  case byteLevel(prefixSpace: Bool, regex: Regex?)
  case split(Pattern, SplitBehaviour, invert: Bool)
  case digits(individual: Bool)
  case punctuation(SplitBehaviour)
  case metaspace(Metaspace)
  case whitespaceSplit
  case sequence([PreTokenizer])

  static let supported = [
    "ByteLevel", "Split", "Digits", "Punctuation", "Metaspace", "Whitespace", "WhitespaceSplit", "Sequence",
  ]

  init(_ fields: Fields) throws {
    try fields.allow(TokenizerKeys.preTokenizer)
    switch try fields.string("type") {
    case "ByteLevel":
      let useRegex = try fields.bool("use_regex", default: true)
      self = .byteLevel(
        prefixSpace: try fields.bool("add_prefix_space"),
        regex: useRegex ? try Regex(ByteLevel.pattern, dialect: .oniguruma, file: fields.file) : nil)
    case "Split":
      self = .split(
        try fields.pattern("pattern"), try PreTokenizer.behaviour(fields),
        invert: try fields.bool("invert", default: false))
    case "Digits": self = .digits(individual: try fields.bool("individual_digits", default: false))
    case "Punctuation":
      self = .punctuation(fields.json["behavior"] == nil ? .isolated : try PreTokenizer.behaviour(fields))
    case "Metaspace": self = .metaspace(try Metaspace(fields))
    case "Whitespace":
      // The library compiles this one alone with Rust's regex, whose `\w` has the joiners too.
      let regex = try Regex(
        "[\\w\\u200C\\u200D]+|[^\\w\\s\\u200C\\u200D]+", dialect: .oniguruma, file: fields.file)
      self = .split(.regex(regex), .removed, invert: true)
    case "WhitespaceSplit": self = .whitespaceSplit
    case "Sequence": self = .sequence(try fields.list("pretokenizers").map { try PreTokenizer($0) })
    default: throw fields.unsupported("type", PreTokenizer.supported)
    }
  }

  private static func behaviour(_ fields: Fields) throws -> SplitBehaviour {
    guard let value = SplitBehaviour(rawValue: try fields.string("behavior")) else {
      throw fields.unsupported("behavior", SplitBehaviour.allCases.map(\.rawValue))
    }
    return value
  }

  func apply(_ pieces: [Piece]) throws(TokenizerError) -> [Piece] {
    if case .sequence(let steps) = self {
      var pieces = pieces
      for step in steps { pieces = try step.apply(pieces) }
      return pieces
    }
    var out: [Piece] = []
    for piece in pieces { try apply(piece, into: &out) }
    return out
  }

  private func apply(_ piece: Piece, into out: inout [Piece]) throws(TokenizerError) {
    let text = piece.bytes
    switch self {
    case .byteLevel(let prefixSpace, let regex):
      let spaced =
        prefixSpace && piece.place != .continuedStart && text.first != 0x20 ? piece.prepending([0x20]) : piece
      guard let regex else {
        out.append(ByteLevel.encode(spaced))
        return
      }
      let found = try regex.matches(in: spaced.bytes)
      for range in SplitBehaviour.isolated.pieces(count: spaced.bytes.count, matches: found) {
        out.append(ByteLevel.encode(spaced[range]))
      }
    case .split(let pattern, let behaviour, let invert):
      let found = try pattern.matches(in: text)
      PreTokenizer.cut(piece, behaviour.pieces(count: text.count, matches: found, invert: invert), &out)
    case .digits(let individual):
      let found = characters(in: text) { scalar in
        if scalar.isASCII { return (0x30...0x39).contains(scalar.value) }
        switch scalar.properties.generalCategory {
        case .decimalNumber, .letterNumber, .otherNumber: return true
        default: return false
        }
      }
      let behaviour = individual ? SplitBehaviour.isolated : .contiguous
      PreTokenizer.cut(piece, behaviour.pieces(count: text.count, matches: found), &out)
    case .punctuation(let behaviour):
      let found = characters(in: text, where: isPunctuation)
      PreTokenizer.cut(piece, behaviour.pieces(count: text.count, matches: found), &out)
    case .whitespaceSplit:
      let found = characters(in: text) { $0.properties.isWhitespace }
      PreTokenizer.cut(piece, SplitBehaviour.removed.pieces(count: text.count, matches: found), &out)
    case .metaspace(let metaspace):
      let marked = try metaspace.mark(piece)
      guard metaspace.split else {
        out.append(marked)
        return
      }
      let found = try Pattern.literal(metaspace.replacement).matches(in: marked.bytes)
      PreTokenizer.cut(marked, SplitBehaviour.mergedWithNext.pieces(count: marked.bytes.count, matches: found), &out)
    case .sequence: break  // handled by the caller, which has all pieces
    }
  }

  private static func cut(_ piece: Piece, _ ranges: [Range<Int>], _ out: inout [Piece]) {
    for range in ranges { out.append(piece[range]) }
  }
}

/// ASCII punctuation including symbols, and Unicode's P categories.
private func isPunctuation(_ scalar: Unicode.Scalar) -> Bool {
  if scalar.isASCII {
    switch scalar.value {
    case 0x21...0x2F, 0x3A...0x40, 0x5B...0x60, 0x7B...0x7E: return true
    default: return false
    }
  }
  switch scalar.properties.generalCategory {
  case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation,
    .finalPunctuation, .otherPunctuation:
    return true
  default: return false
  }
}

/// Spaces spelled with a visible character, with one put in front of the text (sentencepiece's convention).
struct Metaspace: Sendable {
  enum Prepend: String, CaseIterable, Sendable { case always, first, never }

  let replacement: [UInt8]
  let prepend: Prepend
  let split: Bool

  init(_ fields: Fields) throws {
    let text = try fields.string("replacement")
    guard text.unicodeScalars.count == 1 else { throw fields.bad("replacement", "one character") }
    replacement = Array(text.utf8)
    if let scheme = try fields.optionalString("prepend_scheme") {
      guard let known = Prepend(rawValue: scheme) else {
        throw fields.unsupported("prepend_scheme", Prepend.allCases.map(\.rawValue))
      }
      prepend = known
    } else {
      // Files older than tokenizers 0.15 have only the flag.
      prepend = try fields.bool("add_prefix_space", default: true) ? .always : .never
    }
    split = try fields.bool("split", default: true)
  }

  func mark(_ piece: Piece) throws(TokenizerError) -> Piece {
    let marked = piece.replacing(try Pattern.literal([0x20]).matches(in: piece.bytes), by: replacement)
    let prepends =
      prepend == .always && piece.place != .continuedStart || prepend == .first && piece.place == .textStart
    return prepends && !marked.bytes.starts(with: replacement) ? marked.prepending(replacement) : marked
  }

  /// In the first token all marks vanish, as in the tokenizers library.
  func unmark(_ token: [UInt8], isFirst: Bool) throws(TokenizerError) -> [UInt8] {
    let found = try Pattern.literal(replacement).matches(in: token)
    return Piece(bytes: token, place: .inner).replacing(found, by: isFirst && prepend != .never ? [] : [0x20]).bytes
  }
}
