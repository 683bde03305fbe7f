import CPCRE2

/// A compiled PCRE2 pattern over UTF-8 bytes with Unicode properties, just-in-time compiled where the machine can.
///
/// Patterns are written for other engines; `RegexSyntax` rewrites them for PCRE2 before they are compiled.
package final class Regex: @unchecked Sendable {
  let source: String
  private let code: OpaquePointer

  /// - Throws: `TokenizerError.regexSyntax` for what is no expression of the dialect, or cannot be matched the same.
  package init(_ source: String, dialect: RegexDialect = .python, file: String) throws(TokenizerError) {
    self.source = source
    var problem: Int32 = 0
    guard let code = Regex.compile(try RegexSyntax.translate(source, dialect, file: file), &problem) else {
      throw .regexSyntax(file: file, pattern: source, offset: nil, problem: Regex.message(problem))
    }
    self.code = code
    // Without a just-in-time compiler the interpreter matches the same, slower.
    _ = pcre2_jit_compile_8(code, UInt32(PCRE2_JIT_COMPLETE))
  }

  private static func compile(_ translated: String, _ problem: inout Int32) -> OpaquePointer? {
    let bytes = Array(translated.utf8)
    var offset = 0
    let options = UInt32(PCRE2_UTF) | UInt32(PCRE2_UCP) | UInt32(PCRE2_NEVER_BACKSLASH_C)
    return pcre2_compile_8(bytes, bytes.count, options, &problem, &offset, nil)
  }

  /// Whether PCRE2 takes a pattern of its own syntax.
  static func compiles(_ pattern: String) -> Bool {
    var problem: Int32 = 0
    guard let code = compile(pattern, &problem) else { return false }
    pcre2_code_free_8(code)
    return true
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
  let regex = try Regex("\\A(?:\(pattern))\\z", file: "regular expression")
  return try regex.matches(in: bytes).contains { $0 == 0..<bytes.count }
}
