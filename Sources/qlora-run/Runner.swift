@preconcurrency import Glibc
import Formats
import LuaBindings
import LuaRuntime
import Ranks

/// Exit codes of the program.
enum ExitCode {
  static let success: Int32 = 0
  static let recipeError: Int32 = 1
  static let usage: Int32 = 2

  /// The code that an error asks for, where a process can end with it; an error ends with 0 only where it is silent, as
  /// `native.exit(0)` is.
  static func asked(_ code: Int, isSilent: Bool) -> Int32 {
    (isSilent ? 0 : 1)...255 ~= code ? Int32(code) : recipeError
  }
}

/// Runs what an invocation asks for in one Lua state.
struct Runner {
  let invocation: Invocation
  let root: String
  let state: LuaState
  let engine: Engine
  let ranks: Ranks
  private let editor = Lazy { LineEditor() }

  init?(_ invocation: Invocation, _ ranks: Ranks) {
    guard let state = LuaState() else { return nil }
    let root = Resources.root()
    var invocation = invocation
    if !ranks.isFirst {
      // One voice: what the others print is the same.
      invocation.options.quiet = true
      Resources.silenceOutput()
    }
    invocation.script = invocation.script.map { Resources.script($0, root: root) }
    invocation.options.script = invocation.script
    self.invocation = invocation
    self.ranks = ranks
    self.state = state
    self.root = root
    engine = Engine(options: invocation.options, resourceRoot: root, ranks: ranks)
    engine.install(in: state)
    LuaState.setLibraryPrefix("@\(root)/stdlib/qlora/")
    setPaths()
    offerFlags()
    if invocation.isSandboxed { engine.confine(state, to: invocation.confinement) }
    Interrupts.installForRecipe()
    guard isatty(0) == 1, isatty(1) == 1, !invocation.isSandboxed, ranks.size == 1 else { return }
    engine.breakPrompt = { [state, editor, showsTraceback = invocation.showsTraceback] environment in
      // Who sends SIGTERM or SIGHUP waits for the end, not for a prompt.
      try Interrupts.ending == 0
        && Prompt(state, editor: editor.value, showsTraceback: showsTraceback).breakIn(environment)
    }
    engine.readLine = { [editor] prompt in
      Interrupts.duringPrompt {
        switch editor.value.read(prompt, { _ in (0, []) }) {
        case .text(let line):
          editor.value.remember(line)
          return .text(line)
        case .interrupted: return .interrupted
        case .end: return .end
        }
      }
    }
  }

  /// The declared flags, for help, shell completion and the manual page: `require "qlora.program_flags"`.
  private func offerFlags() {
    let rows = Flag.all.map { (flag: Flag) -> LuaValue in
      let row = state.newTable()
      row["names"] = .table(state.list(flag.names.map { .string($0) }))
      row["value"] = flag.value.map { .string($0) } ?? .nil
      row["help"] = .string(flag.help)
      row["group"] = .string(flag.group.rawValue)
      return LuaValue.table(row)
    }
    let table = state.newTable()
    table["flags"] = .table(state.list(rows))
    table["usage"] = .string(Flag.usage(Resources.commands(root)))
    state.globals["package"].asTable?["loaded"].asTable?["qlora.program_flags"] = .table(table)
  }

  /// `require` looks beside the recipe first, then where Lua looks, then in the library.
  private func setPaths() {
    guard let package = state.globals["package"].asTable else { return }
    let beside = invocation.script.map { $0 == "-" ? "." : Resources.parent($0) } ?? "."
    let standard = invocation.isSandboxed ? "" : package["path"].asString ?? ""
    package["path"] = .string(
      "\(beside)/?.lua;\(beside)/?/init.lua;\(root)/stdlib/?.lua;\(root)/stdlib/?/init.lua;\(standard)")
  }

