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

private func distance(_ a: [Float], _ b: [Float]) -> Double {
  zip(a, b).map { Double(abs($0 - $1)) }.max() ?? .infinity
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

  /// A NaN is a difference, though it compares with nothing.
  @Test func anAdapterThatReadsBackAsNotANumberIsRefused() throws {
    let model = try load()
    try attach(to: model)
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try PEFTFiles.save(model, directory: folder)
    let path = folder + "/adapter_model.safetensors"
    var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
    bytes.replaceSubrange(bytes.count - 4..<bytes.count, with: [0, 0, 0xC0, 0x7F])
    try bytes.write(to: URL(fileURLWithPath: path))
    let module = "model.layers.4.mlp.up_proj"
    #expect(throws: AdapterError.readsBackDifferently(path: folder, module: module, difference: .infinity)) {
      try PEFTFiles.check(folder, against: model)
    }
  }

  /// What cannot be merged for want of memory computes as before, however far it came, and can be merged later.
  @Test func aMergeThatStopsMidwayAddsNothingTwice() throws {
    let model = try load(LoadOptions(quantization: .nf4, computeType: .f32))
    try attach(to: model)
    let before = try model.logits(ids).floats()
    let memory = model.backend.memory
    var stopped = 0
    for room in stride(from: 50_000, to: 2_000_000, by: 50_000) {
      memory.limit = model.backend.residentByteCount + room
      do {
        try model.mergeAdapters()
        break
      } catch TensorError.outOfMemory {
        memory.limit = nil
        stopped += (1..<5).contains(model.adapters.count) ? 1 : 0
        let now = try model.logits(ids).floats()
        #expect(distance(now, before) < 1e-4, "\(model.adapters.count)")
      }
    }
    memory.limit = nil
    #expect(stopped > 0 && model.isMerged && model.adapterSets.isEmpty)
    let merged = try model.logits(ids).floats()
    #expect(distance(merged, before) < 1e-4)
  }

  @Test func adaptersOfSomeModulesComeOff() throws {
    let model = try load()
    try attach(to: model)
    let name = "model.layers.1.mlp.up_proj"
    #expect(try model.removeAdapters("default", ofModules: [name, "nothing"]) == 1)
    #expect(model.adapters.count == 4 && model.module(name)?.adapter == nil)
    #expect(throws: AdapterError.unknownSet(name: "other", known: ["default"])) {
      try model.removeAdapters("other", ofModules: [name])
    }
    #expect(try model.removeAdapters("default", ofModules: Set(model.modules.map(\.name))) == 4)
    #expect(model.adapterSets.isEmpty)
  }

  /// A start that replaces weights leaves another base, which a sweep must not go on with.
  @Test func loftQLeavesAnotherBase() throws {
    let model = try load(LoadOptions(computeType: .f32))
    #expect(!model.hasOtherWeights)
    var method = LoRA(rank: 2, alpha: 3)
    method.initialization = .loftq
    try model.attach([("model.layers.0.mlp.up_proj", method)])
    model.removeAdapters()
    #expect(model.hasOtherWeights && !model.isMerged)
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
