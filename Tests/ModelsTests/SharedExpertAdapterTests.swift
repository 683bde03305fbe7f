import Adapters
import CPUBackend
import Formats
import Foundation
import Tensors
import Testing

@testable import Models

/// Adapters that PEFT writes of models in which experts are no modules and the expert of every token is one.
@Suite struct SharedExpertAdapterTests {
  private static let fixture =
    SmolLM2.root.appendingPathComponent("Tests/Fixtures/families/qwen3_5_moe_text").path
  private static let ids: [Int32] = [1, 5, 9, 100, 3]

  private func load() throws -> LanguageModel {
    try ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .f32)).load(Self.fixture)
  }

  /// `all-linear` of PEFT becomes the last parts of the names of what is a module in transformers 5.
  @Test func namesOfModulesDoNotMeanExperts() throws {
    let model = try load()
    let shared = model.modules.filter { $0.name.contains(".shared_expert.") }
    try model.attach(shared.map { ($0.name, LoRA(rank: 2, alpha: 4)) })
    for (_, tensor) in model.trainableParameters {
      let values = (0..<tensor.shape.reduce(1, *)).map { Float($0 % 7) * 0.1 - 0.2 }
      try tensor.withMutableHostBytes { bytes in values.withUnsafeBytes { bytes.copyMemory(from: $0) } }
    }
    let wanted = try model.logits(Self.ids).floats()
    try withFolder { folder in
      let path = folder.path + "/adapter"
      try PEFTFiles.save(model, directory: path)
      let file = path + "/adapter_config.json"
      var json = try #require(try JSON.read(path: file).object)
      json["target_modules"] = ["gate_proj", "up_proj", "down_proj"]
      json["target_parameters"] = .null
      try JSON.object(json).text().write(toFile: file, atomically: true, encoding: .utf8)
      let again = try load()
      #expect(try PEFTFiles.load(path, into: again) == shared.count)
      #expect(try again.logits(Self.ids).floats() == wanted)
      #expect(try load().logits(Self.ids).floats() != wanted)
      // What is a module there must be in the file.
      json["target_modules"] = ["gate_proj", "up_proj", "down_proj", "out_proj"]
      try JSON.object(json).text().write(toFile: file, atomically: true, encoding: .utf8)
      #expect(throws: AdapterError.self) { try PEFTFiles.load(path, into: load()) }
    }
  }
}