  /// - Returns: the exit code.
  func run() -> Int32 {
    setArguments()
    // Recipes that draw with Lua's own generator are as repeatable as the rest.
    let seed = attempt([.integer(invocation.options.seed ?? 0)]) {
      try state.load(Array("math.randomseed(...)".utf8), chunkName: "=--seed")
    }
    guard seed == ExitCode.success else { return seed }
    if invocation.options.smoke || invocation.options.plan {
      let code = attempt { try state.load(Array("require('qlora.scratch').install()".utf8), chunkName: "=scratch") }
      guard code == ExitCode.success else { return code }
    }
    if !invocation.ignoresEnvironment, !invocation.isSandboxed, let code = runInitialisation() { return code }
    for action in invocation.actions {
      let code: Int32
      switch action {
      case .execute(let text):
        let given = text.contains("qlora") ? offerLibrary() : ExitCode.success
        guard given == ExitCode.success else { return given }
        code = attempt { try state.load(Array(text.utf8), chunkName: "=(command line)") }
      case .require(let name):
        code = attempt { try state.load(Array("\(name) = require '\(name)'".utf8), chunkName: "=(command line)") }
      }
      if code != ExitCode.success { return code }
    }
    if let command = invocation.command { return runCommand(command) }
    if let run = invocation.recalled {
      let code = attempt([.string(run)]) {
        try state.load(Array("require('qlora.run_recall').apply(...)".utf8), chunkName: "=--resume")
      }
      if code != ExitCode.success { return code }
    }
    if let script = invocation.script {
      let code = runScript(script)
      if !invocation.isInteractive { return code == ExitCode.success ? checkOverrides() : code }
    } else if invocation.actions.isEmpty, !invocation.showsVersion, !invocation.isInteractive, isatty(0) == 0 {
      return runScript("-")
    }
    let isBare = invocation.script == nil && invocation.actions.isEmpty && !invocation.showsVersion
    let wantsPrompt = invocation.isInteractive || isBare
    guard wantsPrompt else { return ExitCode.success }
    return Prompt(state, editor: editor.value, showsTraceback: invocation.showsTraceback).run()
  }

  /// A statement of the command line has the library as a global, as the prompt has it.
  private func offerLibrary() -> Int32 {
    attempt { try state.load(Array("qlora = qlora or require 'qlora'".utf8), chunkName: "=(command line)") }
  }

  private func setArguments() {
    let table = state.newTable()
    if let script = invocation.script { table[0] = .string(script) }
    for (index, argument) in invocation.scriptArguments.enumerated() { table[index + 1] = .string(argument) }
    let before = ["qlora-run"] + invocation.interpreterArguments
    for (index, argument) in before.reversed().enumerated() { table[-1 - index] = .string(argument) }
    state.globals["arg"] = .table(table)
    if invocation.warns { _ = attempt { try state.load(Array("warn('@on')".utf8), chunkName: "=(flags)") } }
  }

  /// An override that the recipe never read changed nothing, which is an error.
  private func checkOverrides() -> Int32 {
    guard !invocation.options.overrides.isEmpty else { return ExitCode.success }
    return attempt { try state.load(Array("require('qlora.params').check_overrides()".utf8), chunkName: "=--set") }
  }

  private func runInitialisation() -> Int32? {
    guard let raw = getenv("LUA_INIT_5_4") ?? getenv("LUA_INIT") else { return nil }
    let text = String(cString: raw)
    let code = attempt {
      if text.hasPrefix("@") {
        let path = String(text.dropFirst())
        guard let bytes = Resources.read(path) else { throw UsageError(description: "cannot open \(path)") }
        return try state.load(bytes, chunkName: text)
      }
      return try state.load(Array(text.utf8), chunkName: "=LUA_INIT")
    }
    return code == ExitCode.success ? nil : code
  }

  /// Runs a command of the library, and the recipe that it asks for.
  private func runCommand(_ name: String) -> Int32 {
    var recipe: String?
    let code = attempt {
      let main = try state.load(Array("return require('qlora.command_line').main".utf8), chunkName: "=command")
      guard let function = try main.call().first?.asFunction else { throw UsageError(description: "no command line") }
      let arguments = state.list(invocation.scriptArguments.map { .string($0) })
      recipe = try function.call([.string(name), .table(arguments)]).first?.asString
      return try state.load([], chunkName: "=command")
    }
    guard code == ExitCode.success, let recipe else { return code }
    let ran = runScript(recipe, arguments: [])
    return ran == ExitCode.success ? checkOverrides() : ran
  }

  /// The words after the recipe; where a run is recalled, those it was started with.
  private var scriptArguments: [LuaValue] {
    guard invocation.recalled != nil, let table = state.globals["arg"].asTable else {
      return invocation.scriptArguments.map { .string($0) }
    }
    return table.elements
  }

  /// What follows a recipe that reads no arguments is read by nobody: most likely a misspelt flag.
  private func checkArguments(_ path: String, _ text: [UInt8]) throws {
    guard let first = invocation.scriptArguments.first, path != "-" else { return }
    let text = String(decoding: text, as: UTF8.self)
    if text.contains("...") || text.contains(/\barg\b/) { return }
    let names = Flag.all.flatMap(\.names)
    let near = first.hasPrefix("-") ? nearestName(to: first, among: names) : nil
    let hint = names.contains(first) ? "; it goes before the recipe" : didYouMean(near)
    throw UsageError(description: "\(path) takes no arguments, so nobody reads '\(first)'\(hint)")
  }

