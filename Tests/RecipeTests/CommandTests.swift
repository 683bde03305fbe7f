import Foundation
import Testing

/// Every command that README, docs and recipe headers print, run as printed: in a checkout without anything beside it,
/// or with the installed program from a folder of the user's, whose name has a space and a letter beyond ASCII.
@Suite struct CommandTests {
  @Test(arguments: PrintedCommands.pages.filter { !$0.commands.isEmpty })
  func commandsRun(page: PrintedCommands.Page) throws {
    let stage = try Stage.shared.get()
    let folder = try stage.folder(for: page)
    defer { try? FileManager.default.removeItem(at: folder) }
    for command in page.commands {
      let text = PrintedCommands.runnable(command)
      let outcome = try stage.run(text, in: PrintedCommands.needsCheckout(command) ? stage.checkout : folder)
      #expect(outcome.code == 0, "\(command)\nrun as: \(text)\n\(outcome.output.suffix(500))\(outcome.errors)")
    }
  }

  @Test func commandsAreFound() {
    let counts = Dictionary(uniqueKeysWithValues: PrintedCommands.pages.map { ($0.name, $0.commands.count) })
    for (name, least) in [
      "README.md": 8, "docs/getting-started.md": 9, "docs/memory.md": 8, "docs/performance.md": 5, "CONTRIBUTING.md": 4,
    ] { #expect(counts[name] ?? 0 >= least, "\(name) has \(counts[name] ?? 0) commands") }
    for page in PrintedCommands.pages where page.name.hasPrefix("recipes/") {
      #expect(!page.commands.isEmpty, "\(page.name) prints no command")
    }
  }

  /// A row of the table that no command needs any more is deleted.
  @Test func everySubstituteIsNeeded() {
    let commands = PrintedCommands.pages.flatMap(\.commands)
    for (index, row) in PrintedCommands.substitutes.enumerated() {
      let earlier = PrintedCommands.substitutes[..<index]
      let isUsed = commands.contains { command in
        command.contains(row.text) && !earlier.contains { command.contains($0.text) }
      }
      #expect(isUsed, "no command has \(row.text)")
    }
    for span in PrintedCommands.incomplete {
      let pages = PrintedCommands.pages.map { Program.text($0.name) }
      #expect(pages.contains { $0.contains("`\(span)`") }, "no page has \(span)")
    }
  }

  @Test func theShippedDataAreWhatTheirProgramWrites() throws {
    let folder = try Program.temporaryDirectory()
    let tool = Program.root.appendingPathComponent("stdlib/tools/word_problems.lua").path
    let outcome = try Program.run([tool, "made.jsonl"], in: folder)
    #expect(outcome.code == 0, "\(outcome.errors)")
    let made = try Data(contentsOf: folder.appendingPathComponent("made.jsonl"))
    #expect(try made == Data(contentsOf: Program.root.appendingPathComponent("data/word_problems.jsonl")))
    let look = #"local q = require "qlora" assert(q.native.exists(q.resource "data/word_problems.jsonl"))"#
    let installed = try Stage.shared.get().run("qlora-run -e '\(look)'", in: folder)
    #expect(installed.code == 0, "\(installed.errors)")
  }
}

/// What commands find: a checkout with nothing beside it, the program installed by `make install`, and a folder with
/// the files that the pages speak of.
struct Stage {
  static let shared = Result { try Stage() }

  let checkout: URL
  private let prefix: URL
  private let template: URL

  private init() throws {
    let files = FileManager.default
    let scratch = try Program.temporaryDirectory()
    checkout = scratch.appendingPathComponent("checkout")
    prefix = scratch.appendingPathComponent("prefix with spaces")
    template = scratch.appendingPathComponent("for user Zoë")
    try files.createDirectory(at: checkout.appendingPathComponent(".build/release"), withIntermediateDirectories: true)
    for name in try files.contentsOfDirectory(atPath: Program.root.path)
    where !name.hasPrefix(".") && !["out", "runs", "downloads", "dist"].contains(name) {
      try files.createSymbolicLink(
        at: checkout.appendingPathComponent(name), withDestinationURL: Program.root.appendingPathComponent(name))
    }
    let program = checkout.appendingPathComponent(".build/release/qlora-run")
    try files.copyItem(at: Program.executable, to: program)
    try files.createDirectory(at: template, withIntermediateDirectories: true)
    let installed = try run("make -o build install PREFIX='\(prefix.path)'", in: checkout)
    guard installed.code == 0 else { throw StageError(description: installed.errors) }
    try makeFiles()
  }

