import CEdit
@preconcurrency import Glibc
import LuaBindings
import LuaRuntime

/// The read-eval-print loop: expressions print their value, statements run, incomplete input continues on the next line.
struct Prompt {
  private let runner: Runner
  private let isTerminal = isatty(0) == 1

  init(_ runner: Runner) { self.runner = runner }

  func run() -> Int32 {
    print("qlora-run \(qloraVersion), Lua 5.4. help(name) explains, Ctrl-D leaves.")
    installHelp()
    let editor = isTerminal ? LineEditor() : nil
    while let line = readStatement(editor) {
      if line.allSatisfy(\.isWhitespace) { continue }
      evaluate(line)
    }
    editor?.save()
    if isTerminal { print("") }
    return ExitCode.success
  }

  private func installHelp() {
    let state = runner.state
    _ = runner.attempt { try state.load(Array("qlora = require 'qlora'".utf8), chunkName: "=prompt") }
    state.globals["help"] = state.function { [engine = runner.engine] state, arguments in
      let name = arguments.first?.asString ?? ""
      if let text = engine.help(name) {
        print(text)
      } else if name.isEmpty {
        print("help 'zeros', help 'Model', help 'Model:loss' explain native functions; docs/lua-reference.md lists all.")
      } else {
        print("nothing is known about '\(name)'")
      }
      return []
    }
  }

  /// Lines until they form a statement; nil at the end of input.
  private func readStatement(_ editor: LineEditor?) -> String? {
    var text = ""
    while true {
      guard let line = editor.map({ $0.read(text.isEmpty ? "> " : ">> ") }) ?? readLine(strippingNewline: true) else {
        return text.isEmpty ? nil : text
      }
      text += text.isEmpty ? line : "\n" + line
      if !isIncomplete(text) { return text }
    }
  }

  private func isIncomplete(_ text: String) -> Bool {
    if (try? runner.state.load(Array("return \(text)".utf8), chunkName: "=stdin")) != nil { return false }
    do {
      _ = try runner.state.load(Array(text.utf8), chunkName: "=stdin")
      return false
    } catch {
      return String(describing: error).hasSuffix("<eof>")
    }
  }

  private func evaluate(_ input: String) {
    var text = input.trimmed
    let isQuiet = text.hasSuffix(";")
    if text.hasPrefix("?") { text = "help('\(String(text.dropFirst()).trimmed)')" }
    if text.hasPrefix("=") { text.removeFirst() }
    while text.hasSuffix(";") { text.removeLast() }
    let state = runner.state
    do {
      let expression = try? state.load(Array("return \(text)".utf8), chunkName: "=stdin")
      let function = try expression ?? state.load(Array(text.utf8), chunkName: "=stdin")
      let results = try state.callWithTraceback(function, [])
      if !isQuiet, !results.isEmpty { print(results.map { show($0) }.joined(separator: "\t")) }
      if let first = results.first { state.globals["_"] = first }
    } catch {
      fflush(stdout)
      fputs("\(error)\n", stderr)
    }
    fflush(stdout)
  }

  /// Tables one level deep, everything else as tostring gives it.
  private func show(_ value: LuaValue) -> String {
    guard case .table(let table) = value else { return runner.state.describe(value) }
    let pairs = table.pairs
    let shown = pairs.prefix(40).map { pair -> String in
      let item = pair.value.asString.map { "\"\($0)\"" } ?? runner.state.describe(pair.value)
      return pair.key.asInt == nil ? "\(runner.state.describe(pair.key)) = \(item)" : item
    }
    return "{ " + shown.joined(separator: ", ") + (pairs.count > 40 ? ", … \(pairs.count) entries" : "") + " }"
  }
}

extension String {
  fileprivate var trimmed: String {
    var text = self[...]
    while let first = text.first, first.isWhitespace { text.removeFirst() }
    while let last = text.last, last.isWhitespace { text.removeLast() }
    return String(text)
  }
}

/// libedit's readline interface with a history file.
final class LineEditor {
  private let historyPath: String

  init() {
    let home = getenv("HOME").map { String(cString: $0) } ?? "."
    historyPath = getenv("QLORA_HISTORY").map { String(cString: $0) } ?? home + "/.qlora_history"
    using_history()
    _ = read_history(historyPath)
  }

  func read(_ prompt: String) -> String? {
    guard let line = readline(prompt) else { return nil }
    defer { free(line) }
    let text = String(cString: line)
    if !text.isEmpty { add_history(line) }
    return text
  }

  func save() { _ = write_history(historyPath) }
}