  private func runScript(_ path: String, arguments: [LuaValue]? = nil) -> Int32 {
    attempt(arguments ?? scriptArguments) {
      let isInput = path == "-"
      guard var bytes = Resources.read(isInput ? "/dev/stdin" : path) else {
        let reason = String(cString: strerror(errno))
        let command = nearestName(to: path, among: Resources.commands(root).map(\.name))
        let recipe = nearestName(to: Resources.recipeName(path), among: Resources.recipes(root).map(\.name))
        throw UsageError(
          description: "cannot open \(path): \(reason)"
            + (command == nil ? didYouMean(recipe, "the recipe ") : didYouMean(command, "the command ")))
      }
      if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { bytes.removeFirst(3) }
      if bytes.first == UInt8(ascii: "#") {
        // The line stays as an empty one, so that line numbers hold.
        bytes = Array(bytes.drop { $0 != UInt8(ascii: "\n") })
      }
      if arguments == nil { try checkArguments(path, bytes) }
      if isInput {
        // A run keeps the text, which no file has.
        let native = state.globals["package"].asTable?["loaded"].asTable?["qlora.native"].asTable
        native?["options"].asTable?["source"] = .bytes(bytes)
      } else {
        StrictGlobals.install(in: state, script: path)
      }
      let name = isInput ? "=stdin" : "@" + path
      return try invocation.isInteractive ? keepingLocals(bytes, name) : state.load(bytes, chunkName: name)
    }
  }

  /// A function that runs a recipe and offers its locals to the prompt that follows, also those at the point of an
  /// error.
  private func keepingLocals(_ bytes: [UInt8], _ name: String) throws -> LuaFunction {
    let keeper = try state.load(Array("return require 'qlora.repl.locals'.runner(...)".utf8), chunkName: "=prompt")
    let runner = try keeper.call([.string(String(decoding: bytes, as: UTF8.self)), .string(name)])
    guard let function = runner.first?.asFunction else { throw LuaError(message: "\(runner.last?.asString ?? name)") }
    return function
  }

  /// Loads and calls, reports errors on standard error.
  func attempt(_ arguments: [LuaValue] = [], _ load: () throws -> LuaFunction) -> Int32 {
    do {
      let function = try load()
      _ =
        invocation.showsTraceback
        ? try state.callWithTraceback(function, arguments) : try function.call(arguments)
      fflush(stdout)
      return ExitCode.success
    } catch {
      fflush(stdout)
      return report(error)
    }
  }

  /// A message of Lua about its grammar, with what to write where the line is Python.
  private func explained(_ message: String) -> String {
    guard [" near ", "attempt to add a 'string'", "undeclared global 'f'"].contains(where: message.contains) else {
      return message
    }
    let ask = try? state.load(Array("return require('qlora.python')(...)".utf8), chunkName: "=message")
    return (try? ask?.call([.string(message)]).first?.asString) ?? message
  }

  /// Prints an error as `qlora-run: recipe.lua:12: message`; tables with `exit_code` choose the exit code, and those of
  /// interrupts among them say 130.
  func report(_ error: any Error) -> Int32 {
    var code = error is UsageError ? ExitCode.usage : ExitCode.recipeError
    var message = String(describing: error)
    if let error = error as? LuaError {
      if case .table(let table) = error.value, let wanted = table["exit_code"].asInt {
        let isSilent = table["silent"].asBool == true
        code = ExitCode.asked(wanted, isSilent: isSilent)
        if code == 128 + SIGINT { code = Interrupts.exitCode }
        if isSilent { return code }
      }
      // Where one of several fails, the launcher ends the others, who have nothing to add.
      if error.isInterruption, ranks.size > 1, Interrupts.ending != 0 { return code }
      message = explained(error.message)
    }
    let who = ranks.size > 1 ? "rank \(ranks.rank) on \(ranks.host): " : ""
    fputs("qlora-run: \(who)\(message)\n", stderr)
    return code
  }
}

/// A value made on first use, shared by copies of what holds it.
final class Lazy<Value> {
  private let make: () -> Value
  private(set) lazy var value = make()
  init(_ make: @escaping () -> Value) { self.make = make }
}
