extension JSON {
  /// Deeper nesting is refused, so that a hostile file cannot exhaust the stack.
  public static let depthLimit = 512

  /// Parses one value per RFC 8259 (no comments, no NaN, no trailing comma).
  /// - Parameters:
  ///   - bytes: UTF-8; a byte order mark in front is skipped.
  ///   - path: named in errors only.
  /// - Returns: the value. A repeated key of an object keeps its first place and last value.
  /// - Throws: `FormatError.json` with line and byte offset.
  public static func parse(_ bytes: UnsafeRawBufferPointer, path: String? = nil) throws(FormatError) -> JSON {
    var parser = JSONParser(bytes)
    do throws(JSONProblem) {
      return try parser.document()
    } catch {
      throw parser.located(error, path: path)
    }
  }

  /// Parses one value from UTF-8 bytes, as `parse(_:path:)` of a buffer does.
  public static func parse(_ bytes: [UInt8], path: String? = nil) throws(FormatError) -> JSON {
    let result: Result<JSON, FormatError> = bytes.withUnsafeBytes { buffer in
      do throws(FormatError) { return .success(try parse(buffer, path: path)) } catch { return .failure(error) }
    }
    return try result.get()
  }

  /// Parses one value from text; its errors name no file.
  public static func parse(_ text: String) throws(FormatError) -> JSON { try parse(Array(text.utf8)) }

  /// Parses a file that is one value; throws `FormatError.system` where it cannot be opened.
  public static func read(path: String) throws(FormatError) -> JSON {
    try MappedFile(path: path).withBytes { bytes throws(FormatError) in try parse(bytes, path: path) }
  }
}

/// Recursive descent over bytes; `at` is the offset of the error when a method throws.
struct JSONParser {
  private let bytes: UnsafeRawBufferPointer
  private(set) var at = 0
  /// Whether keys that occur twice and integers beyond 64 bits are errors; else the last value and the nearest double
  /// are taken, as Python does.
  private let losesNothing: Bool

  init(_ bytes: UnsafeRawBufferPointer, losesNothing: Bool = false) {
    self.bytes = bytes
    self.losesNothing = losesNothing
  }

  mutating func document() throws(JSONProblem) -> JSON {
    skipMark()
    let result = try value(depth: 0)
    try end()
    return result
  }

  /// The elements of a document that is an array, each with the offset of its first byte.
  mutating func elements() throws(JSONProblem) -> [(value: JSON, offset: Int)] {
    skipMark()
    var elements: [(value: JSON, offset: Int)] = []
    try list(depth: 0) { elements.append((value: $0, offset: $1)) }
    try end()
    return elements
  }

  /// A problem found at `at`, with its line.
  func located(_ problem: JSONProblem, path: String?) -> FormatError {
    let end = min(at, bytes.count)
    let line = 1 + bytes[0..<end].reduce(0) { $0 + ($1 == 0x0A ? 1 : 0) }
    return .json(path: path, line: line, offset: end, problem: problem)
  }

  private mutating func skipMark() {
    // A byte order mark is what some Windows editors put before the text.
    if bytes.count >= 3, bytes[0] == 0xEF, bytes[1] == 0xBB, bytes[2] == 0xBF { at = 3 }
    skipSpace()
  }

  private mutating func end() throws(JSONProblem) {
    skipSpace()
    if at != bytes.count { throw .trailingContent }
  }

  private mutating func skipSpace() {
    while at < bytes.count {
      let c = bytes[at]
      guard c == 0x20 || c == 0x0A || c == 0x0D || c == 0x09 else { return }
      at += 1
    }
  }

  private func peek() throws(JSONProblem) -> UInt8 {
    guard at < bytes.count else { throw .unexpectedEnd }
    return bytes[at]
  }

  private mutating func value(depth: Int) throws(JSONProblem) -> JSON {
    guard depth <= JSON.depthLimit else { throw .tooDeep(limit: JSON.depthLimit) }
    let first = try peek()
    switch first {
    case UInt8(ascii: "{"): return try object(depth: depth)
    case UInt8(ascii: "["): return try array(depth: depth)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
    default: throw .unexpectedByte(first)
    }
  }

  private mutating func word(_ text: StaticString, _ value: JSON) throws(JSONProblem) -> JSON {
    for i in 0..<text.utf8CodeUnitCount {
      let c = try peek()
      guard c == text.utf8Start[i] else { throw .unexpectedByte(c) }
      at += 1
    }
    return value
  }

  private mutating func array(depth: Int) throws(JSONProblem) -> JSON {
    var elements: [JSON] = []
    try list(depth: depth) { value, _ in elements.append(value) }
    return .array(elements)
  }

  /// Reads an array from its bracket on and calls `take` with each element and its offset.
  private mutating func list(depth: Int, take: (JSON, Int) -> Void) throws(JSONProblem) {
    let bracket = try peek()
    guard bracket == UInt8(ascii: "[") else { throw .unexpectedByte(bracket) }
    at += 1
    skipSpace()
    if try peek() == UInt8(ascii: "]") {
      at += 1
      return
    }
    while true {
      skipSpace()
      let offset = at
      take(try value(depth: depth + 1), offset)
      skipSpace()
      let c = try peek()
      if c == UInt8(ascii: "]") {
        at += 1
        return
      }
      guard c == UInt8(ascii: ",") else { throw .unexpectedByte(c) }
      at += 1
    }
  }

