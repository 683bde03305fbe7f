/// What becomes of one key of a file that another program wrote.
package enum FieldDecision: Sendable {
  /// Read: the engine does what it says, or refuses its value.
  case honoured
  /// Read, and null is one of its values.
  case nullable
  /// Says nothing about what the engine computes, for this reason.
  case harmless(String)
  /// Not done here: another value than these is said when the file is read.
  case said([JSON], String)
  /// Another value than these is an error.
  case only([JSON], String)
}

/// The keys that a kind of file may have, each with its decision. Readers check a file against the table of its kind,
/// so that a key acts as its source says or is an error that names it. docs/fields.md is the tables in words.
package struct FieldTable: Sendable {
  /// What becomes of a key that has no row. One that is null, false or empty asks for nothing and is passed over.
  package enum Unknown: Sendable {
    /// It is an error.
    case refused
    /// It is said, unless a part of its name is one of these words of arithmetic: then it is an error.
    case said(except: Set<String>)
  }

  package struct Row: Sendable {
    /// A key that ends in `*` stands for all that begin so.
    package let keys: [String]
    package let decision: FieldDecision

    package init(_ keys: [String], _ decision: FieldDecision) {
      self.keys = keys
      self.decision = decision
    }
  }

  package let rows: [Row]
  package let unknown: Unknown
  private let exact: [String: FieldDecision]
  private let prefixes: [(String, FieldDecision)]

  /// Each key has one row.
  package init(_ rows: [Row], unknown: Unknown) {
    self.rows = rows
    self.unknown = unknown
    let pairs = rows.flatMap { row in row.keys.map { ($0, row.decision) } }
    exact = Dictionary(uniqueKeysWithValues: pairs.filter { !$0.0.hasSuffix("*") })
    prefixes = pairs.filter { $0.0.hasSuffix("*") }.map { (String($0.0.dropLast()), $0.1) }
  }

  /// All keys that have a row of their own.
  package var keys: [String] { rows.flatMap(\.keys) }

  /// The decision for a key; nil for one without a row.
  package func decision(of key: String) -> FieldDecision? {
    exact[key] ?? prefixes.first { key.hasPrefix($0.0) }?.1
  }

  /// Checks the keys of a file.
  /// - Parameters:
  ///   - keys: in file order.
  ///   - path: named in errors.
  ///   - own: decisions for this file that go before the table's.
  ///   - value: of a key.
  /// - Returns: what is to be said about the file, a sentence each.
  /// - Throws: `unsupportedModel`, `badField`, `unknownField`.
  @discardableResult
  package func check(
    _ keys: [String], path: String, own: [String: FieldDecision] = [:], value: (String) -> JSON
  ) throws(FormatError) -> [String] {
    var said: [(reason: String, fields: [String])] = []
    func say(_ field: String, _ reason: String) {
      if let at = said.firstIndex(where: { $0.reason == reason }) {
        said[at].fields.append(field)
      } else {
        said.append((reason, [field]))
      }
    }
    for key in keys {
      switch own[key] ?? decision(of: key) {
      case .nullable, .harmless: break
      case .honoured:
        guard !value(key).isNull else {
          throw .badField(path: path, field: key, value: "null", expected: "a value, or no such key")
        }
      case .only(let values, _):
        let given = value(key)
        guard values.contains(where: { given.isSameValue(as: $0) }) else {
          throw .unsupportedModel(path: path, field: key, value: given.text(), supported: values.map { $0.text() })
        }
      case .said(let values, let reason):
        let given = value(key)
        if !values.contains(where: { given.isSameValue(as: $0) }) { say("\(key) = \(given.text())", reason) }
      case nil:
        let given = value(key)
        if given.asksForNothing { continue }
        switch unknown {
        case .said(let words) where words.isDisjoint(with: FieldTable.words(of: key)):
          say(key, "no program we know of reads this; ignored")
        case .said, .refused:
          throw .unknownField(path: path, field: key, value: given.text())
        }
      }
    }
    return said.map { "\(path): \($0.fields.joined(separator: ", ")): \($0.reason)" }
  }

  /// Checks the members of an object; no object has no keys.
  @discardableResult
  package func check(_ json: JSON, path: String, own: [String: FieldDecision] = [:]) throws(FormatError) -> [String] {
    try check(json.object?.keys ?? [], path: path, own: own) { json[$0] ?? .null }
  }

  /// `ropeScale_x` has the words rope, scale and x.
  private static func words(of key: String) -> Set<String> {
    var words: Set<String> = [], word = ""
    for character in key {
      if character.isUppercase || !(character.isLetter || character.isNumber) {
        words.insert(word.lowercased())
        word = ""
      }
      if character.isLetter || character.isNumber { word.append(character) }
    }
    return words.union([word.lowercased()])
  }
}

extension JSON {
  /// Equality in which 1 and 1.0 are one number.
  package func isSameValue(as other: JSON) -> Bool {
    if let mine = double, let its = other.double { return mine == its }
    return self == other
  }

  /// The value; nil for null. (`nil` in place of a JSON is null itself.)
  package var unlessNull: JSON? { isNull ? .none : .some(self) }

  /// null, false, and empty texts, lists and objects.
  var asksForNothing: Bool {
    switch self {
    case .null, .bool(false): true
    case .string(let text): text.isEmpty
    case .array(let list): list.isEmpty
    case .object(let object): object.count == 0
    default: false
    }
  }
}
