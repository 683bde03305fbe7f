/// The syntax that a regular expression is written in.
package enum RegexDialect: Sendable {
  /// Oniguruma's own, in which the tokenizers library compiles the patterns of tokenizer.json.
  case oniguruma
  /// That of Python's `re`, in which PEFT compiles names of modules.
  case python
}

/// Rewrites a regular expression for PCRE2, in one pass. What PCRE2 cannot do the same is refused by name.
///
/// Sources: Oniguruma 6.9 doc/RE and regparse.c; the library reference of Python's `re`.
struct RegexSyntax {
  let dialect: RegexDialect
  private let source: String
  private let file: String
  let scalars: [Unicode.Scalar]
  var at = 0
  var caseless = false
  private var dotAll = false
  private var perLine: Bool
  private var depth = 0
  /// Whether something that takes up text, or a second alternative, was read.
  private var hasBegun = false
  private var hasNames = false
  private var hasBackreferences = false
  /// The literal just before, folded, where caseless matching could join it with the next one.
  private var lastFolded: Unicode.Scalar?

  /// PCRE2 takes no more either.
  private static let depthLimit = 200

  private init(_ source: String, _ dialect: RegexDialect, _ file: String) {
    self.source = source
    self.dialect = dialect
    self.file = file
    scalars = Array(source.unicodeScalars)
    perLine = dialect == .oniguruma
  }

  /// - Throws: `TokenizerError.regexSyntax` for what is no expression of the dialect, or cannot be said in PCRE2.
  static func translate(_ source: String, _ dialect: RegexDialect, file: String) throws(TokenizerError) -> String {
    var syntax = RegexSyntax(source, dialect, file)
    let text = try syntax.alternatives()
    guard syntax.at == syntax.scalars.count else { throw syntax.refused("a closing parenthesis without its opening") }
    guard !(syntax.hasNames && syntax.hasBackreferences && dialect == .oniguruma) else {
      throw syntax.refused("a numbered backreference beside named groups is not supported")
    }
    return text
  }

  /// A refusal at a place in the pattern.
  func refused(_ problem: String, at place: Int? = nil) -> TokenizerError {
    let offset = scalars[..<min(place ?? at, scalars.count)].reduce(0) { $0 + UTF8.width($1) }
    return .regexSyntax(file: file, pattern: source, offset: offset, problem: problem)
  }

  func next(_ ahead: Int = 0) -> Unicode.Scalar? { at + ahead < scalars.count ? scalars[at + ahead] : nil }

  mutating func eat(_ text: String) -> Bool {
    guard scalars[at...].starts(with: text.unicodeScalars) else { return false }
    at += text.unicodeScalars.count
    return true
  }

  mutating func nest<T>(_ body: (inout RegexSyntax) throws(TokenizerError) -> T) throws(TokenizerError) -> T {
    depth += 1
    guard depth <= RegexSyntax.depthLimit else { throw refused("more than \(RegexSyntax.depthLimit) levels") }
    defer { depth -= 1 }
    return try body(&self)
  }

  // MARK: Sequences

  private mutating func alternatives() throws(TokenizerError) -> String {
    try nest { (self) throws(TokenizerError) in
      var text = try self.sequence()
      while self.eat("|") {
        (self.hasBegun, self.lastFolded) = (true, nil)
        text += "|" + (try self.sequence())
      }
      return text
    }
  }

  private mutating func sequence() throws(TokenizerError) -> String {
    var text = ""
    while let scalar = next(), scalar != "|", scalar != ")" {
      let (atom, repeats) = try self.atom()
      text += try quantified(atom, repeats: repeats)
    }
    return text
  }

  /// The next atom, and whether a quantifier may follow.
  private mutating func atom() throws(TokenizerError) -> (String, repeats: Bool) {
    let start = at
    let scalar = scalars[at]
    if scalar == "(" { return try group() }
    at += 1
    switch scalar {
    case "^": return (perLine ? "(?m:^)" : "\\A", false)
    case "$": return (perLine ? "(?m:$)" : "\\Z", false)
    case "\\": return try escape()
    case "*", "+", "?": throw refused("nothing to repeat", at: start)
    case "{":
      at = start
      guard interval() == nil else { throw refused("nothing to repeat", at: start) }
      at = start + 1
    case ".":
      taken()
      return (dotAll ? "(?s:.)" : "[^\\n]", true)
    case "[":
      let set = try nest { (self) throws(TokenizerError) in try self.characterClass() }
      taken()
      return (set.pattern, true)
    default: break
    }
    return (try literal(scalar, at: start), true)
  }

