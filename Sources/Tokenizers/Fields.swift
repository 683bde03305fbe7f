import Formats

/// A JSON object of a tokenizer file together with its place in the file, so that errors can name the field.
struct Fields {
  let file: String
  let place: String
  let json: JSON
  /// How many components this one stands in.
  var depth = 0

  /// Components in components, for a reader that calls itself; sound files have two or three.
  static let depthLimit = 16

  func name(_ key: String) -> String { place.isEmpty ? key : place + "." + key }

  func bad(_ key: String, _ expected: String) -> TokenizerError {
    guard let value = json[key] else { return .missingField(file: file, field: name(key)) }
    return .badField(file: file, field: name(key), value: Fields.shorten(value), expected: expected)
  }

  func unsupported(_ key: String, _ supported: [String]) -> TokenizerError {
    guard let value = json[key] else { return .missingField(file: file, field: name(key)) }
    return .unsupported(file: file, field: name(key), value: Fields.shorten(value), supported: supported)
  }

  static func shorten(_ value: JSON) -> String {
    let text = value.text()
    return text.utf8.count <= 80 ? text : String(text.prefix(80)) + "..."
  }

  /// Checks the keys of a component, and that it is not buried in others.
  func allow(_ keys: TokenizerKeys) throws {
    guard depth <= Fields.depthLimit else {
      throw TokenizerError.tooDeep(file: file, field: place, limit: Fields.depthLimit)
    }
    try keys.check(self)
  }

  func string(_ key: String) throws -> String {
    guard let value = json[key]?.string else { throw bad(key, "a string") }
    return value
  }

  /// nil when absent or null.
  func optionalString(_ key: String) throws -> String? {
    guard let value = json[key], !value.isNull else { return nil }
    guard let string = value.string else { throw bad(key, "a string") }
    return string
  }

  func bool(_ key: String, default fallback: Bool? = nil) throws -> Bool {
    guard let value = json[key], !value.isNull else {
      if let fallback { return fallback }
      throw bad(key, "true or false")
    }
    guard let flag = value.bool else { throw bad(key, "true or false") }
    return flag
  }

  func count(_ key: String) throws -> Int {
    guard let value = json[key]?.int, value >= 0, value <= 1 << 30 else { throw bad(key, "a count") }
    return value
  }

  func array(_ key: String) throws -> [JSON] {
    guard let value = json[key]?.array else { throw bad(key, "an array") }
    return value
  }

  /// The objects of an array field.
  func list(_ key: String) throws -> [Fields] {
    try array(key).enumerated().map { i, value in
      Fields(file: file, place: "\(name(key))[\(i)]", json: value, depth: depth + 1)
    }
  }

  /// An object field; nil when absent or null.
  func optional(_ key: String) throws -> Fields? {
    guard let value = json[key], !value.isNull else { return nil }
    guard value.object != nil else { throw bad(key, "an object") }
    return Fields(file: file, place: name(key), json: value, depth: depth + 1)
  }

  /// A `{"String": "..."}` or `{"Regex": "..."}` field.
  func pattern(_ key: String) throws -> Pattern {
    guard let value = json[key] else { throw TokenizerError.missingField(file: file, field: name(key)) }
    if let literal = value["String"]?.string {
      guard !literal.isEmpty, literal.utf8.count <= AddedToken.longest else {
        throw bad(key, "a text of 1 to \(AddedToken.longest) bytes")
      }
      return .literal(Array(literal.utf8))
    }
    if let source = value["Regex"]?.string { return .regex(try Regex(source, dialect: .oniguruma, file: file)) }
    throw unsupported(key, ["{\"String\": ...}", "{\"Regex\": ...}"])
  }
}
