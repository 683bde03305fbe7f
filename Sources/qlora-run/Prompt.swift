@preconcurrency import Glibc
import LuaBindings
import LuaRuntime

/// The read-eval-print loop. What is evaluated, printed, explained and completed is decided in stdlib/qlora/repl; here
/// lines are read and Ctrl-C is caught wherever it strikes.
struct Prompt {
  private let state: LuaState
  private let editor: LineEditor
  private let showsTraceback: Bool

  enum End {
    /// End of input, or `exit(code)`.
    case exit(Int32)
    /// `continue()` in a prompt inside a step.
    case goesOn
    /// The second Ctrl-C in a row at an empty line of a prompt inside a step.
    case leaves
  }

  init(_ state: LuaState, editor: LineEditor, showsTraceback: Bool) {
    self.state = state
    self.editor = editor
    self.showsTraceback = showsTraceback
  }

  /// The prompt of a session.
  /// - Returns: the exit code.
  func run() -> Int32 {
    do {
      let session = try session(nil)
      print("qlora-run \(qloraVersion), Lua 5.4. help() explains, Tab completes, Ctrl-D leaves.")
      guard case .exit(let code) = Interrupts.duringPrompt({ loop(session, isBreak: false) }) else { return 0 }
      return code
    } catch {
      fputs("qlora-run: \(error)\n", stderr)
      return ExitCode.recipeError
    }
  }

  /// A prompt inside a running step.
  /// - Returns: whether the step goes on; otherwise it leaves.
  /// - Throws: what `exit(code)` raises.
  func breakIn(_ environment: LuaValue) throws -> Bool {
    LuaState.setPolling(false)
    defer { LuaState.setPolling(true) }
    let session = try session(environment)
    switch Interrupts.duringPrompt({ loop(session, isBreak: true) }) {
    case .goesOn: return true
    case .leaves: return false
    case .exit(let code):
      let value = state.newTable()
      value["exit_code"] = .integer(Int(code))
      value["silent"] = .bool(true)
      throw LuaError(message: "exit", value: .table(value))
    }
  }

  private func session(_ environment: LuaValue?) throws -> LuaTable {
    let options = state.newTable()
    options["env"] = environment ?? .nil
    options["traceback"] = .bool(showsTraceback)
    let maker = try state.load(Array("return require 'qlora.repl'.session(...)".utf8), chunkName: "=prompt")
    guard let session = try maker.call([.table(options)]).first?.asTable else {
      throw LuaError(message: "qlora.repl gives no session")
    }
    return session
  }

  private func loop(_ session: LuaTable, isBreak: Bool) -> End {
    var pending = ""
    // One Ctrl-C too many, in haste, does not end a run.
    var isWarned = false
    while true {
      fflush(nil)
      if Interrupts.ending != 0 { return isBreak ? .leaves : .exit(Interrupts.exitCode) }
      // What Ctrl-C meant to the statement before does not concern the next.
      LuaState.forgetInterrupts()
      LuaState.setPolling(false)
      let prompt = (isBreak ? "step" : "") + (pending.isEmpty ? "> " : ">> ")
      switch editor.read(prompt, { complete(session, pending, $0) }) {
      case .interrupted:
        print("")
        LuaState.forgetInterrupts()
        if isBreak, pending.isEmpty {
          if isWarned { return .leaves }
          print("Ctrl-C again leaves")
          isWarned = true
        }
        pending = ""
      case .end:
        if isatty(0) == 1 { print("") }
        if Interrupts.ending != 0 { continue }
        if !pending.isEmpty { _ = feed(session, pending, isLast: true) }
        return isBreak ? .goesOn : .exit(ExitCode.success)
      case .text(let line):
        isWarned = false
        let text = pending.isEmpty ? line : pending + "\n" + line
        let (status, code) = feed(session, text, isLast: false)
        pending = status == "more" ? text : ""
        if status != "more" { editor.remember(text) }
        if status == "exit" { return .exit(code) }
        if status == "continue" { return .goesOn }
      }
    }
  }

  private func feed(_ session: LuaTable, _ text: String, isLast: Bool) -> (status: String, code: Int32) {
    do {
      let results = try session["feed"].asFunction?.call([.string(text), .bool(isLast)]) ?? []
      let code = results.count > 1 ? results[1].asInt ?? 0 : 0
      return (results.first?.asString ?? "next", ExitCode.asked(code, isSilent: true))
    } catch {
      // The interrupt of a program that catches its errors ends here.
      fflush(nil)
      fputs("\(error)\n", stderr)
      return ("next", 0)
    }
  }

  private func complete(_ session: LuaTable, _ pending: String, _ text: String) -> (start: Int, candidates: [String]) {
    let results = (try? session["complete"].asFunction?.call([.string(text), .string(pending)])) ?? []
    guard results.count > 1, let start = results[0].asInt, let list = results[1].asTable else { return (0, []) }
    return (start - 1, list.elements.compactMap(\.asString))
  }
}
