import CPCRE2

/// A compiled PCRE2 pattern over UTF-8 bytes with Unicode properties, just-in-time compiled where the machine can.
///
/// Tokenizer files hold patterns for Oniguruma (tokenizers) or Rust's regex. PCRE2 differs from both in what
/// `\s` and `\w` mean (`\s` has U+180E and not U+0085; `\w` no marks), so these are spelled out before compiling.
package final class Regex: @unchecked Sendable {
  let source: String
  private let code: OpaquePointer

  package init(_ source: String, file: String) throws(TokenizerError) {
    self.source = source
    let translated = Array(Regex.translate(source).utf8)
    var problem: Int32 = 0
    var offset = 0
    let options = UInt32(PCRE2_UTF) | UInt32(PCRE2_UCP) | UInt32(PCRE2_NEVER_BACKSLASH_C)
    guard let code = pcre2_compile_8(translated, translated.count, options, &problem, &offset, nil) else {
      throw .regexSyntax(file: file, pattern: source, offset: offset, problem: Regex.message(problem))
    }
    self.code = code
    // Without a just-in-time compiler the interpreter matches the same, slower.
    _ = pcre2_jit_compile_8(code, UInt32(PCRE2_JIT_COMPLETE))
  }

  deinit { pcre2_code_free_8(code) }

  /// Steps that the first try of a match may take. A match that needs more is tried again with more.
  private static let fewSteps: UInt32 = 4096
  /// Steps that all tries together may take which need more than few: so many and some for each byte of the text.
  private static let budget = 40_000_000

  /// All matches from left to right, as byte ranges; an empty match moves on by one character.
  /// - Throws: `regexMatch`, also for a pattern that needs too many steps on this text, whatever the machine's speed.
  package func matches(in text: [UInt8]) throws(TokenizerError) -> [Range<Int>] {
    guard !text.isEmpty else { return [] }
    guard let data = pcre2_match_data_create_8(1, nil), let context = pcre2_match_context_create_8(nil) else {
      throw .regexMatch(pattern: source, problem: "out of memory")
    }
    var stack: OpaquePointer?
    defer {
      pcre2_match_data_free_8(data)
      pcre2_match_context_free_8(context)
      pcre2_jit_stack_free_8(stack)
    }
    var found: [Range<Int>] = []
    var failure: Int32 = 0
    var left = Regex.budget + 100 * text.count
    text.withUnsafeBufferPointer { buffer in
      let vector = pcre2_get_ovector_pointer_8(data)!
      var at = 0
      var steps = Regex.fewSteps
      while at <= buffer.count {
        pcre2_set_match_limit_8(context, steps)
        // The bytes are valid UTF-8; checking them again at every match would take quadratic time.
        let count = pcre2_match_8(code, buffer.baseAddress, buffer.count, at, UInt32(PCRE2_NO_UTF_CHECK), data, context)
        if count == PCRE2_ERROR_MATCHLIMIT, left > 0 {
          steps = steps > UInt32(Int32.max) / 8 ? steps : steps * 8
          left -= Int(steps)
          continue
        }
        if count == PCRE2_ERROR_NOMATCH { return }
        if count == PCRE2_ERROR_JIT_STACKLIMIT, stack == nil {
          // Rarely needed and dear to make: the standard stack has 32 KiB.
          stack = pcre2_jit_stack_create_8(32 << 10, 64 << 20, nil)
          if let stack {
            pcre2_jit_stack_assign_8(context, nil, UnsafeMutableRawPointer(stack))
            continue
          }
        }
        if count < 0 {
          failure = count
          return
        }
        steps = Regex.fewSteps
        let start = vector[0], end = vector[1]
        guard start <= end, end <= buffer.count else { return }  // \K can put the start behind the end
        if end > start {
          found.append(start..<end)
          at = end
        } else {
          found.append(start..<start)
          at = start + 1
          while at < buffer.count, buffer[at] & 0xC0 == 0x80 { at += 1 }
        }
      }
    }
    if failure == PCRE2_ERROR_MATCHLIMIT {
      throw .regexMatch(pattern: source, problem: "takes too many steps on a text of \(text.count) bytes")
    }
    if failure != 0 { throw .regexMatch(pattern: source, problem: Regex.message(failure)) }
    return found
  }

  private static func message(_ code: Int32) -> String {
    var buffer = [UInt8](repeating: 0, count: 256)
    let count = pcre2_get_error_message_8(code, &buffer, buffer.count)
    return count < 0 ? "error \(code)" : String(decoding: buffer.prefix(Int(count)), as: UTF8.self)
  }

  /// Code points with the property White_Space, and all others.
  private static let space =
    "\\t-\\r\\x20\\x85\\xA0\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
  private static let noSpace =
    "\\x00-\\x08\\x0E-\\x1F\\x21-\\x84\\x86-\\x9F\\xA1-\\x{167F}\\x{1681}-\\x{1FFF}\\x{200B}-\\x{2027}"
    + "\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}\\x{3001}-\\x{10FFFF}"
  private static let word = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"

  /// Spells out `\s`, `\S`, `\w` and `\W`; `\W` inside brackets stays PCRE2's, since properties have no complement
  /// that could be listed there.
  static func translate(_ source: String) -> String {
    var out = ""
    var inBrackets = false
    var scalars = source.unicodeScalars.makeIterator()
    while let scalar = scalars.next() {
      switch scalar {
      case "\\":
        guard let escaped = scalars.next() else {
          out.unicodeScalars.append(scalar)
          break
        }
        switch (escaped, inBrackets) {
        case ("s", true): out += space
        case ("s", false): out += "[\(space)]"
        case ("S", true): out += noSpace
        case ("S", false): out += "[\(noSpace)]"
        case ("w", true): out += word
        case ("w", false): out += "[\(word)]"
        case ("W", false): out += "[^\(word)]"
        default:
          out.unicodeScalars.append(scalar)
          out.unicodeScalars.append(escaped)
        }
        continue
      case "[": inBrackets = true
      case "]": inBrackets = false
      default: break
      }
      out.unicodeScalars.append(scalar)
    }
    return out
  }
}

/// What a component looks for: fixed bytes or a regular expression.
enum Pattern: Sendable {
  case literal([UInt8])
  case regex(Regex)

  func matches(in text: [UInt8]) throws(TokenizerError) -> [Range<Int>] {
    switch self {
    case .regex(let regex): return try regex.matches(in: text)
    case .literal(let wanted):
      guard !wanted.isEmpty, wanted.count <= text.count else { return [] }
      var found: [Range<Int>] = []
      var at = 0
      while at + wanted.count <= text.count {
        if text[at] == wanted[0], text[at..<at + wanted.count].elementsEqual(wanted) {
          found.append(at..<at + wanted.count)
          at += wanted.count
        } else {
          at += 1
        }
      }
      return found
    }
  }
}

/// Whether a Python-style regular expression matches the whole of a text, as `re.fullmatch` does.
/// An empty text matches no pattern here.
/// - Throws: `TokenizerError.regexSyntax` for an invalid pattern, `TokenizerError.regexMatch` where matching fails.
public func fullMatch(pattern: String, text: String) throws -> Bool {
  let bytes = Array(text.utf8)
  let regex = try Regex("^(?:\(pattern))\\z", file: "regular expression")
  return try regex.matches(in: bytes).contains { $0 == 0..<bytes.count }
}
