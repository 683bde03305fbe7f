import Foundation
import Testing

private let recipe = """
  local qlora = require "qlora"
  local p = qlora.params { word = "yes", shuffle = true, alpha = 8, dropout = 0.0, lr = 1e-3, rslora = false,
    quant = "nf4", max_length = 64, opt = "adamw", decay = 0.0, select = { "q_proj", "v_proj" }, steps = 6, stop = 0,
    seed = 1, batch = 2, micro = 1, norm = 1.0, schedule = "constant", at = 0, command = "", out = "adapter" }
  local model = qlora.load(qlora.resource "models/tiny", { quant = p.quant, quiet = true })
  model:add_lora { select = p.select, rank = 4, alpha = p.alpha, dropout = p.dropout, rslora = p.rslora, quiet = true }
  local records = {}
  for i = 1, 12 do records[i] = { prompt = "Q" .. i .. ": ", completion = p.word .. ", indeed " .. i } end
  local data = qlora.data.from_records(records, { format = "completion", tokenizer = model.tokenizer,
    max_length = p.max_length, quiet = true })
  local schedules = { constant = qlora.schedule.constant(), cosine = qlora.schedule.cosine(6),
    own = function(step) return 1 / step end }
  qlora.train { model = model, data = data, batch = p.batch, micro_batch = p.micro, steps = p.steps, dir = "run",
    save_every = 1, shuffle = p.shuffle, seed = p.seed, max_grad_norm = p.norm, schedule = schedules[p.schedule],
    optimizer = qlora.optim[p.opt](model:trainable(), { lr = p.lr, weight_decay = p.decay }),
    on_step = function(s)
      if s.step == p.at then os.execute(p.command) end
      return s.step ~= p.stop
    end }
  model:save_adapter(p.out)
  """

/// What `--resume` goes on from and what it refuses, as a user meets it.
@Suite(.serialized) struct ResumeTests {
  private func folder() throws -> URL {
    let directory = try Program.temporaryDirectory()
    try recipe.write(to: directory.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
    return directory
  }

  private func run(_ directory: URL, _ flags: [String] = [], _ settings: [String] = []) throws -> Program.Outcome {
    try Program.run(
      ["--quiet"] + flags + settings.flatMap { ["--set", $0] } + ["r.lua"], in: directory)
  }

  /// A run of six steps that stopped after three, and the adapter of one that did not.
  private func stopped() throws -> (directory: URL, wanted: Data) {
    let directory = try folder()
    #expect(try run(directory).code == 0)
    let wanted = try adapter(directory)
    try FileManager.default.removeItem(at: directory.appendingPathComponent("run"))
    #expect(try run(directory, [], ["stop=3"]).code == 0)
    return (directory, wanted)
  }

  private func adapter(_ directory: URL, _ name: String = "adapter") throws -> Data {
    try Data(contentsOf: directory.appendingPathComponent("\(name)/adapter_model.safetensors"))
  }

  private func text(_ directory: URL, _ path: String) throws -> String {
    try String(contentsOf: directory.appendingPathComponent(path), encoding: .utf8)
  }

  private func exists(_ directory: URL, _ path: String) -> Bool {
    FileManager.default.fileExists(atPath: directory.appendingPathComponent(path).path)
  }

  @Test func whatDecidesTheRunIsAsItWasOrRefused() throws {
    let (directory, wanted) = try stopped()
    for (change, message, name) in [
      ("word=no", "data.sha256 was ", "data"), ("shuffle=false", "shuffle was true and is false now", "shuffle"),
      ("max_length=8", "data.tokens was ", "data"), ("alpha=32", "alpha (and 9 more) was 8.0 and is 32.0", "adapters"),
      ("rslora=true", "scaling (and 9 more) was 2.0 and is 4.0 now", "adapters"),
      ("dropout=0.5", "dropout (and 9 more) was 0.0 and is 0.5 now", "adapters"),
      ("quant=fp4", "base.quant was nf4 and is fp4 now", "base"),
      ("decay=0.5", "optimizer.weight_decay was 0.0 and is 0.5 now", "optimizer"),
      ("seed=2", "seed was 1 and is 2 now", "seed"),
      ("batch=4", "batch was 2 and is 4 now", "batch"), ("micro=2", "micro_batch was 1 and is 2 now", "micro_batch"),
      ("norm=0.5", "max_grad_norm was 1.0 and is 0.5 now", "max_grad_norm"),
      ("lr=0.01", "lr was 0.001 and is 0.01 now", "lr"),
      ("schedule=cosine", "schedule was constant() and is cosine(6, floor 0.0) now", "schedule"),
      ("schedule=own", "schedule was constant() and is ", "schedule"),
    ] {
      let outcome = try run(directory, ["--resume", "run"], [change])
      #expect(outcome.code == 1 && outcome.errors.contains(message), "\(change): \(outcome.errors)")
      #expect(outcome.errors.contains("accept it with --accept-changed \(name)"), "\(change): \(outcome.errors)")
    }
    // What the checkpoint holds does not fit: no word helps.
    for (change, message) in [
      ("opt=lion", "optimizer.kind was adamw and is lion now"), ("select=q_proj", "v_proj (and 4 more) was "),
    ] {
      let outcome = try run(directory, ["--resume", "run"], [change])
      #expect(outcome.code == 1 && outcome.errors.contains(message), "\(change): \(outcome.errors)")
      #expect(outcome.errors.contains("put it back, or start a run of its own"), "\(change): \(outcome.errors)")
      #expect(!outcome.errors.contains("--accept-changed"), "\(change): \(outcome.errors)")
    }
    // A refusal changes nothing.
    #expect(try run(directory, ["--resume", "run"]).code == 0)
    #expect(try adapter(directory) == wanted)
    try FileManager.default.removeItem(at: directory)
  }

  @Test func anAcceptedChangeIsJournaledAndMoreStepsNeedNoWord() throws {
    let (directory, wanted) = try stopped()
    let unknown = try run(directory, ["--resume", "run", "--accept-changed", "rate"], ["lr=0.01"])
    #expect(unknown.code == 1 && unknown.errors.contains("'rate' is nothing that decides"), "\(unknown.errors)")
    let alone = try run(directory, ["--accept-changed", "lr"])
    #expect(alone.code == 2 && alone.errors.contains("--resume"), "\(alone.errors)")
    let outcome = try run(
      directory, ["--resume", "run", "--accept-changed", "lr,schedule"], ["lr=0.01", "schedule=cosine", "steps=8"])
    #expect(outcome.code == 0, "\(outcome.errors)")
    #expect(outcome.errors.contains("goes on with another lr: 0.01, was 0.001"), "\(outcome.errors)")
    let line = try #require(
      try text(directory, "run/journal.jsonl").split(separator: "\n").first { $0.contains("resumed_from") })
    for part in [
      #"{"name":"lr","now":"0.01","was":"0.001"}"#, #"{"name":"steps","now":"8","was":"6"}"#, #""name":"schedule""#,
    ] {
      #expect(line.contains(part), "\(line)")
    }
    #expect(try adapter(directory) != wanted && exists(directory, "run/checkpoint-000008"))
    try FileManager.default.removeItem(at: directory)
  }

