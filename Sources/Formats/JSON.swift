/// A JSON value. Integers that fit 64 bits stay exact; objects keep the order of their keys.
public enum JSON: Sendable {
  case null
  case bool(Bool)
  case int(Int)
  case number(Double)
  case string(String)
  case array([JSON])
  case object(JSONObject)
}

/// A string compared by its UTF-8 bytes. Swift's `String` equates canonically equivalent spellings (Å and the
/// ångström sign), which are different tokens of a vocabulary.
public struct UTF8Key: Hashable, Sendable {
  public let string: String

  public init(_ string: String) { self.string = string }

  public static func == (a: UTF8Key, b: UTF8Key) -> Bool { a.string.utf8.elementsEqual(b.string.utf8) }

  public func hash(into hasher: inout Hasher) {
    var copy = string
    copy.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
  }
}

/// The members of a JSON object in file order. A repeated key keeps its first place and last value, like Python.
public struct JSONObject: Sendable {
  public private(set) var keys: [String] = []
  public private(set) var values: [JSON] = []
  /// The first key that occurred twice, for formats that forbid it.
  public private(set) var repeatedKey: String?
  private var index: [UTF8Key: Int]?
  /// Below this size a linear search is faster than hashing.
  private static let linearLimit = 8

  public init() {}

  public init(_ members: [(String, JSON)]) {
    for (key, value) in members { append(key, value) }
  }

  public var count: Int { keys.count }

  public func position(of key: String) -> Int? {
    if let index { return index[UTF8Key(key)] }
    return keys.firstIndex { $0.utf8.elementsEqual(key.utf8) }
  }

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
  public subscript(position: Int) -> JSON? {
    if case .array(let array) = self, array.indices.contains(position) { array[position] } else { nil }
  }
  public var string: String? { if case .string(let value) = self { value } else { nil } }
  public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  public var array: [JSON]? { if case .array(let value) = self { value } else { nil } }
  public var object: JSONObject? { if case .object(let value) = self { value } else { nil } }
  public var isNull: Bool { if case .null = self { true } else { false } }
  /// The integer; a double with an integral value (`1e3`, `2.0`) counts.
  public var int: Int? {
    switch self {
    case .int(let value): value
    case .number(let value): Int(exactly: value)
    default: nil
    }
  }
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
  public init(stringLiteral value: String) { self = .string(value) }
  public init(integerLiteral value: Int) { self = .int(value) }
  public init(floatLiteral value: Double) { self = .number(value) }
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  public init(nilLiteral: ()) { self = .null }
  public init(arrayLiteral elements: JSON...) { self = .array(elements) }
  public init(dictionaryLiteral elements: (String, JSON)...) { self = .object(JSONObject(elements)) }
}
