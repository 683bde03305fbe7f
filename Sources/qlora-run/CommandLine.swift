import Formats
import LuaBindings

/// What the arguments ask for, in order.
struct Invocation {
  enum Action {
    case execute(String)
    case require(String)
  }

  var options = RunOptions()
  var actions: [Action] = []
  var script: String?
  /// A command that ships, instead of a recipe.
  var command: String?
  /// The run directory whose own recipe and settings go on.
  var recalled: String?
  var scriptArguments: [String] = []
  /// Options before the script, for negative indices of `arg`.
  var interpreterArguments: [String] = []
  var isInteractive = false
  var showsVersion = false
  var ignoresEnvironment = false
  var warns = false
  var showsTraceback = false
  /// Runs the recipe as a stranger's.
  var isSandboxed = false
  var sandbox = SandboxFlags()
  /// The value that stood behind `=` in the flag being read.
  private var attached: String?
}

struct UsageError: Error, CustomStringConvertible {
  let description: String
}

extension Invocation {
  /// - Parameters:
  ///   - arguments: those of the program, without its name.
  ///   - isCommand: whether a word names a command that ships.
  /// - Throws: `UsageError`, worded for the terminal.
  init(_ arguments: [String], isCommand: (String) -> Bool = { _ in false }) throws {
    var rest = arguments[...]
    while let argument = rest.first, argument != "-", argument != "--", argument.hasPrefix("-") {
      rest.removeFirst()
      interpreterArguments.append(argument)
      if try !takeRunFlag(argument, &rest) { try takeOtherFlag(argument, &rest) }
      if command != nil { break }
    }
    if rest.first == "--" {
      interpreterArguments.append(rest.removeFirst())
      script = rest.popFirst()
      scriptArguments = Array(rest)
      try finish()
      return
    }
    if command == nil { script = rest.popFirst() }
    if let word = script, isCommand(word) { (command, script) = (word, nil) }
    // What help is asked for may be a flag.
    if command == "help" {
      scriptArguments = ["--"] + rest
      return
    }
    // Flags of a run may follow the recipe; `--` ends them, and what remains is the recipe's.
    while let argument = rest.popFirst() {
      if argument == "--" {
        scriptArguments += rest
        break
      }
      if try !takeRunFlag(argument, &rest) { scriptArguments.append(argument) }
    }
    try finish()
  }

  /// Checks what must stand together, and finds the recipe that `--resume DIR` alone goes on with.
  private mutating func finish() throws {
    if !options.acceptedChanges.isEmpty, options.resume == nil {
      throw UsageError(description: "--accept-changed says what --resume may find changed; give both")
    }
    if let directory = options.resume, script == nil, command == nil, actions.isEmpty {
      var run = directory[...]
      while run.count > 1, run.hasSuffix("/") { run.removeLast() }
      run = Resources.run(String(run))[...]
      guard !run.isEmpty else {
        throw UsageError(description: "--resume needs a run directory or a recipe: --resume runs/NAME")
      }
      guard Resources.exists(run + "/recipe.lua") else {
        throw UsageError(
          description: "--resume \(directory) has no recipe to go on with: there is no \(run)/recipe.lua; write "
            + "--resume \(directory) RECIPE.lua")
      }
      (script, recalled) = (run + "/recipe.lua", String(run))
    }
    try checkSandbox()
  }

  /// Takes a flag that says how a recipe is run, and its value from `rest`.
  /// - Returns: false when `flag` is none of these.
  /// - Throws: `UsageError` when the value is missing or unreadable.
  private mutating func takeRunFlag(_ flag: String, _ rest: inout ArraySlice<String>) throws -> Bool {
    let flag = try separated(flag)
    defer { attached = nil }
    switch flag {
    case "--plan": options.plan = true
    case "--smoke": options.smoke = true
    case "--quiet": options.quiet = true
    case "--traceback": showsTraceback = true
    case "--set":
      let pair = try value(of: flag, &rest)
      guard let equals = pair.firstIndex(of: "="), equals != pair.startIndex else {
        throw UsageError(description: "--set needs KEY=VALUE, got '\(pair)'")
      }
      options.overrides.append((String(pair[..<equals]), String(pair[pair.index(after: equals)...])))
    case "--resume":
      // A directory may follow; the recipe itself ends in .lua.
      if let attached {
        options.resume = attached
      } else {
        let directory = rest.first.flatMap { $0.hasPrefix("-") || $0.hasSuffix(".lua") ? nil : $0 }
        if directory != nil { rest.removeFirst() }
        options.resume = directory ?? ""
      }
    case "--accept-changed":
      let names = try value(of: flag, &rest).split(separator: ",").map(String.init)
      guard !names.isEmpty else { throw UsageError(description: "--accept-changed needs names such as lr,schedule") }
      options.acceptedChanges += names
    case "--memory":
      let text = try value(of: flag, &rest)
      guard let bytes = parseByteCount(text), bytes > 0 else {
        throw UsageError(description: "--memory needs a size such as 12GB, got '\(text)'")
      }
      options.memoryLimit = bytes
    case "--threads":
      let count = try number(of: flag, &rest)
      guard (1...1024).contains(count) else { throw UsageError(description: "--threads needs 1 to 1024") }
      options.threads = count
    case "--seed": options.seed = try number(of: flag, &rest)
    default: return try takeSandboxFlag(flag, &rest)
    }
    return true
  }