  @Test func ofADamagedCheckpointTheOneBeforeIsOffered() throws {
    let (directory, wanted) = try stopped()
    let files = [
      "SHA256SUMS", "adapter/adapter_config.json", "adapter/adapter_model.safetensors", "optimizer.safetensors",
      "state.json", "trained.safetensors",
    ]
    for file in files {
      let url = directory.appendingPathComponent("run/checkpoint-000003/\(file)")
      let whole = try Data(contentsOf: url)
      var damaged = whole
      damaged[whole.count * 2 / 3] ^= 4
      try damaged.write(to: url)
      let outcome = try run(directory, ["--resume", "run"])
      #expect(outcome.code == 1, "\(file)")
      #expect(outcome.errors.contains(file) && outcome.errors.contains("damaged"), "\(file): \(outcome.errors)")
      #expect(outcome.errors.contains("--resume run/checkpoint-000002"), "\(file): \(outcome.errors)")
      if file != files.last { try whole.write(to: url) }
    }
    let outcome = try run(directory, ["--resume", "run/checkpoint-000002"])
    #expect(outcome.code == 0, "\(outcome.errors)")
    #expect(try adapter(directory) == wanted)
    // What came after the one it went on from was written anew.
    #expect(try run(directory, ["--resume", "run/"]).code == 0)
    try FileManager.default.removeItem(at: directory)
  }

  @Test func aTakenNameIsReplacedWhereItIsACheckpointAndToldWhereNot() throws {
    let directory = try folder()
    let taken = "mkdir run/checkpoint-000003; echo mine > run/checkpoint-000003/notes.txt"
    let outcome = try run(directory, [], ["at=2", "command=\(taken)"])
    #expect(outcome.code == 1 && outcome.errors.contains("run/checkpoint-000003: holds notes.txt"), "\(outcome.errors)")
    #expect(try text(directory, "run/checkpoint-000003/notes.txt") == "mine\n")
    try FileManager.default.removeItem(at: directory)
  }

  @Test func oneProgramAtATimeWritesIntoARun() throws {
    let (directory, _) = try stopped()
    let inner = "command='\(Program.executable.path)' --quiet --resume run r.lua 2> second.txt"
    let outcome = try run(directory, ["--resume", "run"], ["at=5", inner])
    #expect(outcome.code == 0, "\(outcome.errors)")
    let second = try text(directory, "second.txt")
    #expect(second.contains("--resume run: process ") && second.contains(" is writing there"), "\(second)")
    // The lock of a dead program does not hold.
    #expect(try run(directory, ["--resume", "run"]).code == 0)
    try FileManager.default.removeItem(at: directory)
  }