  private mutating func object(depth: Int) throws(JSONProblem) -> JSON {
    at += 1
    var members = JSONObject()
    skipSpace()
    if try peek() == UInt8(ascii: "}") {
      at += 1
      return .object(members)
    }
    while true {
      skipSpace()
      let quote = try peek()
      guard quote == UInt8(ascii: "\"") else { throw .unexpectedByte(quote) }
      let start = at
      let key = try string()
      if losesNothing, members.position(of: key) != nil {
        at = start
        throw .repeatedKey(key)
      }
      skipSpace()
      let colon = try peek()
      guard colon == UInt8(ascii: ":") else { throw .unexpectedByte(colon) }
      at += 1
      skipSpace()
      members.append(key, try value(depth: depth + 1))
      skipSpace()
      let c = try peek()
      if c == UInt8(ascii: "}") {
        at += 1
        return .object(members)
      }
      guard c == UInt8(ascii: ",") else { throw .unexpectedByte(c) }
      at += 1
    }
  }

  private mutating func string() throws(JSONProblem) -> String {
    at += 1
    let start = at
    while at < bytes.count {
      let c = bytes[at]
      if c == UInt8(ascii: "\"") {
        guard let text = String(validating: bytes[start..<at], as: UTF8.self) else { throw .badUTF8 }
        at += 1
        return text
      }
      if c == UInt8(ascii: "\\") { return try stringWithEscapes(from: start) }
      guard c >= 0x20 else { throw .controlCharacter }
      at += 1
    }
    throw .unexpectedEnd
  }

  private mutating func stringWithEscapes(from start: Int) throws(JSONProblem) -> String {
    var text = [UInt8](bytes[start..<at])
    while true {
      let c = try peek()
      if c == UInt8(ascii: "\"") {
        guard let string = String(validating: text, as: UTF8.self) else { throw .badUTF8 }
        at += 1
        return string
      }
      guard c >= 0x20 else { throw .controlCharacter }
      at += 1
      if c == UInt8(ascii: "\\") { try escape(into: &text) } else { text.append(c) }
    }
  }

  private mutating func escape(into text: inout [UInt8]) throws(JSONProblem) {
    let c = try peek()
    at += 1
    switch c {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(c)
    case UInt8(ascii: "b"): text.append(0x08)
    case UInt8(ascii: "f"): text.append(0x0C)
    case UInt8(ascii: "n"): text.append(0x0A)
    case UInt8(ascii: "r"): text.append(0x0D)
    case UInt8(ascii: "t"): text.append(0x09)
    case UInt8(ascii: "u"):
      var code = try hex4()
      if (0xD800..<0xDC00).contains(code) {
        guard at + 1 < bytes.count, bytes[at] == UInt8(ascii: "\\"), bytes[at + 1] == UInt8(ascii: "u") else {
          throw .loneSurrogate
        }
        at += 2
        let low = try hex4()
        guard (0xDC00..<0xE000).contains(low) else { throw .loneSurrogate }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = UnicodeScalar(code) else { throw .loneSurrogate }
      text.append(contentsOf: UTF8.encode(scalar)!)
    default: throw .badEscape
    }
  }

  private mutating func hex4() throws(JSONProblem) -> UInt32 {
    var code: UInt32 = 0
    for _ in 0..<4 {
      let c = try peek()
      switch c {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): code = code << 4 | UInt32(c - UInt8(ascii: "0"))
      case UInt8(ascii: "a")...UInt8(ascii: "f"): code = code << 4 | UInt32(c - UInt8(ascii: "a") + 10)
      case UInt8(ascii: "A")...UInt8(ascii: "F"): code = code << 4 | UInt32(c - UInt8(ascii: "A") + 10)
      default: throw .badEscape
      }
      at += 1
    }
    return code
  }

  private mutating func digits() throws(JSONProblem) {
    let start = at
    while at < bytes.count, bytes[at] >= UInt8(ascii: "0"), bytes[at] <= UInt8(ascii: "9") { at += 1 }
    guard at > start else { throw .badNumber }
  }

  private mutating func number() throws(JSONProblem) -> JSON {
    let start = at
    if bytes[at] == UInt8(ascii: "-") { at += 1 }
    let lead = at
    try digits()
    if bytes[lead] == UInt8(ascii: "0"), at - lead > 1 { throw .badNumber }
    var isInteger = true
    if at < bytes.count, bytes[at] == UInt8(ascii: ".") {
      isInteger = false
      at += 1
      try digits()
    }
    if at < bytes.count, bytes[at] | 0x20 == UInt8(ascii: "e") {
      isInteger = false
      at += 1
      if at < bytes.count, bytes[at] == UInt8(ascii: "+") || bytes[at] == UInt8(ascii: "-") { at += 1 }
      try digits()
    }
    if isInteger {
      if let exact = integer(start..<at) { return .int(exact) }
      guard !losesNothing else {
        at = start
        throw .inexactInteger
      }
    }
    guard let double = Double(String(decoding: bytes[start..<at], as: UTF8.self)) else { throw .badNumber }
    guard double.isFinite else { throw .numberOutOfRange }
    return .number(double)
  }

  private func integer(_ range: Range<Int>) -> Int? {
    let negative = bytes[range.lowerBound] == UInt8(ascii: "-")
    var result = 0
    for i in (negative ? range.lowerBound + 1 : range.lowerBound)..<range.upperBound {
      let (scaled, overflow) = result.multipliedReportingOverflow(by: 10)
      // Negative accumulation reaches Int.min, which the positive one cannot.
      let (sum, overflow2) = scaled.subtractingReportingOverflow(Int(bytes[i] - UInt8(ascii: "0")))
      if overflow || overflow2 { return nil }
      result = sum
    }
    if negative { return result }
    return result == Int.min ? nil : -result
  }
}
