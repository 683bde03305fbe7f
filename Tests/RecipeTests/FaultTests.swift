import Foundation
import Testing

/// Every fault ends the program with exit code 1 and a message that says what, where and what to do; checkpoints stay
/// whole, and the run goes on to the bits of one that met no fault.
@Suite(.serialized) struct FaultTests {
  private static let wanted: Data? = try? {
    let directory = try folder()
    let outcome = try Program.run(["--quiet", "r.lua"], in: directory)
    #expect(outcome.code == 0, "\(outcome.errors)")
    return try adapter(directory)
  }()

  static let library: String? = {
    guard let text = try? String(contentsOf: Program.root.appendingPathComponent("Fuzz/faults.c"), encoding: .utf8)
    else { return nil }
    return compiled(text)
  }()

  /// A C program as a library to load before others, or nil where there is no C compiler.
  static func compiled(_ text: String) -> String? {
    guard let directory = try? Program.temporaryDirectory() else { return nil }
    let (source, library) = (directory.appendingPathComponent("shim.c"), directory.appendingPathComponent("shim.so"))
    guard (try? text.write(to: source, atomically: true, encoding: .utf8)) != nil else { return nil }
    for compiler in ["cc", "clang", "gcc"] {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
      process.arguments = [compiler, "-shared", "-fPIC", "-O1", "-o", library.path, source.path, "-ldl"]
      process.standardError = FileHandle.nullDevice
      guard (try? process.run()) != nil else { continue }
      process.waitUntilExit()
      if process.terminationStatus == 0 { return library.path }
    }
    return nil
  }

  /// A folder with the recipe and the tiny model in NF4, as a file to stream from.
  private static func folderWithModel() throws -> URL {
    let directory = try folder()
    let (recipes, source) = (Program.root.path + "/recipes", Program.root.path + "/models/tiny")
    let made = try Program.run([recipes + "/quantize.lua", source, "nf4"], in: directory)
    #expect(made.code == 0, "\(made.errors)")
    return directory
  }

  private static func folder() throws -> URL {
    let directory = try Program.temporaryDirectory()
    try FileManager.default.copyItem(
      at: Program.root.appendingPathComponent("Fuzz/faults.lua"), to: directory.appendingPathComponent("r.lua"))
    return directory
  }

  private static func adapter(_ directory: URL) throws -> Data {
    try Data(contentsOf: directory.appendingPathComponent("adapter/adapter_model.safetensors"))
  }

  private func set(_ values: [String: String]) -> [String] { values.flatMap { ["--set", "\($0)=\($1)"] } }