  private mutating func taken() { (hasBegun, lastFolded) = (true, nil) }

  /// A scalar that stands for itself. Oniguruma folds several characters into one ("ss" and "ß"); PCRE2 does not.
  private mutating func literal(_ scalar: Unicode.Scalar, at place: Int) throws(TokenizerError) -> String {
    let before = lastFolded
    taken()
    guard caseless, dialect == .oniguruma else { return RegexSet.literal(scalar) }
    guard let folded = RegexFolding.one(scalar) else {
      throw refused("\(scalar) without regard to case folds to several characters, which is not supported", at: place)
    }
    if let before, RegexFolding.begins(before, folded) {
      throw refused(
        "\(before)\(folded) without regard to case folds to one character, which is not supported", at: place)
    }
    lastFolded = folded
    return RegexSet.literal(scalar)
  }

  // MARK: Quantifiers

  private mutating func quantified(_ atom: String, repeats: Bool) throws(TokenizerError) -> String {
    var text = atom
    var count = 0
    var isLazy = false
    while true {
      let start = at
      guard let (quantifier, lazy) = quantifier() else { return text }
      guard repeats else { throw refused("nothing to repeat", at: start) }
      count += 1
      isLazy = isLazy || lazy
      if count > 1 {
        guard dialect == .oniguruma else { throw refused("a quantifier of a quantifier", at: start) }
        guard !isLazy else { throw refused("a lazy quantifier beside another is not supported", at: start) }
        text = "(?:\(text))"
      }
      text += quantifier
    }
  }

  private mutating func quantifier() -> (String, isLazy: Bool)? {
    if let (low, high) = interval() {
      let text = low == high ? "{\(low)}" : "{\(low),\(high)}"
      // Oniguruma's `{n}?` is a greedy `?` of `{n}`, and its `{n,m}+` a `+` of `{n,m}`.
      if dialect == .oniguruma, low == high { return (text, false) }
      if eat("?") { return (text + "?", true) }
      return (dialect == .python && eat("+") ? text + "+" : text, false)
    }
    guard let scalar = next(), scalar == "*" || scalar == "+" || scalar == "?" else { return nil }
    at += 1
    if eat("?") { return ("\(scalar)?", true) }
    return (eat("+") ? "\(scalar)+" : "\(scalar)", false)
  }

  /// `{n}`, `{n,}`, `{,n}` or `{n,m}` as its digits. Anything else in braces stands for itself.
  private mutating func interval() -> (low: String, high: String)? {
    guard next() == "{" else { return nil }
    let start = at
    at += 1
    let low = digits()
    let hasComma = eat(",")
    let high = hasComma ? digits() : low
    guard eat("}"), hasComma || !low.isEmpty, dialect == .python || !(low.isEmpty && high.isEmpty) else {
      at = start
      return nil
    }
    return (low.isEmpty ? "0" : low, high)
  }

  private mutating func digits() -> String {
    var text = ""
    while let scalar = next(), ("0"..."9").contains(scalar) {
      text.unicodeScalars.append(scalar)
      at += 1
    }
    return text
  }

  // MARK: Groups

  private mutating func group() throws(TokenizerError) -> (String, repeats: Bool) {
    let start = at
    at += 1
    if next() == "*" { throw refused("(* is not supported", at: start) }
    guard eat("?") else { return (try closed("(", from: start), true) }
    for opening in ["<=", "<!", "=", "!", ":", ">"] where eat(opening) {
      return (try closed("(?\(opening)", from: start), opening == ":" || opening == ">")
    }
    if eat("#") {
      while let scalar = next(), scalar != ")", scalar != "\\" { at += 1 }
      guard eat(")") else { throw refused("a comment without its end", at: start) }
      return ("", false)
    }
    if let name = groupName() {
      hasNames = true
      // A named group is numbered in Python alone, where a backreference can find it.
      return (try closed(dialect == .python ? "(?P<\(name)>" : "(?:", from: start), true)
    }
    if dialect == .python, eat("P=") {
      let name = word()
      guard !name.isEmpty, eat(")") else { throw refused("a backreference without a name", at: start) }
      taken()
      return ("(?P=\(name))", true)
    }
    return try options(from: start)
  }

