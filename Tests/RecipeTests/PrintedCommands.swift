import Foundation
import Testing

/// The commands that README, the docs and the headers of recipes print, and what stands in for those that cannot run in
/// a test.
enum PrintedCommands {
  /// The commands of one page, in their order.
  struct Page: CustomTestStringConvertible {
    let name: String
    let commands: [String]
    var testDescription: String { name }
  }

  /// How a command is made cheap enough.
  enum Form {
    /// The same command with `--smoke`: small random models, little data, few steps.
    case smoke
    /// The same command with `--smoke --plan`: it stops before the first step.
    case planned
    /// The same command with flags after it.
    case with(String)
    /// The Python file of the command is parsed.
    case parsed
    case instead(String)
  }

  /// A command that holds `text` is not run as printed, for `reason`; the first row that fits counts.
  struct Substitute {
    let text: String
    let reason: String
    let form: Form
  }

  static let substitutes: [Substitute] = [
    .init(text: "--copy", reason: "copies as it is", form: .with("")),
    .init(text: "qlora-run fetch", reason: "the network; HubTests fetch", form: .instead("qlora-run --help fetch")),
    .init(
      text: "qlora-run serve", reason: "answers until it is stopped; ServeTests ask it",
      form: .instead("qlora-run --help serve")),
    .init(
      text: "train --model HuggingFaceTB", reason: "the network",
      form: .instead("qlora-run train --model path/to/model --data my.jsonl --set steps=1")),
    .init(text: "sudo ", reason: "root and the network", form: .instead("bash -n Tests/install/roots.sh")),
    .init(text: "make archive", reason: "builds for half an hour", form: .instead("bash -n Packaging/archive.sh")),
    .init(text: "make deb", reason: "builds for half an hour", form: .instead("bash -n Packaging/deb.sh")),
    .init(text: "peers/prepare.sh", reason: "installs torch", form: .instead("sh -n Benchmarks/peers/prepare.sh")),
    .init(text: "--product kernel-bench", reason: "a benchmark of minutes, and torch", form: .parsed),
    .init(
      text: "kernel-bench --seconds", reason: "a benchmark of minutes", form: .instead("test -d Benchmarks/kernels")),
    .init(text: "python3 Fuzz/", reason: "minutes, and transformers or huggingface_hub", form: .parsed),
    .init(text: "python3 Benchmarks/", reason: "a benchmark of minutes", form: .parsed),
    .init(
      text: "mpirun", reason: "needs a launcher; RanksTests runs one",
      form: .instead("qlora-run --smoke quickstart.lua")),
    .init(text: "make test", reason: "runs this test", form: .instead("make -n test")),
    .init(text: "make fuzz", reason: "builds", form: .instead("make -n fuzz fuzz-asan SECONDS=600")),
    .init(text: "fuzz --replay", reason: "needs an input that failed", form: .instead("test -f Fuzz/make_corpus.py")),
    .init(text: "make lint", reason: "needs luacheck", form: .instead("make -n lint")),
    .init(text: "swift test", reason: "builds; runs this test", form: .instead("test -d Tests/QuantizationTests")),
    .init(text: "swift run", reason: "builds the engine", form: .instead("test -f Examples/FineTune/Package.swift")),
    .init(
      text: "make install", reason: "builds",
      form: .instead("make -o build install PREFIX=prefix RUN=\"$QLORA_RUN\"")),
    .init(
      text: "make uninstall", reason: "another folder", form: .instead("make uninstall PREFIX=prefix")),
    .init(
      text: "make quickstart", reason: "builds",
      form: .instead("make -o build quickstart RUN=\"'$QLORA_RUN' --smoke\"")),
    .init(
      text: "make smollm2", reason: "builds, downloads, trains for minutes",
      form: .instead("make -o build smollm2 SMOLLM2=Makefile RUN=\"'$QLORA_RUN' --smoke\"")),
    .init(text: "tensorboard", reason: "another program", form: .instead("ls runs/first/events.out.tfevents.*")),
    .init(
      text: "synthetic.lua", reason: "writes up to 34 GB",
      form: .instead("rm -rf SHAPE && qlora-run synthetic.lua small SHAPE")),
    .init(text: "experiments/", reason: "a minute of training", form: .planned),
    .init(
      text: "gguf dq_ledger.lua", reason: "a download of 98 MB",
      form: .instead("qlora-run --set blocks=64 --set model=path/to/model dq_ledger.lua")),
    .init(text: "SmolLM2-135M-Instruct.Q4_1.gguf", reason: "a download of 98 MB", form: .smoke),
    .init(text: "Benchmarks/steps/generation.lua", reason: "a download of 98 MB", form: .smoke),
    .init(text: "openassistant_best_replies_train.jsonl", reason: "weeks of training", form: .smoke),
    .init(text: "pretrain_tiny.lua", reason: "15 minutes of training", form: .planned),
    .init(text: "selection/", reason: "ShippedRecipeTests trains them whole", form: .with("--set steps=4")),
    .init(text: "custom_loop.lua", reason: "its 40 steps take 5 seconds", form: .with("--set steps=4")),
    .init(text: "chat.lua", reason: "its 200 steps take a minute", form: .with("--set steps=50")),
    .init(text: "dora.lua", reason: "two trainings of half a minute", form: .smoke),
    .init(text: "dpo.lua", reason: "half a minute of training", form: .smoke),
    .init(text: "scripted_adapter.lua", reason: "three trainings of half a minute", form: .smoke),
    .init(text: "loftq.lua", reason: "half a minute of training", form: .smoke),
    .init(text: "continue_training.lua", reason: "half a minute of training", form: .smoke),
    .init(text: "quickstart.lua", reason: "ListingTests runs it whole", form: .smoke),
    .init(text: "my.lua", reason: "a copy of a recipe that is run whole elsewhere", form: .smoke),
    .init(text: "first.lua", reason: "ListingTests runs it whole", form: .smoke),
  ]

