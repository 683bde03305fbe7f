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
  var copy: (name: String, destination: String?)?
}

struct UsageError: Error, CustomStringConvertible {
  let description: String
}

let usage = """
  usage: qlora-run [flags] [recipe.lua [recipe arguments]]

    -e STAT           run a statement            -l MOD   require a module
    -i                prompt after the recipe    -v       print the version
    -W                warnings on                -E       ignore environment variables
    --                end of flags               -        run standard input

    --plan            say what a recipe would train and need, without weights; exit 3 if over --memory
    --smoke           run with tiny random models and little data
    --set KEY=VALUE   override a field of qlora.params
    --resume [DIR]    continue from the last complete checkpoint
    --memory SIZE     most memory of the process ("12GB")
    --threads N       worker threads             --seed N     seed
    --quiet           no progress                --traceback  with errors
    --list            recipes that ship          --copy NAME [DEST]
    --help            this text                  --version
  """

extension Invocation {
  /// - Throws: `UsageError`, worded for the terminal.
  init(_ arguments: [String]) throws {
    var rest = arguments[...]
    func value(of flag: String) throws -> String {
      guard let value = rest.popFirst() else { throw UsageError(description: "\(flag) needs a value") }
      return value
    }
    func number(of flag: String) throws -> Int {
      let text = try value(of: flag)
      guard let number = Int(text) else { throw UsageError(description: "\(flag) needs an integer, got '\(text)'") }
      return number
    }
    while let argument = rest.first {
      if argument == "-" || !argument.hasPrefix("-") { break }
      rest.removeFirst()
      interpreterArguments.append(argument)
      switch argument {
      case "--":
        script = rest.popFirst()
        scriptArguments = Array(rest)
        return
      case "-i": isInteractive = true
      case "-v", "--version": showsVersion = true
      case "-E": ignoresEnvironment = true
      case "-W": warns = true
      case "--help", "-h": showsHelp = true
      case "--plan": options.plan = true
      case "--smoke": options.smoke = true
      case "--quiet": options.quiet = true
      case "--traceback": showsTraceback = true
      case "--list": lists = true
      case "--set":
        let pair = try value(of: argument)
        guard let equals = pair.firstIndex(of: "="), equals != pair.startIndex else {
          throw UsageError(description: "--set needs KEY=VALUE, got '\(pair)'")
        }
        options.overrides.append((String(pair[..<equals]), String(pair[pair.index(after: equals)...])))
      case "--resume":
        // A directory may follow; the recipe itself ends in .lua.
        if let next = rest.first, !next.hasPrefix("-"), !next.hasSuffix(".lua") {
          options.resume = rest.removeFirst()
        } else {
          options.resume = ""
        }
      case "--memory":
        let text = try value(of: argument)
        guard let bytes = parseByteCount(text), bytes > 0 else {
          throw UsageError(description: "--memory needs a size such as 12GB, got '\(text)'")
        }
        options.memoryLimit = bytes
      case "--threads":
        let count = try number(of: argument)
        guard (1...1024).contains(count) else { throw UsageError(description: "--threads needs 1 to 1024") }
        options.threads = count
      case "--seed": options.seed = try number(of: argument)
      case "--copy":
        let name = try value(of: argument)
        copy = (name, rest.first.map { $0.hasPrefix("-") ? nil : $0 } ?? nil)
        if copy?.destination != nil { rest.removeFirst() }
      default:
        if argument.hasPrefix("-e") || argument.hasPrefix("-l"), !argument.hasPrefix("--") {
          let attached = String(argument.dropFirst(2))
          let text = attached.isEmpty ? try value(of: argument) : attached
          actions.append(argument.hasPrefix("-e") ? .execute(text) : .require(text))
        } else {
          let known = usage.split(whereSeparator: { " \n[]".contains($0) }).map(String.init).filter {
            $0.hasPrefix("-")
          }
          let near = nearestName(to: argument, among: known)
          throw UsageError(
            description: "unknown flag '\(argument)'" + (near.map { " (did you mean '\($0)'?)" } ?? ""))
        }
      }
    }
    script = rest.popFirst()
    scriptArguments = Array(rest)
    options.script = script
  }
}
