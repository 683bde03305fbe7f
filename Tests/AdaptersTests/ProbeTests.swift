import CPUBackend
import Formats
import Foundation
import Models
import Tensors
import Testing

@testable import Adapters

/// What is saved is compared on a few tokens, of which a model with few positions takes fewer.
@Suite struct ProbeTests {
  @Test func aModelWithFewPositionsIsSaved() throws {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try FileManager.default.copyItem(atPath: root.appendingPathComponent("models/tiny").path, toPath: folder)
    var config = try #require(try JSON.read(path: folder + "/config.json").object)
    config["max_position_embeddings"] = 5
    try AtomicFile.write(folder + "/config.json", JSON.object(config).text())
    let model = try ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .f32))
      .load(folder)
    try model.attach([("model.layers.0.self_attn.q_proj", LoRA(rank: 2, alpha: 4))])
    try PEFTFiles.save(model, directory: folder + "/adapter")
    #expect(FileSystem.exists(folder + "/adapter/adapter_config.json"))
    try model.withoutAdapters { try model.save(directory: folder + "/model") }
  }
}
