import CPUBackend
import Foundation
import Models
import Tensors
import Testing

@testable import Adapters

private let tiny = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent().appendingPathComponent("models/tiny").path
private let ids: [Int32] = (0..<16).map { (i: Int) -> Int32 in Int32(37 * i % 1280) }

private func load(_ options: LoadOptions = LoadOptions(quantization: .nf4, computeType: .f32)) throws -> LanguageModel {
  try ModelLoader(backend: CPUBackend(threadCount: 2), options: options).load(tiny)
}

private func attach(to model: LanguageModel) throws {
  let targets = model.modules.filter { $0.role == "up_proj" }
  try model.attach(targets.map { ($0.name, LoRA(rank: 2, alpha: 3)) })
  for adapter in model.adapters {
    try model.backend.fillNormal(
      adapter.tensors[1], mean: 0, deviation: 0.1, stream: RandomStream(seed: 1, purpose: adapter.moduleName))
  }
}

/// Several experiments over one loaded base, and what is written being what was trained.
@Suite struct VariantTests {
  @Test func removedAdaptersLeaveTheBaseAsItWas() throws {
    let model = try load()
    let base = try model.logits(ids).floats()
    try attach(to: model)
    #expect(try model.logits(ids).floats() != base)
    #expect(model.removeAdapters() == 5)
    #expect(model.removeAdapters() == 0)
    #expect(try model.logits(ids).floats() == base)
    try attach(to: model)
    #expect(model.adapters.count == 5)
  }

  @Test func aSavedAdapterIsReadBack() throws {
    let model = try load()
    try attach(to: model)
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    try PEFTFiles.save(model, directory: folder)
    let own = model.adapters.map { $0.tensors[0] }
    try PEFTFiles.check(folder, against: model)
    #expect(zip(own, model.adapters.map { $0.tensors[0] }).allSatisfy { $0 === $1 })

    // One bit of the fourth matrix flips on the disk.
    let path = folder + "/adapter_model.safetensors"
    var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
    bytes[bytes.count - 3] ^= 0x40
    try bytes.write(to: URL(fileURLWithPath: path))
    let error = #expect(throws: AdapterError.self) { try PEFTFiles.check(folder, against: model) }
    guard case .readsBackDifferently(_, let module, let difference)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(module == "model.layers.4.mlp.up_proj" && difference > 0)
    #expect(zip(own, model.adapters.map { $0.tensors[0] }).allSatisfy { $0 === $1 })
  }

  @Test func aFolderWithoutAdapterSaysSo() throws {
    #expect(throws: AdapterError.notAnAdapter(path: "/nowhere")) { try PEFTFiles.load("/nowhere", into: try load()) }
  }

  @Test func modulesHaveTypesOfTheirOwnAndHeadersKnowThem() throws {
    var options = LoadOptions(quantization: .nf4, computeType: .bf16)
    options.moduleQuantization = ["model.layers.0.mlp.up_proj": .int4, "model.layers.1.mlp.up_proj": nil]
    let model = try load(options)
    options.headerOnly = true
    let header = try load(options)
    for (loaded, planned) in zip(model.modules, header.modules) {
      #expect(loaded.quantization == planned.quantization, "\(loaded.name)")
      #expect(loaded.byteCount == planned.byteCount, "\(loaded.name)")
    }
    #expect(model.module("model.layers.0.mlp.up_proj")?.quantization == .int4)
    #expect(model.module("model.layers.1.mlp.up_proj")?.quantization == nil)
    #expect(model.module("model.layers.2.mlp.up_proj")?.quantization == .nf4)
    #expect(model.module("model.embed_tokens")?.quantization == nil)
  }
}
