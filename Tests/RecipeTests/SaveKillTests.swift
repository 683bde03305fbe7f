import Foundation
import Testing

/// Ends the program with SIGKILL before the n-th call that changes a folder, or flips a bit of the n-th write; both
/// count only what happens after the file `armed` was made, and only in paths that hold the word.
private let shim = """
  #define _GNU_SOURCE
  #include <dlfcn.h>
  #include <fcntl.h>
  #include <signal.h>
  #include <stdio.h>
  #include <stdlib.h>
  #include <string.h>
  #include <sys/stat.h>
  #include <unistd.h>

  static long seen;

  static void step(const char *path) {
    if (!getenv("KILL_AT") || !strstr(path, getenv("KILL_PATH")) || access("armed", F_OK)) return;
    if (++seen == atol(getenv("KILL_AT"))) kill(getpid(), SIGKILL);
  }

  #define NEXT(name) if (!next) *(void **)&next = dlsym(RTLD_NEXT, name)

  int rename(const char *from, const char *to) {
    static int (*next)(const char *, const char *);
    NEXT("rename");
    step(to);
    return next(from, to);
  }
  int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    static int (*next)(int, const char *, int, const char *, unsigned);
    NEXT("renameat2");
    step(to);
    return next(a, from, b, to, flags);
  }
  int unlink(const char *path) {
    static int (*next)(const char *);
    NEXT("unlink");
    step(path);
    return next(path);
  }
  int rmdir(const char *path) {
    static int (*next)(const char *);
    NEXT("rmdir");
    step(path);
    return next(path);
  }
  int mkdir(const char *path, mode_t mode) {
    static int (*next)(const char *, mode_t);
    NEXT("mkdir");
    step(path);
    return next(path, mode);
  }
  static ssize_t put(const char *name, int file, const void *bytes, size_t count, off_t offset) {
    ssize_t (*next)(int, const void *, size_t, off_t);
    *(void **)&next = dlsym(RTLD_NEXT, name);
    char link[64], path[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    if (readlink(link, path, sizeof path - 1) < 0) path[0] = 0;
    step(path);
    if (getenv("FLIP_PATH") && strstr(path, getenv("FLIP_PATH")) && count > 8) {
      char *changed = malloc(count);
      memcpy(changed, bytes, count);
      changed[count / 2] ^= 4;
      ssize_t result = next(file, changed, count, offset);
      free(changed);
      return result;
    }
    return next(file, bytes, count, offset);
  }
  ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset) {
    return put("pwrite", file, bytes, count, offset);
  }
  ssize_t pwrite64(int file, const void *bytes, size_t count, off_t offset) {
    return put("pwrite64", file, bytes, count, offset);
  }
  """

/// Saves `kind` into `out`; `version` says with which values. The old one is there before `armed` is made.
private let recipe = """
  local qlora = require "qlora"
  local p = qlora.params { kind = "adapter", version = "new" }
  local config = { model_type = "llama", hidden_size = 16, intermediate_size = 16, num_hidden_layers = 1,
    num_attention_heads = 2, num_key_value_heads = 1, vocab_size = 32, max_position_embeddings = 32,
    rms_norm_eps = p.version == "new" and 1e-5 or 1e-6 }
  local model = qlora.new_model { config = config, seed = p.version == "new" and 1 or 2 }
  if p.kind == "model" then
    model:save "out"
  else
    model:add_lora { select = { "q_proj", "v_proj" }, rank = 2, alpha = p.version == "new" and 4 or 8, quiet = true }
    for _, tensor in ipairs(model:trainable()) do tensor:add_(p.version == "new" and 0.25 or 0.5) end
    if p.kind == "adapter" then
      model:save_adapter "out"
    else
      qlora.native.save_checkpoint("run/checkpoint-000001", { model = model, state = { version = p.version } })
    end
  end
  """

@Suite(.serialized) struct SaveKillTests {
  private static let library = FaultTests.compiled(shim)

