/// A JSON value. Integers that fit 64 bits stay exact; objects keep the order of their keys.
public enum JSON: Sendable {
  /// The word `null`.
  case null
  /// The word `true` or `false`.
  case bool(Bool)
  /// An integer of 64 bits.
  case int(Int)
  /// A number with a fraction or an exponent, or one that `int` cannot hold.
  case number(Double)
  /// Text without its escapes.
  case string(String)
  /// Values in order.
  case array([JSON])
  /// Members in file order.
  case object(JSONObject)
}

/// A string compared by its UTF-8 bytes. Swift's `String` equates canonically equivalent spellings (Å and the
/// ångström sign), which are different tokens of a vocabulary.
public struct UTF8Key: Hashable, Sendable {
  /// The string as it was given.
  public let string: String

  /// A key for `string`, which is not normalized.
  public init(_ string: String) { self.string = string }

  /// Whether the UTF-8 bytes are the same.
  public static func == (a: UTF8Key, b: UTF8Key) -> Bool { a.string.utf8.elementsEqual(b.string.utf8) }

  /// Hashes the UTF-8 bytes.
  public func hash(into hasher: inout Hasher) {
    var copy = string
    copy.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
  }
}

/// The members of a JSON object in file order. A repeated key keeps its first place and last value, like Python.
public struct JSONObject: Sendable {
  /// The keys in file order, each once.
  public private(set) var keys: [String] = []
  /// The values in the order of `keys`.
  public private(set) var values: [JSON] = []
  /// The first key that occurred twice, for formats that forbid it.
  public private(set) var repeatedKey: String?
  private var index: [UTF8Key: Int]?
  /// Below this size a linear search is faster than hashing.
  private static let linearLimit = 8

  /// An object without members.
  public init() {}

  /// An object of these members; a repeated key keeps its first place and last value.
  public init(_ members: [(String, JSON)]) {
    for (key, value) in members { append(key, value) }
  }

  /// The number of members.
  public var count: Int { keys.count }

  /// The index of a key in `keys`; nil for an absent one. Keys compare by their UTF-8 bytes.
  public func position(of key: String) -> Int? {
    if let index { return index[UTF8Key(key)] }
    return keys.firstIndex { $0.utf8.elementsEqual(key.utf8) }
  }

  /// The value of a key; nil for an absent one. Setting appends a new key and keeps the place of a known one; setting
  /// nil removes the member.
  public subscript(key: String) -> JSON? {
    get { position(of: key).map { values[$0] } }
    set {
      if let newValue {
        if let at = position(of: key) { values[at] = newValue } else { append(key, newValue) }
      } else if let at = position(of: key) {
        keys.remove(at: at)
        values.remove(at: at)
        index = nil
        if keys.count > JSONObject.linearLimit { buildIndex() }
      }
    }
  }

  mutating func append(_ key: String, _ value: JSON) {
    if let at = position(of: key) {
      if repeatedKey == nil { repeatedKey = key }
      values[at] = value
      return
    }
    keys.append(key)
    values.append(value)
    if index != nil {
      index![UTF8Key(key)] = keys.count - 1
    } else if keys.count > JSONObject.linearLimit {
      buildIndex()
    }
  }

  private mutating func buildIndex() {
    var made: [UTF8Key: Int] = [:]
    made.reserveCapacity(keys.count * 2)
    for (i, key) in keys.enumerated() { made[UTF8Key(key)] = i }
    index = made
  }
}

extension JSONObject: Sequence {
  /// Iterates over pairs of key and value in file order.
  public func makeIterator() -> Zip2Sequence<[String], [JSON]>.Iterator { zip(keys, values).makeIterator() }
}

extension JSON: Equatable {
  /// Strings and keys compare by bytes; the order of an object's keys does not matter.
  public static func == (a: JSON, b: JSON) -> Bool {
    switch (a, b) {
    case (.null, .null): true
    case (.bool(let x), .bool(let y)): x == y
    case (.int(let x), .int(let y)): x == y
    case (.number(let x), .number(let y)): x == y
    case (.string(let x), .string(let y)): x.utf8.elementsEqual(y.utf8)
    case (.array(let x), .array(let y)): x == y
    case (.object(let x), .object(let y)): x.count == y.count && x.allSatisfy { y[$0.0] == $0.1 }
    default: false
    }
  }
}

extension JSON {
  /// A member of an object; nil for an absent key and for any other kind of value.
  public subscript(key: String) -> JSON? {
    if case .object(let object) = self { object[key] } else { nil }
  }
  /// An element of an array; nil for a position outside it and for any other kind of value.
  public subscript(position: Int) -> JSON? {
    if case .array(let array) = self, array.indices.contains(position) { array[position] } else { nil }
  }
  /// The text of a string; nil for any other kind of value.
  public var string: String? { if case .string(let value) = self { value } else { nil } }
  /// The truth value; nil for any other kind of value, numbers too.
  public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  /// The elements of an array; nil for any other kind of value.
  public var array: [JSON]? { if case .array(let value) = self { value } else { nil } }
  /// The members of an object; nil for any other kind of value.
  public var object: JSONObject? { if case .object(let value) = self { value } else { nil } }
  /// Whether the value is `null`.
  public var isNull: Bool { if case .null = self { true } else { false } }
  /// The integer; a double with an integral value (`1e3`, `2.0`) counts.
  public var int: Int? {
    switch self {
    case .int(let value): value
    case .number(let value): Int(exactly: value)
    default: nil
    }
  }
  /// The number, an integer rounded to the nearest double; nil for any other kind of value.
  public var double: Double? {
    switch self {
    case .int(let value): Double(value)
    case .number(let value): value
    default: nil
    }
  }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
  ExpressibleByBooleanLiteral, ExpressibleByNilLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  /// A string.
  public init(stringLiteral value: String) { self = .string(value) }
  /// An integer.
  public init(integerLiteral value: Int) { self = .int(value) }
  /// A double.
  public init(floatLiteral value: Double) { self = .number(value) }
  /// A truth value.
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  /// The value `null`.
  public init(nilLiteral: ()) { self = .null }
  /// An array.
  public init(arrayLiteral elements: JSON...) { self = .array(elements) }
  /// An object in the order of the literal; a repeated key keeps its last value.
  public init(dictionaryLiteral elements: (String, JSON)...) { self = .object(JSONObject(elements)) }
}