  /// Takes a flag of the sandbox.
  /// - Returns: false when `flag` is none.
  /// - Throws: `UsageError` when the value is missing or unreadable.
  private mutating func takeSandboxFlag(_ flag: String, _ rest: inout ArraySlice<String>) throws -> Bool {
    switch flag {
    case "--sandbox":
      isSandboxed = true
      return true
    case "--allow-read": sandbox.reading.append(try value(of: flag, &rest))
    case "--allow-write": sandbox.writing.append(try value(of: flag, &rest))
    case "--instructions":
      let text = try value(of: flag, &rest)
      guard let count = Double(text).flatMap({ Int(exactly: $0.rounded()) }), count > 0 else {
        throw UsageError(description: "--instructions needs a positive number, got '\(text)'")
      }
      sandbox.instructions = count
    case "--lua-memory":
      let text = try value(of: flag, &rest)
      guard let bytes = parseByteCount(text), bytes > 0 else {
        throw UsageError(description: "--lua-memory needs a size such as 4GB, got '\(text)'")
      }
      sandbox.luaMemory = bytes
    default: return false
    }
    sandbox.first = sandbox.first ?? flag
    return true
  }

  /// Takes any other flag.
  /// - Throws: `UsageError` for an unknown one, with the nearest known.
  private mutating func takeOtherFlag(_ flag: String, _ rest: inout ArraySlice<String>) throws {
    switch flag {
    case "-i": isInteractive = true
    case "-v", "--version": showsVersion = true
    case "-E": ignoresEnvironment = true
    case "-W": warns = true
    case "--help", "-h": command = "help"
    case "--list": command = "list"
    case "--copy":
      guard !rest.isEmpty else { throw UsageError(description: "--copy needs a value") }
      command = "copy"
    case _ where flag.hasPrefix("-e") || flag.hasPrefix("-l"):
      let attached = String(flag.dropFirst(2))
      let text = attached.isEmpty ? try value(of: flag, &rest) : attached
      actions.append(flag.hasPrefix("-e") ? .execute(text) : .require(text))
    default:
      let near = nearestName(to: flag, among: Flag.all.flatMap(\.names))
      throw UsageError(description: "unknown flag '\(flag)'" + didYouMean(near))
    }
  }

  /// The flag without the value that stands behind `=`, which `value` gives.
  /// - Throws: `UsageError` for a value that the flag does not take.
  private mutating func separated(_ flag: String) throws -> String {
    guard flag.hasPrefix("--"), let equals = flag.firstIndex(of: "=") else { return flag }
    let name = String(flag[..<equals])
    guard let declared = Flag.named(name), declared.group == .run || declared.group == .sandbox else { return flag }
    guard declared.value != nil else { throw UsageError(description: "\(name) takes no value, got '\(flag)'") }
    attached = String(flag[flag.index(after: equals)...])
    return name
  }

  private func value(of flag: String, _ rest: inout ArraySlice<String>) throws -> String {
    if let attached { return attached }
    guard let value = rest.popFirst() else { throw UsageError(description: "\(flag) needs a value") }
    return value
  }

  private func number(of flag: String, _ rest: inout ArraySlice<String>) throws -> Int {
    let text = try value(of: flag, &rest)
    guard let number = Int(text) else { throw UsageError(description: "\(flag) needs an integer, got '\(text)'") }
    return number
  }
}