  /// The files of a folder by name, without what is still being written.
  private func files(_ folder: URL) throws -> [String: Data] {
    var found: [String: Data] = [:]
    for case let url as URL in FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil) ?? .init() {
      var isFolder: ObjCBool = false
      _ = FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder)
      if !isFolder.boolValue, !url.path.contains(".qlora-tmp-") {
        found[url.lastPathComponent] = try Data(contentsOf: url)
      }
    }
    return found
  }

  private func run(
    _ kind: String, _ version: String, in directory: URL, environment: [String: String] = [:]
  ) throws -> Program.Outcome {
    try Program.run(
      ["--quiet", "--set", "kind=\(kind)", "--set", "version=\(version)", "r.lua"], in: directory,
      environment: environment)
  }

  private func directory() throws -> URL {
    let directory = try Program.temporaryDirectory()
    try recipe.write(to: directory.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
    return directory
  }

  /// Killed before each call in turn that changes something, over an older one of the same name: what is there is the
  /// old one, the new one, or, in a folder with other things, one that says that the save was interrupted. The other
  /// things stay, and the next save leaves nothing of the killed ones.
  @Test(
    .enabled(if: library != nil, "no C compiler"),
    arguments: [("adapter", false), ("adapter", true), ("model", false), ("model", true), ("checkpoint", false)])
  func aKilledSaveLeavesTheOldOrTheNew(kind: String, isShared: Bool) throws {
    let directory = try directory()
    let place = directory.appendingPathComponent(kind == "checkpoint" ? "run/checkpoint-000001" : "out")
    let key = ["adapter": "adapter_config.json", "model": "config.json", "checkpoint": "state.json"][kind] ?? ""
    func put(_ version: String) throws -> [String: Data] {
      let outcome = try run(kind, version, in: directory)
      #expect(outcome.code == 0, "\(outcome.errors)")
      return try files(place)
    }
    let new = try put("new")
    let old = try put("old")
    #expect(new.count >= 2 && new.keys == old.keys && new[key] != nil && new.allSatisfy { old[$0.key] != $0.value })
    func share() throws {
      guard isShared else { return }
      try Data("mine".utf8).write(to: place.appendingPathComponent("notes.txt"))
      // Of an older save in another form.
      let stale = kind == "model" ? "model-00001-of-00002.safetensors" : "adapter_model-00001-of-00002.safetensors"
      try Data("stale".utf8).write(to: place.appendingPathComponent(stale))
    }
    try share()
    try Data().write(to: directory.appendingPathComponent("armed"))
    var (calls, ends, interrupted) = (0, 0, 0)
    while true {
      calls += 1
      let outcome = try run(
        kind, "new", in: directory,
        environment: [
          "LD_PRELOAD": try #require(Self.library), "KILL_AT": String(calls),
          "KILL_PATH": kind == "checkpoint" ? "checkpoint-000001" : "out",
        ])
      let now = try files(place).filter { new[$0.key] != nil }
      let isInterrupted = now[key].map { String(decoding: $0, as: UTF8.self).contains("INTERRUPTED") } ?? false
      #expect(now == old || now == new || isShared && isInterrupted, "call \(calls): \(now.keys)")
      if isShared {
        #expect(try files(place)["notes.txt"] == Data("mine".utf8))
        if now == new { #expect(try files(place).keys.filter { $0.contains("-of-") } == []) }
      }
      interrupted += isInterrupted ? 1 : 0
      if outcome.code == 0 { break }
      ends += 1
      #expect(outcome.code == SIGKILL, "\(outcome.errors)")
      // The next save starts from the old one, and what it finds of the killed one does not hinder it.
      try FileManager.default.removeItem(at: directory.appendingPathComponent("armed"))
      _ = try put("old")
      try share()
      try Data().write(to: directory.appendingPathComponent("armed"))
    }
    #expect(ends >= 10 && (interrupted > 0) == isShared)
    let parent = place.deletingLastPathComponent()
    let names =
      try FileManager.default.contentsOfDirectory(atPath: parent.path)
      + FileManager.default.contentsOfDirectory(atPath: place.path)
    #expect(!names.contains { $0.contains(".qlora-tmp-") || $0.contains(".qlora-old-") }, "\(names)")
    try FileManager.default.removeItem(at: directory)
  }

  /// A bit that flips on the way to the disk is noticed by every writer, and the old files stay.
  @Test(
    .enabled(if: library != nil, "no C compiler"),
    arguments: [
      ("adapter", "adapter_model"), ("adapter", "adapter_config"), ("model", "model.safetensors"),
      ("model", "config.json"), ("checkpoint", "trained"), ("checkpoint", "state"),
    ])
  func aFlippedBitIsNoticed(kind: String, file: String) throws {
    let directory = try directory()
    let place = directory.appendingPathComponent(kind == "checkpoint" ? "run/checkpoint-000001" : "out")
    #expect(try run(kind, "old", in: directory).code == 0)
    let old = try files(place)
    let outcome = try run(
      kind, "new", in: directory, environment: ["LD_PRELOAD": try #require(Self.library), "FLIP_PATH": file])
    #expect(outcome.code == 1)
    #expect(outcome.errors.contains(file) && outcome.errors.contains("reads back differently"), "\(outcome.errors)")
    #expect(try files(place) == old)
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.deletingLastPathComponent().path).count <= 2)
    try FileManager.default.removeItem(at: directory)
  }
}