  @Test(arguments: [("mv run elsewhere", "elsewhere"), ("rm -r run", "run")])
  func aDirectoryThatGoesAwayLosesNothing(command: String, place: String) throws {
    let directory = try folder()
    #expect(try run(directory, [], ["out=calm"]).code == 0)
    try FileManager.default.removeItem(at: directory.appendingPathComponent("run"))
    let outcome = try run(directory, [], ["at=4", "command=\(command)"])
    #expect(outcome.code == 0, "\(outcome.errors)")
    #expect(outcome.errors.contains("the directory run was "), "\(outcome.errors)")
    #expect(try adapter(directory) == adapter(directory, "calm"))
    for file in ["checkpoint-000006/state.json", "summary.json", "report.html", "params.json", "recipe.lua"] {
      #expect(exists(directory, "\(place)/\(file)"), "\(file)")
    }
    #expect(place == "run" || !exists(directory, "run"))
    try FileManager.default.removeItem(at: directory)
  }

  /// What Slurm, Docker, Kubernetes and a lost terminal send.
  @Test(arguments: [(SIGTERM, 143), (SIGHUP, 129), (SIGUSR1, 138)] as [(Int32, Int32)])
  func aSignalThatEndsTheRunLeavesACheckpoint(signal: Int32, code: Int32) throws {
    let directory = try folder()
    let process = Program.process(
      ["--quiet", "--set", "steps=1000000", "--set", "at=3", "--set", "command=kill -\(signal) $PPID", "r.lua"],
      in: directory)
    let log = directory.appendingPathComponent("errors.txt")
    _ = FileManager.default.createFile(atPath: log.path, contents: nil)
    process.standardError = try FileHandle(forWritingTo: log)
    process.standardOutput = FileHandle.nullDevice
    // The threads of the test library block signals, which a program inherits.
    var (none, before) = (sigset_t(), sigset_t())
    sigemptyset(&none)
    pthread_sigmask(SIG_SETMASK, &none, &before)
    try process.run()
    pthread_sigmask(SIG_SETMASK, &before, nil)
    let deadline = Date().addingTimeInterval(60)
    while process.isRunning, Date() < deadline { usleep(10_000) }
    if process.isRunning { kill(process.processIdentifier, SIGKILL) }
    process.waitUntilExit()
    let errors = try String(contentsOf: log, encoding: .utf8)
    #expect(process.terminationReason == .exit && process.terminationStatus == code, "\(errors)")
    #expect(errors.contains("interrupted at step 4; checkpoint in run/checkpoint-000003"), "\(errors)")
    #expect(try run(directory, ["--resume", "run"]).code == 0)
    try FileManager.default.removeItem(at: directory)
  }

  @Test func wrongTypesInFilesOfARunNameTheFile() throws {
    let (directory, _) = try stopped()
    func listing() throws -> String {
      let outcome = try Program.run(
        ["-e", "local q = require 'qlora'; print(pcall(q.report, 'run'))"], in: directory)
      return outcome.output + outcome.errors
    }
    let journal = try text(directory, "run/journal.jsonl")
    let lines = journal.split(separator: "\n").count
    for (line, message) in [
      (#"{"step":1,"loss":"low"}"#, "loss must be a number, got a string"),
      (#"{"step":"one"}"#, "step must be a number"), ("5", "an object expected"),
      (#"{"step":1,"adapter_norms":{"a":"b"}}"#, "a must be a number"),
      (#"{"step":1,"samples":[5]}"#, "samples: an object expected"),
    ] {
      try (journal + line + "\n").write(
        to: directory.appendingPathComponent("run/journal.jsonl"), atomically: true, encoding: .utf8)
      let said = try listing()
      #expect(said.contains("run/journal.jsonl: line \(lines + 1)") && said.contains(message), "\(line): \(said)")
    }
    try journal.write(to: directory.appendingPathComponent("run/journal.jsonl"), atomically: true, encoding: .utf8)
    let params = directory.appendingPathComponent("run/params.json")
    for (content, message) in [
      (#"{"settings":5}"#, "settings must be a table"), ("{", "run/params.json"), ("7", "an object expected"),
      (#"{"params":[5]}"#, "params: an object expected, got a list"), ("[5]", "an object expected, got a list"),
    ] {
      try content.write(to: params, atomically: true, encoding: .utf8)
      let said = try listing()
      #expect(said.contains("run/params.json") && said.contains(message), "\(content): \(said)")
    }
    try FileManager.default.removeItem(at: directory)
  }
}
