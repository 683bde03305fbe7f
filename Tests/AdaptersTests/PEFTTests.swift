import CPUBackend
import Formats
import Foundation
import Models
import Tensors
import Testing

@testable import Adapters

private let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .appendingPathComponent("Fixtures/models").path
private let ids: [Int32] = (0..<24).map { (i: Int) -> Int32 in Int32((7 * i * i + 3 * i + 5) % 128) }

private func load(_ name: String) throws -> LanguageModel {
  try ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .f32)).load(
    "\(fixtures)/\(name)")
}

private func logits(_ path: String) throws -> [Float] {
  try WeightSource(path: "\(fixtures)/\(path)").read("logits")
}

private func relativeError(_ got: [Float], _ wanted: [Float]) -> Float {
  guard got.count == wanted.count else { return .infinity }
  return (zip(got, wanted).map { ($0 - $1).magnitude }.max() ?? .infinity) / (wanted.map(\.magnitude).max() ?? 1)
}

private func temporary() -> String {
  FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
}

@Suite struct PEFTTests {
  @Test(arguments: ["base", "nf4dq"])
  func adaptersOfPEFTGiveItsLogits(name: String) throws {
    let model = try load(name)
    #expect(try PEFTFiles.load("\(fixtures)/patterns", into: model) == 4)
    #expect(Set(model.adapters.compactMap(\.lowRank?.rank)) == [2, 4, 6])
    let wanted = try logits("patterns/logits_\(name).safetensors")
    #expect(relativeError(try model.logits(ids).floats(), wanted) < 2e-5)
    let plain = try model.withoutAdapters { try model.logits(ids).floats() }
    #expect(relativeError(plain, try logits("\(name)/logits.safetensors")) < 2e-5)
    #expect(relativeError(plain, wanted) > 1e-4)
    try model.mergeAdapters()
    #expect(relativeError(try model.logits(ids).floats(), wanted) < 5e-5)
    #expect(model.adapters.isEmpty)
  }

  @Test func whatIsSavedReadsBackTheSame() throws {
    let model = try load("base")
    try model.attach([
      ("model.layers.0.self_attn.q_proj", LoRA(rank: 4, alpha: 8)),
      ("model.layers.0.mlp.down_proj", LoRA(rank: 2, alpha: 3, dropout: 0.1)),
      ("lm_head", LoRA(rank: 4, alpha: 8)),
    ])
    for adapter in model.adapters {
      try model.backend.fillNormal(
        adapter.tensors[1], mean: 0, deviation: 0.1, stream: RandomStream(seed: 1, purpose: adapter.moduleName))
    }
    let directory = temporary()
    try PEFTFiles.save(model, directory: directory)
    let again = try load("base")
    #expect(try PEFTFiles.load(directory, into: again, trainable: true) == 3)
    #expect(try model.logits(ids).floats() == again.logits(ids).floats())
    #expect(again.adapters.map { $0.method.settings[1].value } == model.adapters.map { $0.method.settings[1].value })
    let config = try JSON.read(path: directory + "/adapter_config.json")
    #expect(config["peft_type"]?.string == "LORA" && config["r"]?.int == 4)
    #expect(config["rank_pattern"]?["model.layers.0.mlp.down_proj"]?.int == 2)
    try FileManager.default.removeItem(atPath: directory)
  }

  @Test func pickledWeightsOfOthersStay() throws {
    let model = try load("base")
    try model.attachLoRA(rank: 2, alpha: 4)
    let folder = temporary()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    for name in ["adapter_model.bin", "adapter_model-00001-of-00002.bin"] {
      let file = "\(folder)/\(name)"
      try Data("theirs".utf8).write(to: URL(fileURLWithPath: file))
      #expect { try PEFTFiles.save(model, directory: folder) } throws: {
        "\($0)".contains("holds \(name), which readers")
      }
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == [name])
      try FileManager.default.removeItem(atPath: file)
    }
  }

  @Test func aNewAdapterChangesNothingAndStaysInItsBounds() throws {
    let model = try load("base")
    let before = try model.logits(ids).floats()
    let linear = model.modules.filter { $0.kind == .linear }
    #expect(try model.attach(linear.map { ($0.name, LoRA(rank: 3, alpha: 6)) }) > 0)
    #expect(try model.logits(ids).floats() == before)
    for adapter in model.adapters {
      let bound = 1 / Float(adapter.tensors[0].shape[1]).squareRoot()
      let values = try adapter.tensors[0].floats()
      #expect(values.allSatisfy { abs($0) <= bound } && Set(values).count > values.count / 2)
    }
  }

  @Test func impossibleSpecificationsAreNamed() throws {
    let model = try load("base")
    func attach(_ name: String, rank: Int = 4, alpha: Double = 8, dropout: Double = 0) throws {
      try model.attach([(name, LoRA(rank: rank, alpha: alpha, dropout: dropout))])
    }
    #expect(throws: AdapterError.unknownModule(name: "q_proj", nearest: ["model.layers.0.self_attn.q_proj"])) {
      try attach("q_proj")
    }
    #expect(throws: AdapterError.notLinear(module: "model.norm", kind: "norm")) { try attach("model.norm") }
    #expect(throws: AdapterError.badRank(module: "lm_head", rank: 0, limit: 65536)) { try attach("lm_head", rank: 0) }
    #expect(throws: AdapterError.self) { try attach("lm_head", alpha: .nan) }
    #expect(throws: AdapterError.self) { try attach("lm_head", dropout: 1) }
    try attach("lm_head")
    #expect(throws: AdapterError.alreadyAttached(module: "lm_head", set: "default")) { try attach("lm_head") }
    #expect(throws: AdapterError.nothingToSave) { try PEFTFiles.save(try load("base"), directory: temporary()) }
  }
}
