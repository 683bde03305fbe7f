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
  var scriptArguments: [String] = []
  /// Options before the script, for negative indices of `arg`.
  var interpreterArguments: [String] = []
  var isInteractive = false
  var showsVersion = false
  var showsHelp = false
  var ignoresEnvironment = false
  var warns = false
  var showsTraceback = false
  var lists = false
  /// Runs the recipe as a stranger's.
  var isSandboxed = false
  var sandbox = SandboxFlags()
  var copy: (name: String, destination: String?)?
}

struct UsageError: Error, CustomStringConvertible {
  let description: String
}

let usage = """
  usage: qlora-run [flags] [recipe [flags and recipe arguments]]

  A recipe is a Lua file, or the name of one that ships: qlora-run quickstart.lua

    -e STAT           run a statement            -l MOD   require a module
    -i                prompt after the recipe    -v       print the version
    -W                warnings on                -E       ignore environment variables
    --                end of flags               -        run standard input

  These may follow the recipe, too:

    --plan            say what a recipe would train and need, without weights; exit 3 if over --memory
    --smoke           run with tiny random models and little data
    --set KEY=VALUE   override a field of qlora.params
    --resume [DIR]    continue from the last complete checkpoint, or from DIR/checkpoint-000004
    --accept-changed NAME,NAME
                      what may differ from the checkpoint: lr, schedule, data, …
    --memory SIZE     most memory of the process ("12GB")
    --threads N       worker threads             --seed N     seed
    --sandbox         run a stranger's recipe: files of its folder and of runs/ only
    --allow-read P    in a sandbox: read this file or folder, too (repeatable)
    --allow-write P   in a sandbox: read and write this file or folder, too (repeatable)
    --instructions N  in a sandbox: most instructions of Lua (default 1e11)
    --lua-memory SIZE in a sandbox: most memory of Lua's values (default 4GB)
    --quiet           no progress                --traceback  with errors

    --list            recipes that ship          --copy NAME [DEST]
    --help            this text                  --version
  """

extension Invocation {
  /// - Throws: `UsageError`, worded for the terminal.
  init(_ arguments: [String]) throws {
    var rest = arguments[...]
    while let argument = rest.first, argument != "-", argument != "--", argument.hasPrefix("-") {
      rest.removeFirst()
      interpreterArguments.append(argument)
      if try !takeRunFlag(argument, &rest) { try takeOtherFlag(argument, &rest) }
    }
    if rest.first == "--" {
      interpreterArguments.append(rest.removeFirst())
      script = rest.popFirst()
      scriptArguments = Array(rest)
      try checkSandbox()
      return
    }
    script = rest.popFirst()
    // Flags of a run may follow the recipe; `--` ends them, and what remains is the recipe's.
    while let argument = rest.popFirst() {
      if argument == "--" {
        scriptArguments += rest
        try checkSandbox()
        return
      }
      if try !takeRunFlag(argument, &rest) { scriptArguments.append(argument) }
    }
    if !options.acceptedChanges.isEmpty, options.resume == nil {
      throw UsageError(description: "--accept-changed says what --resume may find changed; give both")
    }
    try checkSandbox()
    if let directory = options.resume, script == nil, actions.isEmpty {
      throw UsageError(
        description: "--resume \(directory) has no recipe to go on with; write --resume [DIR] RECIPE.lua")
    }
  }

  /// Takes a flag that says how a recipe is run, and its value from `rest`.
  /// - Returns: false when `flag` is none of these.
  /// - Throws: `UsageError` when the value is missing or unreadable.
  private mutating func takeRunFlag(_ flag: String, _ rest: inout ArraySlice<String>) throws -> Bool {
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
      let directory = rest.first.flatMap { $0.hasPrefix("-") || $0.hasSuffix(".lua") ? nil : $0 }
      if directory != nil { rest.removeFirst() }
      options.resume = directory ?? ""
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
    case "--help", "-h": showsHelp = true
    case "--list": lists = true
    case "--copy":
      let name = try value(of: flag, &rest)
      copy = (name, rest.first.map { $0.hasPrefix("-") ? nil : $0 } ?? nil)
      if copy?.destination != nil { rest.removeFirst() }
    case _ where flag.hasPrefix("-e") || flag.hasPrefix("-l"):
      let attached = String(flag.dropFirst(2))
      let text = attached.isEmpty ? try value(of: flag, &rest) : attached
      actions.append(flag.hasPrefix("-e") ? .execute(text) : .require(text))
    default:
      let known = usage.split(whereSeparator: { " \n[]".contains($0) }).map(String.init).filter { $0.hasPrefix("-") }
      let near = nearestName(to: flag, among: known)
      throw UsageError(description: "unknown flag '\(flag)'" + (near.map { " (did you mean '\($0)'?)" } ?? ""))
    }
  }

  private func value(of flag: String, _ rest: inout ArraySlice<String>) throws -> String {
    guard let value = rest.popFirst() else { throw UsageError(description: "\(flag) needs a value") }
    return value
  }

  private func number(of flag: String, _ rest: inout ArraySlice<String>) throws -> Int {
    let text = try value(of: flag, &rest)
    guard let number = Int(text) else { throw UsageError(description: "\(flag) needs an integer, got '\(text)'") }
    return number
  }
}
