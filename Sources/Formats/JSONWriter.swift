extension JSON {
  /// How to lay out text.
  public enum Style: Sendable {
    /// No spaces, UTF-8 as it is.
    case compact
    /// Python's `json.dumps(value, indent=2, sort_keys=True)`, byte for byte, without a final newline.
    case python
    /// Like `python`, keys in their own order.
    case pythonUnsorted
  }

  /// Non-finite numbers, which JSON cannot spell, become `null`.
  public func text(_ style: Style = .compact) -> String {
    var out: [UInt8] = []
    write(style, indent: 0, into: &out)
    return String(decoding: out, as: UTF8.self)
  }

  private func write(_ style: Style, indent: Int, into out: inout [UInt8]) {
    switch self {
    case .null: out += "null".utf8
    case .bool(let value): out += (value ? "true" : "false").utf8
    case .int(let value): out += String(value).utf8
    case .number(let value): out += (value.isFinite ? JSON.pythonSpelling(value) : "null").utf8
    case .string(let value): JSON.quote(value, ascii: style != .compact, into: &out)
    case .array(let elements):
      JSON.bracket("[", "]", elements.count, style, indent, &out) { i, out in
        elements[i].write(style, indent: indent + 1, into: &out)
      }
    case .object(let object):
      var order = Array(0..<object.count)
      if case .python = style {
        // Python orders by code points; UTF-8 bytes order the same way.
        order.sort { object.keys[$0].utf8.lexicographicallyPrecedes(object.keys[$1].utf8) }
      }
      JSON.bracket("{", "}", object.count, style, indent, &out) { i, out in
        JSON.quote(object.keys[order[i]], ascii: style != .compact, into: &out)
        out += (style == .compact ? ":" : ": ").utf8
        object.values[order[i]].write(style, indent: indent + 1, into: &out)
      }
    }
  }

  private static func bracket(
    _ open: Character, _ close: Character, _ count: Int, _ style: Style, _ indent: Int, _ out: inout [UInt8],
    _ element: (Int, inout [UInt8]) -> Void
  ) {
    func newline(_ depth: Int, _ out: inout [UInt8]) {
      if style == .compact { return }
      out.append(0x0A)
      out.append(contentsOf: repeatElement(0x20, count: 2 * depth))
    }
    out.append(open.asciiValue!)
    for i in 0..<count {
      if i > 0 { out.append(UInt8(ascii: ",")) }
      newline(indent + 1, &out)
      element(i, &out)
    }
    if count > 0 { newline(indent, &out) }
    out.append(close.asciiValue!)
  }

  private static func quote(_ text: String, ascii: Bool, into out: inout [UInt8]) {
    out.append(UInt8(ascii: "\""))
    for scalar in text.unicodeScalars {
      switch scalar.value {
      case 0x22: out += "\\\"".utf8
      case 0x5C: out += "\\\\".utf8
      case 0x08: out += "\\b".utf8
      case 0x0C: out += "\\f".utf8
      case 0x0A: out += "\\n".utf8
      case 0x0D: out += "\\r".utf8
      case 0x09: out += "\\t".utf8
      case 0x20..<0x7F: out.append(UInt8(scalar.value))
      case 0x7F where ascii: out.append(0x7F)
      case let code where code < 0x20 || ascii:
        for unit in UTF16.encode(scalar)! {
          let hex = String(unit, radix: 16)
          out += "\\u".utf8
          out.append(contentsOf: repeatElement(UInt8(ascii: "0"), count: 4 - hex.utf8.count))
          out += hex.utf8
        }
      default: out.append(contentsOf: UTF8.encode(scalar)!)
      }
    }
    out.append(UInt8(ascii: "\""))
  }

  /// Python's `repr` of a finite double: shortest digits that read back the same, exponent form below 1e-4 and
  /// from 1e16 on, exponent of at least two digits.
  public static func pythonSpelling(_ value: Double) -> String {
    if value == 0 { return value.sign == .minus ? "-0.0" : "0.0" }
    // Swift finds the same shortest digits; only the placement of point and exponent differs.
    var mantissa = "\(value.magnitude)"[...]
    var exponent = 0
    if let e = mantissa.firstIndex(of: "e") {
      exponent = Int(mantissa[mantissa.index(after: e)...]) ?? 0
      mantissa = mantissa[..<e]
    }
    var digits = Array(mantissa.utf8)
    var point = digits.count
    if let dot = digits.firstIndex(of: UInt8(ascii: ".")) {
      digits.remove(at: dot)
      point = dot
    }
    point += exponent
    let zeros = digits.prefix { $0 == UInt8(ascii: "0") }.count
    digits.removeFirst(zeros)
    point -= zeros
    while digits.count > 1, digits.last == UInt8(ascii: "0") { digits.removeLast() }
    let all = String(decoding: digits, as: UTF8.self)
    let sign = value < 0 ? "-" : ""
    if point > -4 && point <= 16 {
      if point <= 0 { return sign + "0." + String(repeating: "0", count: -point) + all }
      if point >= digits.count { return sign + all + String(repeating: "0", count: point - digits.count) + ".0" }
      return sign + all.prefix(point) + "." + all.dropFirst(point)
    }
    let power = point - 1
    let tail = digits.count > 1 ? "." + all.dropFirst() : ""
    let number = abs(power) < 10 ? "0\(abs(power))" : "\(abs(power))"
    return sign + all.prefix(1) + tail + (power < 0 ? "e-" : "e+") + number
  }
}
