import Foundation
import Testing

private let tiny = Program.root.appendingPathComponent("models/tiny").path

/// The prompt on a pseudo-terminal: completion, several lines, history, Ctrl-C, help, printing.
@Suite(.serialized) struct ReplTests {
  private func start(
    _ arguments: [String] = [], in directory: URL? = nil, _ environment: [String: String] = [:]
  ) throws -> Terminal {
    let terminal = try Terminal(arguments, in: try directory ?? Program.temporaryDirectory(), environment: environment)
    try terminal.expect("> ")
    return terminal
  }

  @Test func tabCompletesFromTheLiveState() throws {
    let terminal = try start()
    // A global, a field, a file name inside a string.
    let file = Program.root.appendingPathComponent("models/ti").path
    try terminal.ask("m = qlor\t.loa\t(\"\(file)\t\", { quant = 'nf4' })", "> ")
    try terminal.ask("m.nam\t:upper()", "\(tiny.uppercased())/\n")
    // A method, a module of the model inside a string, names that `require` knows.
    try terminal.ask("m:mem\t().live > 0", "true\n")
    try terminal.ask("m:module\"model.layers.0.mlp.up\t\".quant", "nf4\n")
    try terminal.ask("require \"qlora.sched\t\".constant()(1)", "1.0\n")
    // Several candidates are listed at the second Tab, and only as far as the next dot.
    terminal.type("m:module\"model.layers.\t\t")
    try terminal.expect("0.")
    try terminal.expect("4.")
    #expect(!terminal.recent.contains("self_attn"))
    try terminal.interrupt()
    try terminal.ask("math.floo\t(2.5)", "2\n")
    try terminal.ask("('x'):re\tp(3)", "xxx\n")
    terminal.type("\u{4}")
    #expect(try terminal.exitCode() == 0)
  }

  @Test func statementsGoOverSeveralLines() throws {
    let terminal = try start()
    terminal.type("for i = 41, 42 do\r")
    try terminal.expect(">> ")
    terminal.type("\tprint(i * 10)\r")
    try terminal.expect(">> ")
    try terminal.ask("end", "410\n420\n")
    // The whole statement comes back at once and can be edited.
    try terminal.ask("\u{1b}[A", "410\n420\n")
    // An unfinished statement is given up with Ctrl-C.
    terminal.type("if true then\r")
    try terminal.expect(">> ")
    try terminal.interrupt()
    try terminal.ask("6 * 7", "42\n")
    // A local is there on the next line.
    terminal.type("local x, y = 20, 3\r")
    try terminal.ask("x + y", "23\n")
  }

  @Test func historyOutlivesTheSession() throws {
    let directory = try Program.temporaryDirectory()
    let first = try start(in: directory)
    try first.ask("x = 111 * 6", "")
    try first.ask("for i = 1, 1 do\rprint(600 + 60 + i) end", "661\n")
    first.type("\u{4}")
    #expect(try first.exitCode() == 0)
    #expect(FileManager.default.fileExists(atPath: directory.path + "/.local/state/qlora/history"))
    let second = try start(in: directory)
    try second.ask("\u{1b}[A", "661\n")
    try second.ask("\u{1b}[A\u{1b}[A; print(x + 1)", "667\n")
    let elsewhere = try start(in: directory, ["XDG_STATE_HOME": directory.path + "/state"])
    try elsewhere.ask("\u{1b}[A2 + 3", "5\n")
    #expect(FileManager.default.fileExists(atPath: directory.path + "/state/qlora/history"))
  }

  @Test func controlCStopsTheStatementAndKeepsTheModel() throws {
    let terminal = try start()
    try terminal.ask("m = qlora.load('\(tiny)'); print(m.name:len())", "\(tiny.count)\n")
    let statements = [
      ("while true do end", 1), ("while true do m:generate('Mia') end", 1),
      // Caught once, and again: the second Ctrl-C is not held back.
      ("while true do pcall(function() while true do end end) end", 2),
    ]
    for (statement, strokes) in statements {
      // A Ctrl-C before the program has read the line would drop it.
      try terminal.ask("print('g' .. 'o') " + statement, "go\n")
      for stroke in 1...strokes {
        usleep(300_000)
        if stroke < strokes { terminal.type("\u{3}") } else { try terminal.interrupt("interrupted") }
      }
      try terminal.ask("m.name:len()", "\(tiny.count)\n")
    }
    for _ in 0..<5 {
      // The prompt stands before the program waits for a key; a Ctrl-C between the two is lost, as in any such prompt.
      usleep(300_000)
      terminal.type("typed in vain")
      usleep(100_000)
      try terminal.interrupt()
    }
    try terminal.ask("'still' .. 'here'", "stillhere\n")
  }

