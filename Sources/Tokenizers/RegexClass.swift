/// Characters as PCRE2 spells them.
enum RegexSet {
  /// What may stand between brackets.
  case listed(String)
  /// All but what is listed.
  case unlisted(String)
  /// Any pattern that matches one character.
  case other(String)

  /// A pattern that matches one character of the set.
  var pattern: String {
    switch self {
    case .listed(let body): "[\(body)]"
    case .unlisted(let body): "[^\(body)]"
    case .other(let pattern): pattern
    }
  }

  var negated: RegexSet {
    switch self {
    case .listed(let body): .unlisted(body)
    case .unlisted(let body): .listed(body)
    case .other(let pattern): .other("(?:(?!\(pattern))[\\x{0}-\\x{10FFFF}])")
    }
  }

  static func union(_ sets: [RegexSet]) -> RegexSet {
    var body = ""
    var patterns: [String] = []
    for set in sets {
      if case .listed(let more) = set { body += more } else { patterns.append(set.pattern) }
    }
    if patterns.isEmpty { return .listed(body) }
    if body.isEmpty, sets.count == 1 { return sets[0] }
    if !body.isEmpty { patterns.insert("[\(body)]", at: 0) }
    return .other("(?:\(patterns.joined(separator: "|")))")
  }

  func intersection(_ set: RegexSet) -> RegexSet { .other("(?:(?=\(set.pattern))\(pattern))") }

  /// A scalar that stands for itself, inside and outside brackets.
  static func literal(_ scalar: Unicode.Scalar) -> String {
    let isPlain = !scalar.isASCII || scalar.properties.isAlphabetic || ("0"..."9").contains(scalar)
    return isPlain ? String(scalar) : "\\x{\(String(scalar.value, radix: 16))}"
  }

  /// Code points with the property White_Space, and all others.
  static let space = RegexSet.listed(
    "\\t-\\r\\x20\\x85\\xA0\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}")
  static let noSpace = RegexSet.listed(
    "\\x00-\\x08\\x0E-\\x1F\\x21-\\x84\\x86-\\x9F\\xA1-\\x{167F}\\x{1681}-\\x{1FFF}\\x{200B}-\\x{2027}"
      + "\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}\\x{3001}-\\x{10FFFF}")
  static let hexDigit = RegexSet.listed("0-9A-Fa-f")
  private static let wordBody = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
  /// `\w` between brackets.
  static let word = RegexSet.listed(wordBody)

  /// `\w` outside brackets, where Oniguruma's table for Latin-1 counts the superscripts and fractions too.
  static func wordOutside(_ dialect: RegexDialect) -> RegexSet {
    dialect == .oniguruma ? .listed(wordBody + "\\xB2\\xB3\\xB9\\xBC-\\xBE") : word
  }

  /// The POSIX brackets of Oniguruma.
  static let posix: [String: RegexSet] = [
    "alnum": .listed("\\p{Alphabetic}\\p{Nd}"), "alpha": .listed("\\p{Alphabetic}"), "ascii": .listed("\\x00-\\x7F"),
    "blank": .listed("\\p{Zs}\\t"), "cntrl": .listed("\\p{Cc}"), "digit": .listed("\\p{Nd}"),
    "graph": .unlisted("\\p{Cc}\\p{Cn}\\p{Z}"), "lower": .listed("\\p{Lowercase}"),
    "print": .unlisted("\\p{Cc}\\p{Cn}\\p{Zl}\\p{Zp}"), "punct": .listed("\\p{P}\\p{S}"), "space": space,
    "upper": .listed("\\p{Uppercase}"), "word": word, "xdigit": hexDigit,
  ]
}

/// Brackets: in Oniguruma with classes in classes, `&&` and POSIX names.
extension RegexSyntax {
  /// The class whose opening bracket was read.
  mutating func characterClass() throws(TokenizerError) -> RegexSet {
    let start = at - 1
    let isNegated = eat("^")
    var operands: [RegexSet] = []
    var items: [RegexSet] = []
    var isFirst = true
    while true {
      guard let scalar = next() else { throw refused("a class without its closing bracket", at: start) }
      if scalar == "]", !isFirst { break }
      isFirst = false
      if dialect == .oniguruma, eat("&&") {
        operands.append(try joined(items))
        items = []
      } else {
        items.append(try item())
      }
    }
    at += 1
    let last = try joined(items)
    guard !caseless || operands.isEmpty else {
      throw refused("&& without regard to case is not supported", at: start)
    }
    let set = operands.reversed().reduce(last) { $1.intersection($0) }
    return isNegated ? set.negated : set
  }

  private func joined(_ items: [RegexSet]) throws(TokenizerError) -> RegexSet {
    guard !items.isEmpty else { throw refused("an empty class") }
    return .union(items)
  }

  private mutating func item() throws(TokenizerError) -> RegexSet {
    let start = at
    let isBracket = dialect == .oniguruma && next() == "["
    if isBracket || next() == "\\" && "wW".unicodeScalars.contains(next(1) ?? " ") {
      let set = isBracket ? try bracket() : word()
      guard !caseless || dialect == .python else {
        throw refused("a class in a class without regard to case is not supported", at: start)
      }
      try refuseRange(after: set)
      return set
    }
    let low: Unicode.Scalar
    switch try single() {
    case .set(let set):
      try refuseRange(after: set)
      return set
    case .scalar(let scalar): low = scalar
    }
    guard next() == "-", let after = next(1), after != "]" else { return try range(low, low, from: start) }
    at += 1
    guard dialect == .python || after != "[" && !(after == "&" && next(1) == "&"),
      case .scalar(let high) = try single(), low.value <= high.value
    else { throw refused("a range without its ends in order", at: start) }
    return try range(low, high, from: start)
  }

  private func refuseRange(after set: RegexSet) throws(TokenizerError) {
    guard next() == "-", next(1) != "]" else { return }
    throw refused("a range that begins with a class")
  }

  private mutating func bracket() throws(TokenizerError) -> RegexSet {
    let start = at
    at += 1
    guard eat(":") else { return try nest { (self) throws(TokenizerError) in try self.characterClass() } }
    let isNegated = eat("^")
    let name = scalars[at...].prefix { $0 != ":" && $0 != "]" }.map(String.init).joined()
    at += name.unicodeScalars.count
    guard eat(":]"), let set = RegexSet.posix[name] else { throw refused("[:\(name) is not supported", at: start) }
    return isNegated ? set.negated : set
  }

  private mutating func word() -> RegexSet {
    at += 2
    return scalars[at - 1] == "w" ? .word : RegexSet.word.negated
  }

  private mutating func single() throws(TokenizerError) -> Escaped {
    let start = at
    at += 1
    guard scalars[start] == "\\" else { return .scalar(scalars[start]) }
    if eat("b") { return .scalar("\u{8}") }
    let isProperty = next() == "p" || next() == "P"
    if caseless, isProperty { throw refused("\\p in a class without regard to case is not supported", at: start) }
    return try escaped(from: start)
  }

  private func range(
    _ low: Unicode.Scalar, _ high: Unicode.Scalar, from start: Int
  ) throws(TokenizerError) -> RegexSet {
    if caseless, dialect == .oniguruma, !high.isASCII {
      guard high.value - low.value < 4096,
        (low.value...high.value).allSatisfy({ Unicode.Scalar($0).map { RegexFolding.one($0) != nil } ?? true })
      else { throw refused("a range without regard to case that folds to several characters", at: start) }
    }
    return .listed(RegexSet.literal(low) + (low == high ? "" : "-" + RegexSet.literal(high)))
  }
}