  /// Code spans in running text that name a command without saying it whole.
  static let incomplete: Set<String> = [
    "qlora-run NAME.lua", "qlora-run --copy NAME", "qlora-run train --model M --data D",
    "qlora-run eval M A B --data D", "qlora-run chat M A", "qlora-run serve M", "qlora-run merge M A OUT",
    "qlora-run export M OUT.gguf --adapter A", "qlora-run quantize IN OUT", "qlora-run fetch NAME",
    "qlora-run show RUN", "qlora-run compare RUN RUN", "qlora-run init DIR",
    "qlora-run merge.lua --set model=M --set adapter=A --set data=D", "qlora-run eval MODEL A B --data held_out.jsonl",
  ]

  static let pages: [Page] = documents() + recipes()

  /// What is run for a printed command.
  static func runnable(_ command: String) -> String {
    guard let row = substitutes.first(where: { command.contains($0.text) }) else { return command }
    switch row.form {
    case .instead(let other): return other
    case .smoke: return command.replacing("qlora-run ", with: "qlora-run --smoke ", maxReplacements: 1)
    case .planned: return command.replacing("qlora-run ", with: "qlora-run --smoke --plan ", maxReplacements: 1)
    case .with(let flags): return command + " " + flags
    case .parsed:
      let folder = command.firstMatch(of: /cd (\S+) &&/).map { "cd \($0.1) && " } ?? ""
      let file = command.firstMatch(of: /python3 (\S+\.py)/).map { String($0.1) } ?? "no Python file"
      return folder + "python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read())' \(file)"
    }
  }

  /// Commands of the checkout run there, all others in a folder of the user's.
  static func needsCheckout(_ command: String) -> Bool {
    ["make", "sudo", "swift", "cd Benchmarks", "Benchmarks", ".build"].contains { command.hasPrefix($0) }
      || command.contains("Benchmarks/") || command.contains("Fuzz/")
  }

  private static func documents() -> [Page] {
    let docs =
      (try? FileManager.default.subpathsOfDirectory(atPath: Program.root.appendingPathComponent("docs").path)) ?? []
    let names = docs.filter { $0.hasSuffix(".md") && $0 != "lua-reference.md" }.sorted().map { "docs/\($0)" }
    return (["README.md", "CONTRIBUTING.md"] + names).map { name in
      let text = Program.text(name)
      var commands: [String] = []
      for (index, part) in text.components(separatedBy: "\n```").enumerated() {
        if index % 2 == 1, part.hasPrefix("sh\n") {
          commands += joined(part.split(separator: "\n").dropFirst().map(String.init))
        } else if index % 2 == 0 {
          let spans = part.matches(of: /`((?:qlora-run|make) [^`\n]+)`/).map { String($0.1) }
          commands += spans.filter { !incomplete.contains($0) }
        }
      }
      return Page(name: name, commands: commands)
    }
  }

  private static func recipes() -> [Page] {
    ShippedRecipeTests.names.map { name in
      let header = Program.text("recipes/\(name)").split(separator: "\n").prefix { $0.hasPrefix("--") }
      return Page(
        name: "recipes/\(name)",
        commands: joined(header.filter { $0.hasPrefix("--   ") }.map { String($0.dropFirst(5)) }))
    }
  }

  /// Lines that end in a backslash go on with the next.
  private static func joined(_ lines: [String]) -> [String] {
    var commands: [String] = []
    var open = false
    for line in lines {
      let text = line.trimmingCharacters(in: .whitespaces)
      let part = text.hasSuffix("\\") ? String(text.dropLast()) : text
      if open { commands[commands.count - 1] += part } else { commands.append(part) }
      open = text.hasSuffix("\\")
    }
    return commands
  }
}