  private mutating func groupName() -> String? {
    let start = at
    let quotes = dialect == .python ? [("P<", ">")] : [("<", ">"), ("'", "'")]
    for (opening, ending) in quotes where eat(opening) {
      let name = word()
      if !name.isEmpty, eat(ending) { return name }
    }
    at = start
    return nil
  }

  private mutating func word() -> String {
    var text = ""
    while let scalar = next(), scalar == "_" || scalar.isASCII && scalar.properties.isAlphabetic || isDigit(scalar) {
      text.unicodeScalars.append(scalar)
      at += 1
    }
    return text
  }

  private func isDigit(_ scalar: Unicode.Scalar) -> Bool { ("0"..."9").contains(scalar) }

  /// `(?i)`, which holds up to the end of the group around it with all alternatives that follow, or `(?i:...)`.
  private mutating func options(from start: Int) throws(TokenizerError) -> (String, repeats: Bool) {
    var isOn = true
    let before = (caseless, dotAll, perLine)
    while let scalar = next(), scalar != ":", scalar != ")" {
      switch (scalar, dialect) {
      case ("-", _) where isOn: isOn = false
      case ("i", _): caseless = isOn
      case ("m", .oniguruma), ("s", .python): dotAll = isOn
      case ("m", .python): perLine = isOn
      case ("u", .python) where isOn: break
      default:
        let end = scalars[at...].firstIndex { $0 == ":" || $0 == ")" } ?? at
        let spelling = scalars[start...end].prefix(12).map(String.init).joined()
        throw refused("\(spelling) is not supported", at: start)
      }
      at += 1
    }
    let isBare = next() == ")"
    guard eat(":") || eat(")") else { throw refused("a group without its end", at: start) }
    if isBare, dialect == .python, hasBegun {
      throw refused("flags that are not at the start of the expression", at: start)
    }
    let opening = caseless == before.0 ? "(?:" : caseless ? "(?i:" : "(?-i:"
    let text = isBare ? opening + (try alternatives()) + ")" : try closed(opening, from: start)
    (caseless, dotAll, perLine) = before
    return (text, !isBare)
  }

  private mutating func closed(_ opening: String, from start: Int) throws(TokenizerError) -> String {
    let before = (caseless, dotAll, perLine)
    let text = opening + (try alternatives()) + ")"
    guard eat(")") else { throw refused("a group without its end", at: start) }
    (caseless, dotAll, perLine) = before
    return text
  }

  // MARK: Escapes

  private mutating func escape() throws(TokenizerError) -> (String, repeats: Bool) {
    let start = at - 1
    guard let scalar = next() else { throw refused("a backslash at the end", at: start) }
    switch (scalar, dialect) {
    case ("A", _): return (anchor("\\A"), false)
    case ("z", _), ("Z", .python): return (anchor("\\z"), false)
    case ("Z", .oniguruma): return (anchor("\\Z"), false)
    case ("b", _), ("B", _):
      let word = RegexSet.wordOutside(dialect).pattern
      let (after, start) = scalar == "B" ? ("=", "!") : ("!", "=")
      return (anchor("(?:(?<=\(word))(?\(after)\(word))|(?<!\(word))(?\(start)\(word)))"), false)
    case ("R", .oniguruma):
      at += 1
      taken()
      return ("(?>\\r\\n|[\\n-\\r\\x{85}\\x{2028}\\x{2029}])", true)
    case ("w", _), ("W", _):
      at += 1
      taken()
      return ((scalar == "w" ? RegexSet.wordOutside(dialect) : RegexSet.wordOutside(dialect).negated).pattern, true)
    case ("1"..."9", _):
      at += 1
      guard next().map(isDigit) != true else {
        throw refused("an escape of several digits is not supported", at: start)
      }
      guard !caseless || dialect == .python else {
        throw refused("a backreference without regard to case is not supported", at: start)
      }
      hasBackreferences = true
      taken()
      return ("\\g{\(scalar)}", true)
    default: break
    }
    switch try escaped(from: start) {
    case .set(let set):
      taken()
      return (set.pattern, true)
    case .scalar(let scalar): return (try literal(scalar, at: start), true)
    }
  }

  private mutating func anchor(_ text: String) -> String {
    at += 1
    return text
  }
}
