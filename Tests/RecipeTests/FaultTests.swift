import Foundation
import Testing

/// Makes one kind of system call fail from a number of bytes on, for files whose path holds a word: full disks and failing
/// ones, without either. Loaded into the program with LD_PRELOAD.
private let shim = """
  #define _GNU_SOURCE
  #include <dlfcn.h>
  #include <errno.h>
  #include <pthread.h>
  #include <stdatomic.h>
  #include <stdio.h>
  #include <stdlib.h>
  #include <string.h>
  #include <sys/mman.h>
  #include <unistd.h>

  static atomic_long seen;

  static int fails(const char *call, int file, long count) {
    const char *wanted = getenv("FAULT_CALL");
    if (!wanted || strcmp(wanted, call)) return 0;
    if (file >= 0) {
      char link[64], path[4096] = "";
      snprintf(link, sizeof link, "/proc/self/fd/%d", file);
      if (readlink(link, path, sizeof path - 1) < 0 || !strstr(path, getenv("FAULT_PATH"))) return 0;
    }
    if (atomic_fetch_add(&seen, count) + count <= atol(getenv("FAULT_AFTER"))) return 0;
    errno = atoi(getenv("FAULT_CODE"));
    return 1;
  }

  #define TRANSFER(name, type) \\
    ssize_t name(int file, type bytes, size_t count, off_t offset) { \\
      static ssize_t (*next)(int, type, size_t, off_t); \\
      if (!next) *(void **)&next = dlsym(RTLD_NEXT, #name); \\
      return fails(strncmp(#name, "pread", 5) ? "pwrite" : "pread", file, count) ? -1 : next(file, bytes, count, offset); \\
    }
  TRANSFER(pwrite, const void *)
  TRANSFER(pwrite64, const void *)
  TRANSFER(pread, void *)
  TRANSFER(pread64, void *)

  int madvise(void *address, size_t count, int advice) {
    static int (*next)(void *, size_t, int);
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "madvise");
    return advice == 22 && fails("madvise", -1, 1) ? -1 : next(address, count, advice);
  }

  int pthread_create(pthread_t *thread, const pthread_attr_t *settings, void *(*body)(void *), void *argument) {
    static int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "pthread_create");
    return fails("pthread_create", -1, 1) ? EAGAIN : next(thread, settings, body, argument);
  }
  """

private let recipe = """
  local qlora = require "qlora"
  local world = require "qlora.world"
  local p = qlora.params { model = qlora.resource "models/tiny", quant = "nf4", stream = false, at = 0, command = "" }
  local model = qlora.load(p.model, { quant = p.quant ~= "" and p.quant, compute = "f32", stream = p.stream })
  model:add_lora { select = "all-linear", rank = 4, alpha = 8, dropout = 0.1 }
  local data = qlora.data.load(world.scenes(64, 1), {
    format = function(s) return { { text = s.sentence .. "\\n" }, { text = s.who, train = true } } end,
    tokenizer = model.tokenizer, max_length = 64,
  })
  qlora.train {
    model = model, data = data, steps = 12, batch = 4, micro_batch = 2, seed = 3, save_every = 2, dir = "run",
    checkpointing = true, offload = true,
    optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3, bits = 8, paged = true, budget = "128KiB" }),
    on_step = function(s) if s.step == p.at then os.execute(p.command) end end,
  }
  model:save_adapter "adapter"
  """

/// Every fault ends the program with exit code 1 and a message that says what, where and what to do; checkpoints stay
/// whole, and the run goes on to the bits of one that met no fault.
@Suite(.serialized) struct FaultTests {
  private static let wanted: Data? = try? {
    let directory = try folder()
    let outcome = try Program.run(["--quiet", "r.lua"], in: directory)
    #expect(outcome.code == 0, "\(outcome.errors)")
    return try adapter(directory)
  }()

  static let library = compiled(shim)

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
    try recipe.write(to: directory.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
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
      call: "pwrite", path: "run/qlora-", code: ENOSPC, after: 2_500_000,
      messages: ["to the spill file in run: No space left on device", "on another disk", "go on with --resume"]),
    Fault(
      call: "pwrite", path: "run/qlora-", code: EIO, after: 3_000_000,
      messages: ["to the spill file in run: Input/output error", "is unharmed"]),
    Fault(
      call: "pread", path: "run/qlora-", code: EIO, after: 2_500_000,
      messages: ["from the spill file in run: Input/output error", "from the last checkpoint with --resume"]),
    Fault(
      call: "pwrite", path: "checkpoint-", code: ENOSPC, after: 2_000_000,
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
}
