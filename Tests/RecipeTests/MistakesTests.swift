import Foundation
import Testing

/// What a researcher reads after a slip, through the real program and word for word.
@Suite struct MistakesTests {
  private static let folder = Program.root.appendingPathComponent("Tests/LuaTests")

  private func copied(_ name: String) throws -> URL {
    let directory = try Program.temporaryDirectory()
    try FileManager.default.copyItem(
      at: Self.folder.appendingPathComponent(name), to: directory.appendingPathComponent(name))
    return directory
  }

  /// After a deliberate change of a message: `make mistakes`, and read the difference.
  @Test func everyMistakeIsAnsweredAsWritten() throws {
    let outcome = try Program.run(
      ["mistakes.lua"], in: try copied("mistakes.lua"), environment: ["HF_HUB_OFFLINE": "1"])
    #expect(outcome.code == 0, "\(outcome.errors)")
    let golden = try String(
      contentsOf: Self.folder.appendingPathComponent("golden/mistakes.txt"), encoding: .utf8)
    let (got, wanted) = (outcome.output.components(separatedBy: "\n"), golden.components(separatedBy: "\n"))
    for (line, expected) in zip(got, wanted) where line != expected {
      Issue.record("got:    \(line)\nwanted: \(expected)")
    }
    #expect(got.count == wanted.count)
  }

  @Test func everyMessageNamesFileAndLine() throws {
    let golden = try String(
      contentsOf: Self.folder.appendingPathComponent("golden/mistakes.txt"), encoding: .utf8)
    let messages = golden.components(separatedBy: "\n").filter { $0.hasPrefix("   ") }
    #expect(messages.count >= 40)
    for message in messages {
      #expect(message.firstMatch(of: /^ +mistakes\.lua:\d+: ./) != nil, "\(message)")
    }
  }

  /// Mistakes that end a program before or after the recipe itself.
  @Test func mistakesOnTheCommandLine() throws {
    let recipe = """
      local p = require 'qlora'.params { rank = 16, steps = 100, lr = 1e-4, paged = true }
      print(p.lr, p.paged)
      """
    let cases: [(flags: [String], recipe: String, message: String)] = [
      (
        ["--set", "rnak=8"], recipe,
        "recipe.lua:1: --set rnak: the recipe has no parameter 'rnak' (did you mean \"rank\"?)"
      ),
      (["--set", "lr=fast"], recipe, "recipe.lua:1: --set lr=fast: expected a number (the default is 0.0001)"),
      (["--set", "paged=maybe"], recipe, "recipe.lua:1: --set paged=maybe: expected true or false"),
      (
        ["--set", "rank=8"], recipe,
        "recipe.lua:1: --set rank changed nothing: the recipe declares rank but never reads p.rank"
      ),
      (
        ["--set", "rank=8"], "print(1)",
        "--set rank: the recipe has no qlora.params { … } to override; declare rank = … there"
      ),
      ([], "local x = {\nprint(1)", "recipe.lua:2: '}' expected (to close '{' at line 1) near <eof>"),
      ([], "require 'qlroa'", "recipe.lua:1: module 'qlroa' not found"),
      // Python in the place of Lua.
      ([], "local x = 1\nprint x", "recipe.lua:2: syntax error near 'x'; write print(x)\n"),
      ([], "import torch", "recipe.lua:1: syntax error near 'torch'; write local qlora = require \"qlora\"\n"),
      (
        [], "print('a' + 'b')",
        "recipe.lua:1: attempt to add a 'string' with a 'string'; texts are joined with ..\n"
      ),
      ([], "require 'qlora'\nlocal x = None", "recipe.lua:2: undeclared global 'None'; write nil\n"),
      (
        [], "require 'qlora'\nlocal x = nne",
        "recipe.lua:2: undeclared global 'nne'; is it misspelt? Declare variables with local\n"
      ),
    ]
    for (flags, text, message) in cases {
      let directory = try Program.temporaryDirectory()
      try text.write(to: directory.appendingPathComponent("recipe.lua"), atomically: true, encoding: .utf8)
      let outcome = try Program.run(flags + ["recipe.lua"], in: directory)
      #expect(outcome.code == 1 && outcome.errors.contains("qlora-run: " + message), "\(flags) \(outcome.errors)")
    }
    #expect(try Program.run(["--set", "lr=0.5", "--set", "paged=off", "-"], input: recipe).output == "0.5\tfalse\n")
  }
}
