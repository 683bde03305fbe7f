import Foundation
import Testing

/// The arrows of docs/architecture.md: what each module may import of ours. Anything else fails.
private let allowed: [String: Set<String>] = [
  "Numerics": ["CPlatform"],
  "Kernels": ["Numerics", "CPlatform"],
  "Tensors": ["Numerics", "CPlatform"],
  "CPUBackend": [
    "Tensors", "Numerics", "CPlatform", "KernelsBaseline", "KernelsAVX2", "KernelsAVX512", "KernelsAVX512BF16",
  ],
  "Autograd": ["Tensors"],
  "Quantization": ["Tensors", "Numerics"],
  "Formats": ["Tensors", "Numerics", "CPlatform"],
  "Tokenizers": ["Formats", "CPCRE2"],
  "Models": ["Tensors", "Autograd", "Quantization", "Formats", "Tokenizers", "Numerics"],
  "Adapters": ["Models", "Formats", "Tensors", "Autograd", "Quantization", "Numerics"],
  "Optimizers": ["Tensors", "Quantization", "Formats", "Numerics", "CPlatform"],
  "Training": [
    "Optimizers", "Adapters", "Models", "Tokenizers", "Formats", "Autograd", "Quantization", "Tensors", "Numerics",
    "CPlatform",
  ],
  "QLoRA": [
    "Training", "Optimizers", "Adapters", "Models", "Tokenizers", "Formats", "Quantization", "Autograd", "Tensors",
    "CPUBackend",
  ],
  "Database": ["CSQLite"],
  "LuaRuntime": ["CLua", "CLuaTrampoline"],
  "LuaBindings": [
    "LuaRuntime", "Training", "Optimizers", "Adapters", "Models", "Tokenizers", "Formats", "Quantization", "Autograd",
    "Tensors", "CPUBackend", "Numerics", "Database",
  ],
  "qlora-run": ["LuaBindings", "LuaRuntime", "CEdit", "CPlatform"],
]

private let systemModules: Set<String> = ["Swift", "Glibc", "Synchronization", "Darwin"]

let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent()

private func swiftFiles(under folder: URL) throws -> [URL] {
  guard let walk = FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil) else { return [] }
  return walk.compactMap { $0 as? URL }.filter { $0.pathExtension == "swift" }
}

@Suite struct ImportTests {
  @Test(arguments: allowed.keys.sorted())
  func importsFollowTheArrows(module: String) throws {
    let files = try swiftFiles(under: root.appendingPathComponent("Sources/\(module)"))
    #expect(!files.isEmpty, "no sources found for \(module)")
    let permitted = try #require(allowed[module]).union(systemModules)
    for file in files {
      for line in try String(contentsOf: file, encoding: .utf8).split(separator: "\n") {
        let words = line.split(separator: " ")
        guard let at = words.firstIndex(of: "import"), at <= 1, at + 1 < words.count else { continue }
        guard at == 0 || words[0].hasPrefix("@") || words[0] == "public" else { continue }
        let imported = String(words[at + 1])
        #expect(permitted.contains(imported), "\(module)/\(file.lastPathComponent) imports \(imported)")
      }
    }
  }

  @Test func everySourceFolderHasItsArrowsDrawn() throws {
    let folders = try FileManager.default.contentsOfDirectory(atPath: root.appendingPathComponent("Sources").path)
    let c: Set<String> = ["CPlatform", "CLua", "CLuaTrampoline", "CPCRE2", "CEdit", "CSQLite"]
    for folder in folders where !c.contains(folder) && !folder.hasPrefix(".") {
      let isBuild = folder.hasPrefix("Kernels") && folder != "Kernels"
      #expect(isBuild || allowed[folder] != nil, "Sources/\(folder) is not in the table of arrows")
    }
  }
}

@Suite struct FileSizeTests {
  /// 600 lines is the limit for a source file, 300 for the Lua library, 120 for a recipe.
  @Test func filesStayReadable() throws {
    for (folder, suffix, limit) in [("Sources", "swift", 600), ("stdlib/qlora", "lua", 300), ("recipes", "lua", 120)] {
      guard
        let walk = FileManager.default.enumerator(
          at: root.appendingPathComponent(folder), includingPropertiesForKeys: nil)
      else { continue }
      for case let file as URL in walk where file.pathExtension == suffix && !file.path.contains("/data/") {
        let lines = try String(contentsOf: file, encoding: .utf8).split(
          separator: "\n", omittingEmptySubsequences: false)
        #expect(
          lines.count <= limit + 1, "\(folder)/\(file.lastPathComponent) has \(lines.count) lines, limit \(limit)")
      }
    }
  }
}
