import Foundation
import Testing

/// No path is a marker.
@Suite struct NamesOfModelsTests {
  /// Once a pass has run, the bytes of a loaded base are on the books, also in a directory with the name that a random
  /// model has.
  @Test func aModelInADirectoryCalledNewIsReadFromItsFile() throws {
    let directory = try Program.temporaryDirectory()
    defer { try? FileManager.default.removeItem(at: directory) }
    try """
    local qlora = require "qlora"
    local config = { model_type = "llama", hidden_size = 64, intermediate_size = 128, num_hidden_layers = 2,
      num_attention_heads = 4, num_key_value_heads = 2, vocab_size = 128, max_position_embeddings = 64 }
    local random = qlora.new_model { config = config, seed = 1 }
    random:save "new"
    for _, path in ipairs { "new", "./new" } do
      local model = qlora.load(path, { quant = false, compute = "bf16" })
      model:logits { 1, 2, 3 }
      collectgarbage() collectgarbage()
      print(path, model:memory().file)
    end
    """.write(to: directory.appendingPathComponent("recipe.lua"), atomically: true, encoding: .utf8)
    let outcome = try Program.run(["recipe.lua"], in: directory)
    #expect(outcome.code == 0, "\(outcome.errors)")
    let bytes = outcome.output.split(separator: "\n").compactMap { line -> Int? in
      let parts = line.split(separator: "\t")
      return parts.count == 2 && parts[0].hasSuffix("new") ? Int(parts[1]) : nil
    }
    // Counted in units of 64 KiB, of which a mapping may touch one more where it does not start at a border.
    let counts = bytes.map { $0 >> 16 }
    #expect(counts.count == 2 && counts.allSatisfy { (3...4).contains($0) }, "\(outcome.output)")
  }
}