  /// Runs a shell command with the installed program on the path.
  func run(_ command: String, in folder: URL) throws -> Program.Outcome {
    let program = prefix.appendingPathComponent("bin/qlora-run").path
    let path = prefix.appendingPathComponent("bin").path + ":" + (ProcessInfo.processInfo.environment["PATH"] ?? "")
    return try Program.run(
      ["-c", command], in: folder, environment: ["PATH": path, "QLORA_RUN": program], program: "/bin/sh")
  }

  /// A folder with the files that a page speaks of, and its named listings.
  func folder(for page: PrintedCommands.Page) throws -> URL {
    let folder = try Program.temporaryDirectory().appendingPathComponent("for user Zoë")
    try FileManager.default.copyItem(at: template, to: folder)
    for listing in ListingTests.listings(page.name, isWhole: page.name != "docs/getting-started.md") {
      try listing.text.write(to: folder.appendingPathComponent(listing.name), atomically: true, encoding: .utf8)
    }
    return folder
  }

  private func makeFiles() throws {
    let message = #"{"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Mia."}]}"#
    let task = #"{"instruction": "Add 1 and 2.", "input": "", "output": "3"}"#
    let files = [
      "my.jsonl": String(repeating: message + "\n", count: 16),
      "my_alpaca.json": "[" + Array(repeating: task, count: 16).joined(separator: ",\n") + "]",
      "openassistant_best_replies_train.jsonl":
        "{\"text\": \"### Human: Who?### Assistant: Mia.\"}\n",
      "runs.lua": """
      local qlora = require "qlora"
      for _, name in ipairs { "first", "second" } do
        local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4" })
        model:add_lora { select = { "q_proj" }, rank = 9 }
        qlora.train {
          model = model, data = qlora.data.load(require "qlora.world".records(8, 0), { tokenizer = model.tokenizer }),
          optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3 }), steps = 1, batch = 1, dir = "runs/" .. name,
        }
        if name == "first" then model:save_adapter "out/quickstart" end
      end
      """,
    ]
    for (name, text) in files {
      try text.write(to: template.appendingPathComponent(name), atomically: true, encoding: .utf8)
    }
    try makeArchive()
    try makeModel("IN")
    try makeModel("path/to/model")
    let made = try run("qlora-run runs.lua", in: template)
    guard made.code == 0 else { throw StageError(description: made.errors) }
  }

  /// What `make archive` packs, with the program of this build.
  private func makeArchive() throws {
    let name = "qlora-0.1.0-linux-x86_64", folder = template.path + "/" + name
    let pack = "cd '\(template.path)' && tar czf \(name).tar.gz \(name) && rm -r \(name)"
    let made = try run("make install-files PREFIX= DESTDIR='\(folder)' && \(pack)", in: checkout)
    guard made.code == 0 else { throw StageError(description: made.errors) }
  }

  /// A chat template as it stands in tokenizer_config.json.
  private let zephyr =
    #"{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"#
    + #"{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"#

  /// The tiny model with a chat template and more positions.
  private func makeModel(_ path: String) throws {
    let model = template.appendingPathComponent(path)
    try FileManager.default.createDirectory(at: model.deletingLastPathComponent(), withIntermediateDirectories: true)
    try FileManager.default.copyItem(at: Program.root.appendingPathComponent("models/tiny"), to: model)
    func edit(_ name: String, _ change: (String) -> String) throws {
      let file = model.appendingPathComponent(name)
      try change(String(contentsOf: file, encoding: .utf8)).write(to: file, atomically: true, encoding: .utf8)
    }
    try edit("tokenizer_config.json") {
      $0.replacing("{", with: "{\"chat_template\": \"\(zephyr)\",", maxReplacements: 1)
    }
    try edit("config.json") {
      $0.replacing(/"max_position_embeddings": *\d+/, with: "\"max_position_embeddings\": 2048")
    }
  }
}

struct StageError: Error, CustomStringConvertible { let description: String }