  /// The names in the run directory that begin with "checkpoint".
  private func checkpoints(_ directory: URL) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: directory.appendingPathComponent("run").path)
      .filter { $0.hasPrefix("checkpoint") }.sorted()
  }

  private func resumes(_ directory: URL, _ settings: [String: String] = [:]) throws {
    let outcome = try Program.run(["--quiet", "--resume", "run"] + set(settings) + ["r.lua"], in: directory)
    #expect(outcome.code == 0, "\(outcome.errors)")
    if settings.isEmpty { #expect(try Self.adapter(directory) == Self.wanted) }
    try FileManager.default.removeItem(at: directory)
  }

  struct Fault: Sendable {
    let call: String
    let path: String
    let code: Int32
    let after: Int
    let messages: [String]
  }

  private static let faults = [
    Fault(
      call: "write", path: "run/qlora-", code: ENOSPC, after: 2_500_000,
      messages: [
        "to the spill file in run: No space left on device", "on another disk", "go on from the last checkpoint",
      ]),
    Fault(
      call: "write", path: "run/qlora-", code: EIO, after: 3_000_000,
      messages: ["to the spill file in run: Input/output error", "is unharmed"]),
    Fault(
      call: "read", path: "run/qlora-", code: EIO, after: 2_500_000,
      messages: ["from the spill file in run: Input/output error", "from the last checkpoint with --resume"]),
    Fault(
      call: "write", path: "checkpoint-", code: ENOSPC, after: 2_000_000,
      messages: [
        "No space left on device", "the checkpoint of step", "those before it are whole; go on with --resume run",
      ]),
  ]

  @Test(.enabled(if: library != nil, "no C compiler"), arguments: 0..<faults.count)
  func aSystemCallThatFailsIsTold(index: Int) throws {
    let library = try #require(Self.library)
    let (fault, directory) = (Self.faults[index], try Self.folder())
    let environment = [
      "LD_PRELOAD": library, "FAULT_CALL": fault.call, "FAULT_PATH": fault.path, "FAULT_CODE": String(fault.code),
      "FAULT_AFTER": String(fault.after),
    ]
    let outcome = try Program.run(["--quiet", "r.lua"], in: directory, environment: environment)
    #expect(outcome.code == 1, "\(outcome.errors)")
    for message in fault.messages { #expect(outcome.errors.contains(message), "\(outcome.errors)") }
    let left = try checkpoints(directory)
    #expect(!left.isEmpty && left.allSatisfy { $0.count == "checkpoint-000002".count }, "\(left)")
    try resumes(directory)
  }

  /// A sample of what Fuzz/faults.py tries whole: of all writes, syncs, renames, mappings and reads of the run, one
  /// fails.
  @Test(.enabled(if: library != nil, "no C compiler"), arguments: 0..<8)
  func aCallThatFailsOnceLosesNothing(part: Int) throws {
    let (library, directory) = (try #require(Self.library), try Self.folder())
    let place = directory.resolvingSymlinksInPath().path
    var environment = ["LD_PRELOAD": library, "FAULT_CALL": "write,fsync,rename,mmap,read", "FAULT_PATH": place]
    environment["FAULT_LOG"] = directory.appendingPathComponent("calls.txt").path
    let calm = try Program.run(["--quiet", "r.lua"], in: directory, environment: environment)
    #expect(calm.code == 0, "\(calm.errors)")
    let calls = try String(contentsOf: directory.appendingPathComponent("calls.txt"), encoding: .utf8)
      .split(separator: "\n")
    #expect(calls.count > 200)
    for kind in ["write", "fsync", "rename", "mmap", "read"] { #expect(calls.contains { $0.hasPrefix(kind) }) }
    for name in ["run", "adapter", "runs.sqlite"] {
      try? FileManager.default.removeItem(at: directory.appendingPathComponent(name))
    }
    environment["FAULT_LOG"] = nil
    environment["FAULT_NTH"] = String(1 + (2 * part + 1) * calls.count / 16)
    environment["FAULT_CODE"] = String(part % 2 == 0 ? ENOSPC : EIO)
    let outcome = try Program.run(["--quiet", "r.lua"], in: directory, environment: environment)
    #expect(outcome.code == 0 || outcome.code == 1 && outcome.errors.hasPrefix("qlora-run: "), "\(outcome)")
    if outcome.code == 0 {
      #expect(try Self.adapter(directory) == Self.wanted)
    } else if try !checkpoints(directory).isEmpty {
      try resumes(directory)
    }
  }

  /// Cut through the descriptor, since the file has no name; it grows again, with zeros where pages were.
  @Test func aSpillFileThatIsCutShortIsNoticed() throws {
    let directory = try Self.folder()
    let cut = "for f in /proc/$PPID/fd/*; do case $(readlink $f) in *.spill*) truncate -s 0 $f;; esac; done"
    let outcome = try Program.run(["--quiet"] + set(["at": "5", "command": cut]) + ["r.lua"], in: directory)
    #expect(outcome.code == 1)
    for message in ["the spill file in run does not give back at offset", "it was cut short or changed while running"] {
      #expect(outcome.errors.contains(message), "\(outcome.errors)")
    }
    #expect(try checkpoints(directory) == ["checkpoint-000002", "checkpoint-000004"])
    try resumes(directory)
  }

  /// `ulimit -f` sends a signal by default.
  @Test func aLimitOnFileSizesIsAnErrorToo() throws {
    let directory = try Self.folder()
    let outcome = try Program.run(
      ["-c", "ulimit -f 100; exec \"$0\" --quiet r.lua", Program.executable.path], in: directory, program: "/bin/sh")
    #expect(outcome.code == 1 && outcome.errors.contains("File too large"), "\(outcome.code) \(outcome.errors)")
    try FileManager.default.removeItem(at: directory)
  }

  /// A model file that is cut short while a run streams from it, and while one has it mapped.
  @Test(arguments: [true, false]) func aModelFileThatIsCutShortIsTold(streams: Bool) throws {
    let directory = try Self.folderWithModel()
    try FileManager.default.copyItem(
      at: directory.appendingPathComponent("nf4"), to: directory.appendingPathComponent("whole"))
    let settings = ["model": "nf4", "quant": "", "stream": String(streams)]
    let cut = ["at": "5", "command": "truncate -s 4096 nf4/model.safetensors"]
    let outcome = try Program.run(["--quiet"] + set(settings) + set(cut) + ["r.lua"], in: directory)
    #expect(outcome.code == 1, "\(outcome.errors)")
    #expect(outcome.errors.contains("nf4") && outcome.errors.contains("cannot be read any more"), "\(outcome.errors)")
    #expect(try checkpoints(directory).contains("checkpoint-000004"))
    try resumes(directory, settings.merging(["model": "whole"]) { $1 })
  }

  /// Calls that fail below a model that streams: its file cannot be read, and no thread is there to read it on.
  @Test(
    .enabled(if: library != nil, "no C compiler"),
    arguments: [
      ("madvise", 100, "cannot be read any more"),
      ("pthread_create", 0, "the system gives no thread for reading and writing (Resource temporarily unavailable)"),
    ])
  func aStreamThatCannotReadIsTold(call: String, after: Int, message: String) throws {
    let directory = try Self.folderWithModel()
    let environment = [
      "LD_PRELOAD": try #require(Self.library), "FAULT_CALL": call, "FAULT_CODE": String(EIO),
      "FAULT_AFTER": String(after),
    ]
    let outcome = try Program.run(
      ["--quiet"] + set(["model": "nf4", "quant": "", "stream": "true"]) + ["r.lua"], in: directory,
      environment: environment)
    #expect(outcome.code == 1 && outcome.errors.contains(message), "\(outcome.errors)")
    try FileManager.default.removeItem(at: directory)
  }

  private static let hasPython = FileManager.default.isExecutableFile(atPath: "/usr/bin/python3")

  /// What is renamed into its place is lost with the power where the folder is not synced after it.
  @Test(.enabled(if: library != nil, "no C compiler"), .enabled(if: hasPython, "python3 runs the server"))
  func namesOfWhatIsFetchedAreSynced() throws {
    let (library, directory) = (try #require(Self.library), try Program.temporaryDirectory())
    let files = directory.appendingPathComponent("hub/models/org/a")
    try FileManager.default.createDirectory(at: files, withIntermediateDirectories: true)
    for name in ["config.json", "model.safetensors"] {
      try Data("{}".utf8).write(to: files.appendingPathComponent(name))
    }
    let (input, output) = (Pipe(), Pipe())
    let server = Program.process(
      [
        Program.root.appendingPathComponent("Tests/Fixtures/hub/server.py").path,
        directory.appendingPathComponent("hub").path, directory.appendingPathComponent("log").path,
      ], in: directory, program: "/usr/bin/python3")
    (server.standardInput, server.standardOutput) = (input, output)
    try server.run()
    defer {
      try? input.fileHandleForWriting.close()
      server.waitUntilExit()
    }
    let port = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
      .trimmingCharacters(in: .whitespacesAndNewlines)
    let log = directory.appendingPathComponent("calls.txt")
    let cache = directory.appendingPathComponent("cache").path
    let outcome = try Program.run(
      ["fetch", "org/a"], in: directory,
      environment: [
        "HF_ENDPOINT": "http://127.0.0.1:\(port)", "HF_HOME": directory.path, "HF_HUB_CACHE": cache,
        "HF_HUB_OFFLINE": "", "LD_PRELOAD": library, "FAULT_CALL": "rename,fsync", "FAULT_LOG": log.path,
      ])
    #expect(outcome.code == 0, "\(outcome.errors)")
    let calls = try String(contentsOf: log, encoding: .utf8).split(separator: "\n").map(String.init)
    let renamed = calls.indices.filter { calls[$0].hasPrefix("rename ") }
    #expect(renamed.count == 5, "two blobs, two links and refs/main: \(calls)")
    for index in renamed {
      let folder = URL(fileURLWithPath: String(calls[index].dropFirst("rename ".count))).deletingLastPathComponent()
      #expect(calls[index...].contains("fsync \(folder.path)"), "\(calls[index])")
    }
    try FileManager.default.removeItem(at: directory)
  }
}
