import Foundation
import Testing

/// The engine speaks to a Swift user as well: its texts know no Lua, no flags and no recipes. What a recipe can do
/// about an error is in LuaBindings/Remedy.swift. Hub names the program to servers, and Ranks names flags of launchers.
@Suite struct WordingTests {
  private static let modules = [
    "Adapters", "Autograd", "CPUBackend", "Database", "Formats", "Models", "Optimizers", "Quantization", "Serving",
    "Tensors", "Tokenizers", "Training",
  ]

  @Test(arguments: modules) func textsOfTheEngineKnowNoLua(module: String) throws {
    let roof = /(?:^|[^-\w])--[a-z]+|qlora-run|\.lua\b|\b[a-z]+:[a-z_]+\b *[({]|:to\(| = (?:true|false)\b|requires_grad/
    var texts = 0
    for file in try files("swift", under: "Sources/\(module)") {
      for line in try String(contentsOf: file, encoding: .utf8).split(separator: "\n") {
        let code = line.prefix(upTo: line.firstRange(of: "//")?.lowerBound ?? line.endIndex)
        for text in code.matches(of: /"((?:[^"\\]|\\.)*)"/).map(\.1) {
          texts += 1
          #expect(text.firstMatch(of: roof) == nil, "\(module)/\(file.lastPathComponent): \(text)")
        }
      }
    }
    #expect(texts > 0)
  }
}
