@preconcurrency import CEdit
@preconcurrency import Glibc

/// Lines from the terminal: edited with libedit, with history and completion where the terminal can, read plainly where
/// it cannot or where input is a file.
final class LineEditor {
  enum Line {
    case text(String)
    case interrupted
    case end
  }

  /// Candidates for the text before the cursor: where the replaced part starts (bytes), and what may stand there.
  typealias Completer = (_ text: String) -> (start: Int, candidates: [String])

  private let edits: Bool
  private let historyPath: String?
  /// libedit's callback has no context: what Tab asks.
  nonisolated(unsafe) private static var completer: Completer?

  init() {
    let terminal = getenv("TERM").map { String(cString: $0) } ?? ""
    edits = isatty(0) == 1 && isatty(1) == 1 && !terminal.isEmpty && terminal != "dumb"
    historyPath = edits ? LineEditor.historyFile() : nil
    guard edits else { return }
    // libedit takes letters beyond ASCII only where the locale has them; nothing else follows the locale.
    setlocale(LC_CTYPE, "")
    if String(cString: nl_langinfo(Int32(CODESET))) != "UTF-8" { setlocale(LC_CTYPE, "C") }
    edit_start()
    using_history()
    stifle_history(1000)
    if let historyPath { _ = read_history(historyPath) }
    LineEditor.installCompletion()
  }

  /// `$QLORA_HISTORY`, else `qlora/history` in the state directory of the XDG specification, made when absent.
  private static func historyFile() -> String? {
    if let path = getenv("QLORA_HISTORY") { return String(cString: path) }
    func variable(_ name: String) -> String? {
      getenv(name).map { String(cString: $0) }.flatMap { $0.hasPrefix("/") ? $0 : nil }
    }
    guard let base = variable("XDG_STATE_HOME") ?? variable("HOME").map({ $0 + "/.local/state" }) else { return nil }
    var path = ""
    for part in (base + "/qlora").split(separator: "/") {
      path += "/" + part
      mkdir(path, 0o700)
    }
    return path + "/history"
  }

  /// Reads a line; Ctrl-C gives `interrupted`, the end of input `end`.
  func read(_ prompt: String, _ completer: @escaping Completer) -> Line {
    while true {
      Interrupts.wake = 0
      guard let raw = edits ? edited(prompt, completer) : plain(prompt) else {
        switch Interrupts.wake {
        case SIGINT: return .interrupted
        case SIGCONT: continue  // the program was stopped and goes on: the line starts again
        default: return .end
        }
      }
      defer { free(raw) }
      return .text(String(cString: raw))
    }
  }

  private func edited(_ prompt: String, _ completer: @escaping Completer) -> UnsafeMutablePointer<CChar>? {
    LineEditor.completer = completer
    defer { LineEditor.completer = nil }
    rl_resize_terminal()
    return readline(prompt)
  }

  private func plain(_ prompt: String) -> UnsafeMutablePointer<CChar>? {
    if isatty(0) == 1 {
      fputs(prompt, stdout)
      fflush(stdout)
    }
    var line: UnsafeMutablePointer<CChar>?
    var capacity = 0
    let count = getline(&line, &capacity, stdin)
    guard count >= 0, let line else {
      clearerr(stdin)
      free(line)
      return nil
    }
    if count > 0, line[count - 1] == 10 { line[count - 1] = 0 }
    return line
  }

  /// Remembers a statement, at once on disk: a session that is killed loses none.
  func remember(_ statement: String) {
    guard edits, !statement.isEmpty else { return }
    let last = history_get(history_base + history_length - 1)
    if let last, String(cString: last.pointee.line) == statement { return }
    _ = add_history(statement)
    if let historyPath { _ = write_history(historyPath) }
  }

  // MARK: Tab

  private static func installCompletion() {
    // libedit's word: letters, digits and underscores before the cursor.
    let others = (9..<127).filter { isalnum($0) == 0 && $0 != 95 }.map { CChar($0) }
    rl_basic_word_break_characters = UnsafePointer(strdup(others + [0]))
    rl_attempted_completion_function = { _, start, end in
      rl_attempted_completion_over = 1  // never falls back to file names
      return LineEditor.matches(LineEditor.candidates(wordStart: Int(start), cursor: Int(end)))
    }
    rl_completion_append_character = 0
  }

  /// What may stand in place of libedit's word, which begins at or after the part that the candidates replace.
  private static func candidates(wordStart: Int, cursor: Int) -> [String] {
    guard let completer, let raw = edit_line() else { return [] }
    let text = Array(String(cString: raw).utf8).prefix(max(0, cursor))
    // At the start of a line Tab indents.
    if text.allSatisfy({ $0 == 32 || $0 == 9 }) { return ["  "] }
    let (start, candidates) = completer(String(decoding: text, as: UTF8.self))
    guard start >= 0, start <= wordStart else { return [] }
    return candidates.map { String(decoding: $0.utf8.dropFirst(wordStart - start), as: UTF8.self) }
  }

  /// The candidates as libedit takes them: what they share, each of them, nil.
  private static func matches(_ found: [String]) -> UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? {
    guard let first = found.first else { return nil }
    let shared = found.dropFirst().reduce(Array(first.utf8)) { common, candidate in
      zip(common, candidate.utf8).prefix { $0 == $1 }.map(\.0)
    }
    let texts = [String(decoding: shared, as: UTF8.self)] + (found.count > 1 ? found : [])
    let list = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>.allocate(capacity: texts.count + 1)
    for (index, text) in texts.enumerated() { list[index] = strdup(text) }
    list[texts.count] = nil
    return list
  }
}
