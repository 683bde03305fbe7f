/// Escapes that mean the same inside and outside brackets.
extension RegexSyntax {
  enum Escaped {
    case scalar(Unicode.Scalar)
    case set(RegexSet)
  }

  /// What follows the backslash at `start`.
  mutating func escaped(from start: Int) throws(TokenizerError) -> Escaped {
    guard let scalar = next() else { throw refused("a backslash at the end", at: start) }
    at += 1
    switch (scalar, dialect) {
    case ("t", _): return .scalar("\t")
    case ("n", _): return .scalar("\n")
    case ("r", _): return .scalar("\r")
    case ("f", _): return .scalar("\u{C}")
    case ("v", _): return .scalar("\u{B}")
    case ("a", _): return .scalar("\u{7}")
    case ("e", .oniguruma): return .scalar("\u{1B}")
    case ("s", _): return .set(.space)
    case ("S", _): return .set(.noSpace)
    case ("d", _): return .set(.listed("\\p{Nd}"))
    case ("D", _): return .set(.listed("\\P{Nd}"))
    case ("h", .oniguruma): return .set(.hexDigit)
    case ("H", .oniguruma): return .set(RegexSet.hexDigit.negated)
    case ("p", .oniguruma), ("P", .oniguruma): return .set(try property(isNegated: scalar == "P", from: start))
    case ("u", _): return .scalar(try code(digits: 4, from: start))
    case ("U", .python): return .scalar(try code(digits: 8, from: start))
    case ("x", .oniguruma) where eat("{"):
      let value = hexDigits(atMost: 8)
      guard eat("}"), let scalar = UInt32(value, radix: 16).flatMap(Unicode.Scalar.init) else { break }
      return .scalar(scalar)
    case ("x", _):
      let scalar = try code(digits: 2, from: start)
      guard dialect == .python || scalar.isASCII else {
        throw refused("an escape of a byte above 7F is not supported", at: start)
      }
      return .scalar(scalar)
    case ("0", _) where !(next().map { ("0"..."9").contains($0) } ?? false): return .scalar("\0")
    default: if !("0"..."9").contains(scalar), !isLetter(scalar) { return .scalar(scalar) }
    }
    throw refused("\\\(scalar) is not supported", at: start)
  }

  private func isLetter(_ scalar: Unicode.Scalar) -> Bool {
    scalar.isASCII && scalar.properties.isAlphabetic
  }

  private mutating func hexDigits(atMost count: Int) -> String {
    var text = ""
    while text.utf8.count < count, let scalar = next(), scalar.properties.isASCIIHexDigit {
      text.unicodeScalars.append(scalar)
      at += 1
    }
    return text
  }

  private mutating func code(digits count: Int, from start: Int) throws(TokenizerError) -> Unicode.Scalar {
    let text = hexDigits(atMost: count)
    guard text.utf8.count == count, let scalar = UInt32(text, radix: 16).flatMap(Unicode.Scalar.init) else {
      throw refused("an escape without the \(count) digits of a character", at: start)
    }
    return scalar
  }

  /// `\p{Name}`, `\p{^Name}` and `\P{Name}`. PCRE2 takes the extensions of a script for its bare name.
  private mutating func property(isNegated: Bool, from start: Int) throws(TokenizerError) -> RegexSet {
    guard eat("{") else { throw refused("\\p without braces is not supported", at: start) }
    let negates = eat("^") != isNegated
    var name = ""
    while let scalar = next(), scalar == "_" || scalar == " " || isLetter(scalar) || ("0"..."9").contains(scalar) {
      name.unicodeScalars.append(scalar)
      at += 1
    }
    guard eat("}"), !name.lowercased().hasPrefix("x") || name.lowercased().hasPrefix("xid") else {
      throw refused("\\p{\(name)} is not supported", at: start)
    }
    let letter = negates ? "P" : "p"
    for spelling in ["sc:" + name, name] where Regex.compiles("\\p{\(spelling)}") {
      return .listed("\\\(letter){\(spelling)}")
    }
    throw refused("\\p{\(name)} is not supported", at: start)
  }
}

/// How scalars fold without regard to case, where several of them fold to one.
enum RegexFolding {
  /// The scalar's folding; nil where it has several scalars.
  static func one(_ scalar: Unicode.Scalar) -> Unicode.Scalar? {
    let folded = full(scalar)
    return folded.count == 1 ? folded[0] : nil
  }

  /// Whether the folding of some scalar begins with these two.
  static func begins(_ first: Unicode.Scalar, _ second: Unicode.Scalar) -> Bool {
    beginnings.contains([first, second])
  }

  private static func full(_ scalar: Unicode.Scalar) -> [Unicode.Scalar] {
    let lower = String(String.UnicodeScalarView([scalar])).lowercased()
    return Array(lower.uppercased().lowercased().unicodeScalars)
  }

  /// All scalars with such a folding are in these ranges.
  private static let beginnings: Set<[Unicode.Scalar]> = {
    var found: Set<[Unicode.Scalar]> = []
    for range in [0xDF...0x587, 0x1E96...0x1FFC, 0xFB00...0xFB17] as [ClosedRange<UInt32>] {
      for folded in range.lazy.compactMap(Unicode.Scalar.init).map(full) where folded.count > 1 {
        found.insert(Array(folded.prefix(2)))
      }
    }
    return found
  }()
}
