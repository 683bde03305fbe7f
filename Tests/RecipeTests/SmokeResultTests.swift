import Foundation
import Testing

/// Runs that are to have no results leave everything as it was: --smoke writes into the folder smoke, --plan nothing.
@Suite struct SmokeResultTests {
  /// Everything that a recipe may write, read again at once.
  private static let models = """
    local model = qlora.load(qlora.resource "models/tiny", { compute = "f32" })
    model:add_lora { select = { "q_proj" }, rank = 2, alpha = 4, quiet = true }
    model:save_adapter "out/adapter/"
    model:save_adapter "out/adapter.gguf"
    model:remove_adapters()
    model:save "out/model.v1"
    model:save_gguf "../beside/model.gguf"
    assert(model:add_adapter "out/adapter" > 0)
    native.quantize_checkpoint(qlora.resource "models/tiny", "out/nf4", { quant = "nf4" })

    """
  private static let files = """
    qlora.save("out/one.safetensors", { x = qlora.tensor { native.options.smoke and 2 or 1 } })
    qlora.plot.heatmap(qlora.tensor { { 1, 2 }, { 3, 4 } }, { file = "out/map.svg" })
    local run = qlora.run { dir = "runs/a" }
    run:log { step = 1, loss = 3.5 }
    run:finish { steps = 1, tokens = 10, seconds = 1.0, first_loss = 3.5, last_loss = 3.5 }
    local file = assert(io.open("notes.txt", "a"))
    file:write "more\\n"
    file:close()
    assert(io.open "notes.txt":read "a" == "precious\\nmore\\n")
    assert(os.rename("notes.txt", "moved.txt") and io.open "moved.txt":read "a" == "precious\\nmore\\n")
    assert(os.remove "moved.txt")
    native.mkdir "out/deep"
    native.write_file("out/deep/own.txt", "own")
    native.remove_tree "data"
    assert(io.open "out/deep/own.txt":read "a" == "own")
    assert(qlora.load "out/one.safetensors".x:item() == (native.options.smoke and 2 or 1))
    local runs = qlora.runs()
    assert(runs[1].name == "a" and #qlora.runs.names() > 10)
    """
  private static let head = "local qlora = require \"qlora\"\nlocal native = qlora.native\nnative.mkdir \"out\"\n"

  /// What lies below a folder: texts and times of files, names of folders.
  private func contents(_ folder: URL) throws -> [String: String] {
    var found: [String: String] = [:]
    // By whole paths: enumerator(atPath:) loses a folder's own path wherever else it occurs, as it does below smoke.
    let whole = folder.resolvingSymlinksInPath()
    for case let url as URL in FileManager.default.enumerator(at: whole, includingPropertiesForKeys: nil) ?? .init() {
      let path = url.path, name = String(path.dropFirst(whole.path.count + 1))
      let time = try FileManager.default.attributesOfItem(atPath: path)[.modificationDate] as? Date
      let bytes = FileManager.default.contents(atPath: path)
      found[name] = bytes.map { "\($0.hashValue) \(time ?? .distantPast)" } ?? "folder"
    }
    return found
  }

  /// A folder, in one of its own, with files that a recipe changes.
  private func makeFolder() throws -> URL {
    let directory = try Program.temporaryDirectory().appendingPathComponent("work")
    try FileManager.default.createDirectory(
      at: directory.appendingPathComponent("../beside"), withIntermediateDirectories: true)
    try fill(directory)
    return directory
  }

  private func fill(_ directory: URL) throws {
    try FileManager.default.createDirectory(
      at: directory.appendingPathComponent("data"), withIntermediateDirectories: true)
    for (name, text) in [
      ("notes.txt", "precious\n"), ("data/d.jsonl", "precious\n"), ("r.lua", Self.head + Self.models + Self.files),
      ("plan.lua", Self.head + Self.files),
    ] {
      try text.write(to: directory.appendingPathComponent(name), atomically: true, encoding: .utf8)
    }
  }

  @Test func smokeAndPlanLeaveEverythingAsItWas() throws {
    let directory = try makeFolder(), whole = directory.deletingLastPathComponent()
    defer { try? FileManager.default.removeItem(at: whole) }
    for hasResults in [false, true] {
      if hasResults {
        let real = try Program.run(["r.lua"], in: directory)
        #expect(real.code == 0, "\(real.errors)")
        try fill(directory)
      }
      try? FileManager.default.removeItem(at: directory.appendingPathComponent("smoke"))
      let before = try contents(whole)
      #expect(before.keys.contains("work/out/adapter/adapter_model.safetensors") == hasResults)
      #expect(before.keys.contains("work/runs/runs.sqlite") == hasResults)
      for _ in 0..<2 {
        let smoke = try Program.run(["--smoke", "r.lua"], in: directory)
        #expect(smoke.code == 0, "\(smoke.errors)")
        #expect(
          smoke.errors.contains("--smoke: saved in smoke/out/adapter, so that out/adapter/ stays as it is"),
          "\(smoke.errors)")
      }
      let after = try contents(whole)
      #expect(after.filter { !$0.key.hasPrefix("work/smoke") } == before)
      for name in ["adapter/adapter_config.json", "adapter.gguf", "model.v1/config.json", "nf4", "map.svg"] {
        #expect(after["work/smoke/out/" + name] != nil, "\(name)")
      }
      #expect(after["work/smoke/runs/a/report.html"] != nil && after["work/smoke/runs/a-2"] != nil)
      // Temporary files of a plan go with it.
      let scratch = try Program.temporaryDirectory()
      let plan = try Program.run(
        ["--plan", "plan.lua"], in: directory, environment: ["TMPDIR": scratch.path])
      #expect(plan.code == 0 && plan.errors.contains("--plan: out/map.svg is not written"), "\(plan.errors)")
      #expect(try contents(whole) == after)
      #expect(try contents(scratch).isEmpty)
    }
  }

  /// Recipes of each kind that write, and the one that `train` writes.
  @Test func shippedRecipesWriteIntoTheFolderAlone() throws {
    let directory = try makeFolder()
    defer { try? FileManager.default.removeItem(at: directory.deletingLastPathComponent()) }
    try String(repeating: #"{"input":"Who?","output":"Mia."}"# + "\n", count: 8).write(
      to: directory.appendingPathComponent("d.jsonl"), atomically: true, encoding: .utf8)
    let before = try contents(directory)
    let names = [
      "dpo", "explore", "export_gguf", "merge", "quantize", "quickstart", "several_adapters", "sweep_together",
      "synthetic",
    ]
    let commands =
      names.map { [$0 + ".lua"] } + [
        ["train", "--model", "tiny", "--data", "d.jsonl", "--out", "out/new", "--set", "held_out=0.5"]
      ]
    for command in commands {
      let smoke = try Program.run(command + ["--smoke", "--quiet"], in: directory)
      #expect(smoke.code == 0, "\(command): \(smoke.errors)")
      let after = try contents(directory)
      #expect(after.filter { !$0.key.hasPrefix("smoke") } == before, "\(command)")
      // What is said to be written lies there.
      let told = smoke.output.split { " ,:;()\n".contains($0) }.filter { $0.contains("out/") }
      for path in told { #expect(after[String(path)] != nil, "\(command): \(path) in \(smoke.output)") }
      if ["export_gguf.lua", "merge.lua", "quantize.lua", "synthetic.lua"].contains(command[0]) {
        #expect(!told.isEmpty, "\(command): \(smoke.output)")
      }
      _ = try Program.run(command + ["--plan", "--quiet"], in: directory)
      #expect(try contents(directory) == after, "\(command)")
    }
  }
}
