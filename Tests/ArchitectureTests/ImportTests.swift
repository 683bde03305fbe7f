import Foundation
import Testing

/// The arrows of docs/architecture.md: what each module imports of ours. Another import fails, and so does an arrow
/// that no file uses.
private let arrows: [String: Set<String>] = [
  "Numerics": [],
  "Kernels": ["Numerics", "CPlatform"],
  "Ranks": [],
  "Tensors": [],
  "CPUBackend": [
    "Tensors", "Numerics", "CPlatform", "KernelsBaseline", "KernelsAVX2", "KernelsAVX512", "KernelsAVX512BF16",
  ],
  "Autograd": ["Tensors"],
  "Quantization": ["Tensors", "Numerics"],
  "Formats": ["Tensors", "CPlatform"],
  "Hub": ["CCurl", "Formats", "Tensors"],
  "Tokenizers": ["Formats", "CPCRE2"],
  "Models": ["Tensors", "Autograd", "Quantization", "Formats", "Tokenizers"],
  "Adapters": ["Models", "Tokenizers", "Formats", "Quantization", "Autograd", "Tensors"],
  "Optimizers": ["Tensors", "Formats", "Numerics"],
  "Training": ["Optimizers", "Adapters", "Models", "Formats", "Quantization", "Autograd", "Tensors", "Ranks"],
  "QLoRA": [
    "Training", "Ranks", "Optimizers", "Adapters", "Models", "Tokenizers", "Formats", "Quantization", "Autograd",
    "Tensors",
    "CPUBackend",
  ],
  "Database": ["CSQLite"],
  "Serving": ["CMicroHTTPD"],
  "LuaRuntime": ["CLua", "CLuaTrampoline"],
  "LuaBindings": [
    "LuaRuntime", "Training", "Optimizers", "Adapters", "Models", "Tokenizers", "Formats", "Quantization", "Autograd",
    "Tensors", "CPUBackend", "Numerics", "Database", "Ranks", "Serving", "Hub",
  ],
  "qlora-run": ["LuaBindings", "LuaRuntime", "Formats", "Ranks", "CEdit"],
]

private let systemModules: Set<String> = ["Swift", "Glibc", "Synchronization", "Darwin"]

let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent()

/// The files of one kind under a folder.
/// - Throws: when the folder cannot be opened or holds none, since a test over no files proves nothing.
func files(_ suffix: String, under folder: String) throws -> [URL] {
  let folder = root.appendingPathComponent(folder)
  let walk = try #require(FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil))
  let found = walk.compactMap { $0 as? URL }.filter { $0.pathExtension == suffix }
  try #require(!found.isEmpty, "no .\(suffix) files under \(folder.path)")
  return found
}

/// The module that a line imports.
private func imported(_ line: Substring) -> String? {
  let words = line.split(separator: " ")
  guard let at = words.firstIndex(of: "import"), at <= 1, at + 1 < words.count else { return nil }
  guard at == 0 || words[0].hasPrefix("@") || words[0] == "public" else { return nil }
  return String(words[at + 1])
}

@Suite struct ImportTests {
  @Test(arguments: arrows.keys.sorted())
  func importsAreTheArrows(module: String) throws {
    var unused = try #require(arrows[module])
    let permitted = unused.union(systemModules)
    for file in try files("swift", under: "Sources/\(module)") {
      for name in try String(contentsOf: file, encoding: .utf8).split(separator: "\n").compactMap(imported) {
        #expect(permitted.contains(name), "\(module)/\(file.lastPathComponent) imports \(name)")
        unused.remove(name)
      }
    }
    #expect(unused.isEmpty, "no file of \(module) imports \(unused.sorted())")
  }

  /// The package declares the same arrows; the builds of the kernels stand for their sources.
  @Test(arguments: arrows.keys.sorted())
  func thePackageDeclaresTheArrows(module: String) throws {
    let text = try String(contentsOf: root.appendingPathComponent("Package.swift"), encoding: .utf8)
    let package = try #require(text.components(separatedBy: "\n  targets: [").last)
    let name = module == "Kernels" ? "KernelsBaseline" : module
    let start = try #require(package.range(of: "name: \"\(name)\""), "\(name) is no target").upperBound
    let target = package[start..<endOfTarget(package, from: start)]
    let declared = target.firstMatch(of: /dependencies: \[([^\]]*)\]/)?.1 ?? ""
    let names = Set(declared.matches(of: /"([^"]+)"/).map { String($0.1) })
    #expect(names == arrows[module])
  }

  /// Where the next target begins.
  private func endOfTarget(_ package: String, from start: String.Index) -> String.Index {
    let next = package[start...].firstMatch(of: /\n    (\.target|\.executableTarget|\.systemLibrary|\/\/ MARK)/)
    return next?.range.lowerBound ?? package.endIndex
  }

  @Test func everySourceFolderHasItsArrowsDrawn() throws {
    let folders = try FileManager.default.contentsOfDirectory(atPath: root.appendingPathComponent("Sources").path)
    let c: Set<String> = ["CPlatform", "CLua", "CLuaTrampoline", "CPCRE2", "CEdit", "CSQLite", "CCurl", "CMicroHTTPD"]
    #expect(c.isSubset(of: folders) && Set(arrows.keys).isSubset(of: folders))
    for folder in folders where !c.contains(folder) && !folder.hasPrefix(".") {
      let isBuild = folder.hasPrefix("Kernels") && folder != "Kernels"
      #expect(isBuild || arrows[folder] != nil, "Sources/\(folder) is not in the table of arrows")
    }
  }
}

@Suite struct FileSizeTests {
  /// 600 lines is the limit for a source file and for tests, 300 for the Lua library, 120 for a recipe.
  @Test(arguments: [
    ("Sources", "swift", 600), ("Tests", "swift", 600), ("stdlib/qlora", "lua", 300), ("recipes", "lua", 120),
  ])
  func filesStayReadable(folder: String, suffix: String, limit: Int) throws {
    for file in try files(suffix, under: folder) {
      let lines = try String(contentsOf: file, encoding: .utf8).split(separator: "\n", omittingEmptySubsequences: false)
      #expect(lines.count <= limit + 1, "\(folder)/\(file.lastPathComponent) has \(lines.count) lines, limit \(limit)")
    }
  }

  /// swift format breaks no texts and no comments.
  @Test(arguments: ["Sources", "Tests", "Fuzz", "Benchmarks", "Examples"])
  func linesHave120Columns(folder: String) throws {
    for file in try files("swift", under: folder) where !file.path.contains("/.build/") {
      let lines = try String(contentsOf: file, encoding: .utf8).split(separator: "\n", omittingEmptySubsequences: false)
      for (number, line) in lines.enumerated() where line.count > 120 {
        Issue.record("\(folder)/\(file.lastPathComponent):\(number + 1) has \(line.count) columns")
      }
    }
  }
}
