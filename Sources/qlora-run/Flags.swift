/// The flags of the program, declared for what tells of them: usage, `--help FLAG`, shell completion and the manual
/// page read this list.
struct Flag: Sendable {
  /// Where a flag may stand, and where help lists it.
  enum Group: String, Sendable {
    /// Before the recipe only.
    case interpreter
    /// Before a recipe or after it.
    case run
    case sandbox
    case program
  }

  /// The short form first, where there are two.
  let names: [String]
  /// What its value is called, in brackets where it may be left out; nil where it takes none.
  let value: String?
  let help: String
  let group: Group

  private init(_ names: String, value: String? = nil, _ group: Group, _ help: String) {
    (self.names, self.value) = (names.split(separator: " ").map(String.init), value)
    (self.help, self.group) = (help, group)
  }

  static let all = [
    Flag("-e", value: "STAT", .interpreter, "run a statement"),
    Flag("-l", value: "MOD", .interpreter, "require a module"),
    Flag("-i", .interpreter, "prompt after the recipe"),
    Flag("-W", .interpreter, "warnings on"),
    Flag("-E", .interpreter, "ignore environment variables"),
    Flag("--", .interpreter, "end of flags"),
    Flag("-", .interpreter, "run standard input"),
    Flag("--plan", .run, "say what a recipe would train and need, without weights; exit 3 if over --memory"),
    Flag("--smoke", .run, "run with tiny random models and little data"),
    Flag("--set", value: "KEY=VALUE", .run, "override a field of qlora.params"),
    Flag(
      "--resume", value: "[DIR]", .run, "continue from the last complete checkpoint, or from DIR/checkpoint-000004"),
    Flag(
      "--accept-changed", value: "NAME,NAME", .run, "what may differ from the checkpoint: lr, schedule, data, …"),
    Flag("--memory", value: "SIZE", .run, "most memory of the process (\"12GB\")"),
    Flag("--threads", value: "N", .run, "worker threads"),
    Flag("--seed", value: "N", .run, "seed, also of math.random"),
    Flag("--quiet", .run, "no progress"),
    Flag("--traceback", .run, "a traceback with errors"),
    Flag("--sandbox", .sandbox, "run a stranger's recipe: files of its folder and of runs/ only"),
    Flag("--allow-read", value: "P", .sandbox, "read this file or folder, too (repeatable)"),
    Flag("--allow-write", value: "P", .sandbox, "read and write this file or folder, too (repeatable)"),
    Flag("--instructions", value: "N", .sandbox, "most instructions of Lua (default 1e11)"),
    Flag("--lua-memory", value: "SIZE", .sandbox, "most memory of Lua's values (default 4GB)"),
    Flag("--list", .program, "recipes that ship"),
    Flag("--copy", value: "NAME [DEST]", .program, "copy a recipe that ships, to edit it"),
    Flag("-h --help", value: "[TOPIC]", .program, "this text, or what is known of a command, flag, recipe or name"),
    Flag("-v --version", .program, "the version"),
  ]

  static func named(_ name: String) -> Flag? { all.first { $0.names.contains(name) } }

  /// "--set KEY=VALUE"
  private var form: String { names.joined(separator: ", ") + (value.map { " " + $0 } ?? "") }

  private static func list(_ group: Group) -> String {
    all.filter { $0.group == group }.map { flag in
      let gap = String(repeating: " ", count: max(1, 18 - flag.form.count))
      return "    " + flag.form + (flag.form.count > 17 ? "\n" + String(repeating: " ", count: 22) : gap) + flag.help
    }.joined(separator: "\n")
  }

  /// What `--help` prints.
  /// - Parameter commands: the commands that ship, each with a line about it.
  /// - Returns: the text, without a last newline.
  static func usage(_ commands: [(name: String, line: String)]) -> String {
    """
    usage: qlora-run [flags] [recipe [flags and recipe arguments]]
           qlora-run command [flags and arguments]

      A recipe is a Lua file, or the name of one that ships: qlora-run quickstart.lua

    \(list(.interpreter))

      These may follow the recipe, too:

    \(list(.run))

      For a recipe of somebody else's:

    \(list(.sandbox))

    \(list(.program))

      Commands (qlora-run --help COMMAND says more):

    \(commands.map { "    \($0.name)" + String(repeating: " ", count: max(1, 18 - $0.name.count)) + $0.line }
      .joined(separator: "\n"))
    """
  }
}