  @Test func helpAndPrinting() throws {
    let terminal = try start()
    try terminal.ask("help(qlora.zeros)", "qlora.zeros(sizes) -> Tensor\n  All zeros, f32.")
    try terminal.ask("? Model:loss", "Model:loss(batch) -> Tensor\n")
    try terminal.ask("? qlora.train", "qlora.train(options) -> Training\n  Trains a model")
    try terminal.ask("help 'tensro'", "nothing is known about 'tensro' (did you mean \"Tensor\", \"tensor\"")
    try terminal.ask("=6 * 7", "42\n")
    try terminal.ask("_ + 1", "43\n")
    try terminal.ask("_2 + _1", "85\n")
    terminal.type("1234 * 2;\r")
    try terminal.ask("'no ' .. 'more'", "no more\n")
    #expect(!terminal.raw.contains("2468"))
    try terminal.ask("{ 1, 'two', x = { y = 3 } }", "{ 1, \"two\", x = { y = 3 } }\n")
    try terminal.ask("qlora.tensor{ {1, 2}, {3, 4} }", " 1.0000  2.0000\n 3.0000  4.0000\n[f32 2 x 2, 16 bytes]\n")
    try terminal.ask(
      "qlora.load('\(tiny)', { quant = 'nf4' })", "Model \(tiny): llama, 2,275,392 parameters, 1.47 MiB\n")
    try terminal.expect("└─ 0 … 4")
    terminal.type("local c = os.clock() while os.clock() - c < 1.1 do end\r")
    try terminal.expect(lineMatching: "[1-9][0-9]*\\.[0-9]+ s")
    try terminal.ask("error 'boom'", "stdin:1: boom\n")
    // What a statement has printed itself is not printed again.
    try terminal.ask("report = setmetatable({}, { __tostring = function() return 'cur' .. 've' end })", "")
    try terminal.ask("print(report) return report", "curve\n> ")
    try terminal.ask("report", "curve\n> ")
    try terminal.ask("exit(7)", "")
    #expect(try terminal.exitCode() == 7)
  }

  @Test func coloursAndEditingOnlyWhereTheTerminalCan() throws {
    func raw(_ environment: [String: String]) throws -> String {
      let terminal = try start([], environment)
      try terminal.ask("? zeros", "qlora.zeros")
      try terminal.ask("error 'x'", "stdin:1: x")
      terminal.type("\u{4}")
      #expect(try terminal.exitCode() == 0)
      return terminal.raw
    }
    #expect(try raw([:]).contains("\u{1b}[1mqlora.zeros"))
    let plain = try raw(["NO_COLOR": "1"])
    #expect(!plain.contains("\u{1b}[1m") && !plain.contains("\u{1b}[31m"))
    #expect(try !raw(["TERM": "dumb"]).contains("\u{1b}"))
    let dumb = try start([], ["TERM": "dumb"])
    try dumb.ask("5 + 5", "10")
    dumb.type("half a line")
    try dumb.interrupt()
    try dumb.ask("7 * 7", "49")
  }

  @Test func aRecipeLeavesItsLocals() throws {
    let directory = try Program.temporaryDirectory()
    let recipe = """
      local qlora = require "qlora"
      local print_all, size = print, 12
      local function area(n) local side = n * 2; assert(n < 100, "too large"); return side * side end
      print_all(area(size))
      """
    try recipe.write(to: directory.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
    let terminal = try start(["-i", "r.lua"], in: directory)
    try terminal.expect("from r.lua: area, print_all, qlora, size\n")
    try terminal.ask("area(size + 1)", "676\n")

    let failing = recipe + "\nlocal last = 5\narea(size * last * 2)\nlocal never = 1"
    try failing.write(to: directory.appendingPathComponent("f.lua"), atomically: true, encoding: .utf8)
    let second = try start(["-i", "f.lua"], in: directory)
    try second.expect("qlora-run: f.lua:3: too large\n")
    try second.ask("last + n, side, never", "125\t240\tnil\n")
  }

  /// The first transcript of docs/repl.md, its inputs typed again: what follows each is what the program prints.
  @Test func theGuideShowsARealSession() throws {
    let guide = try String(contentsOf: Program.root.appendingPathComponent("docs/repl.md"), encoding: .utf8)
    let block = try #require(
      guide.components(separatedBy: "```text\n").dropFirst().first?.components(separatedBy: "```").first)
    let lines = block.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    func isInput(_ line: String) -> Bool { line.hasPrefix("> ") || line.hasPrefix(">> ") }
    let typed = lines.filter(isInput).map { $0.drop { $0 == ">" }.dropFirst() }.joined(separator: "\n")
    // Tabs were columns on the terminal of the transcript.
    func words(_ text: String) -> [[Substring]] {
      text.split(separator: "\n").map { $0.split(whereSeparator: \.isWhitespace) }
    }
    let input = FileManager.default.temporaryDirectory.appendingPathComponent("typed-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: input, withIntermediateDirectories: true)
    try FileManager.default.createSymbolicLink(
      at: input.appendingPathComponent("models"), withDestinationURL: Program.root.appendingPathComponent("models"))
    let outcome = try Program.run(["-i"], in: input, input: typed + "\n")
    #expect(words(outcome.output) == words(lines.filter { !isInput($0) }.joined(separator: "\n")), "\(outcome.output)")
    #expect(outcome.errors.isEmpty && typed.count > 300)
  }
}
