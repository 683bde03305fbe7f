import Adapters
import CPUBackend
import Formats
import Foundation
import Models
import Tensors
import Testing

private let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .appendingPathComponent("Fixtures").path

/// The files that PEFT 0.21.2 was seen to load, with the logits that it computed of them
/// (Fixtures/adapters/check_saved.py), are still what is written.
@Suite struct SavedAdapterTests {
  private let prompt: [Int32] = (0..<24).map { (i: Int) -> Int32 in Int32((7 * i * i + 3 * i + 5) % 128) }

  @Test(arguments: [
    "lora", "rslora", "dora", "bias_all", "bias_lora_only", "modules_to_save", "ia3", "pissa", "olora", "vera",
    "vera_drawn", "head", "embedding_tied", "both_tied", "tokens", "tokens_tied", "tokens_alone", "folded",
  ])
  func filesAreThoseThatPEFTLoads(name: String) throws {
    let model = try ModelLoader(
      backend: CPUBackend(threadCount: 1), options: LoadOptions(quantization: nil, computeType: .f32)
    ).load(fixtures + "/models/" + (name.hasSuffix("tied") ? "tied" : "bias"))
    let folder = "\(fixtures)/adapters/saved/\(name)"
    try PEFTFiles.load(folder, into: model)
    let theirs = try #require(JSON.read(path: fixtures + "/adapters/saved.json")[name]?.array).compactMap(\.double)
    let ours = try model.logits(prompt).floats().suffix(theirs.count).map(Double.init)
    try #require(ours.count == 128)
    let mean = theirs.reduce(0, +) / 128
    let deviation = (theirs.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 128).squareRoot()
    #expect(zip(ours, theirs).allSatisfy { abs($0 - $1) < 1e-4 * deviation })

    let copy = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: copy) }
    try PEFTFiles.save(model, directory: copy)
    func bytes(_ folder: String) -> Data? {
      FileManager.default.contents(atPath: folder + "/adapter_model.safetensors")
    }
    #expect(bytes(copy) != nil && bytes(copy) == bytes(folder))
    func fields(_ folder: String) throws -> [String: JSON] {
      let members = try #require(JSON.read(path: folder + "/adapter_config.json").object)
      // Where the base was read from is another place.
      return Dictionary(uniqueKeysWithValues: members.map { ($0.0, $0.1) })
        .filter { $0.key != "base_model_name_or_path" }
    }
    #expect(try fields(copy) == fields(folder))
  }

  /// One rank and one scaling give the logits of several.
  @Test func foldedAdaptersComputeTheSame() throws {
    let model = try ModelLoader(
      backend: CPUBackend(threadCount: 1), options: LoadOptions(quantization: nil, computeType: .f32)
    ).load(fixtures + "/models/bias")
    let modules = model.modules.filter { ["q_proj", "down_proj"].contains($0.role) }
    try model.attach(
      modules.enumerated().map { ($1.name, LoRA(rank: 2 + $0, alpha: 3 + Double($0), rankStabilised: true)) })
    for (index, tensor) in model.adapters.flatMap(\.tensors).enumerated() {
      let stream = RandomStream(seed: 5, purpose: "noise", module: "\(index)")
      try model.backend.fillNormal(tensor, mean: 0, deviation: 0.2, stream: stream)
    }
    let before = try model.logits(prompt).floats()
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    #expect(try PEFTFiles.saveFolded(model, directory: path).changed == modules.map(\.name))
    #expect(try model.logits(prompt).floats() == before)
    let config = try JSON.read(path: path + "/adapter_config.json")
    #expect(config["rank_pattern"] == [:] && config["alpha_pattern"] == [:] && config["use_rslora"] == false)
    model.removeAdapters()
    try PEFTFiles.load(path, into: model)
    #expect(try PEFTFiles.modulesScaledApart(model).isEmpty)
    #expect(zip(try model.logits(prompt).floats(), before).allSatisfy { abs($0 - $1) < 1e-4 })
    model.removeAdapters()
    try model.attach([(modules[0].name, DoRA(LoRA(rank: 2, alpha: 2)))])
    let refusal = AdapterError.notLowRank(module: modules[0].name, what: "an adapter of the kind dora")
    #expect(throws: refusal) {
      try PEFTFiles.saveFolded(model, directory: path)
    }
  }

  @Test func severalRoundsOfLoftQHaveABaseOfTheirOwn() throws {
    for rounds in [0, 1, 2] {
      let model = try ModelLoader(
        backend: CPUBackend(threadCount: 1), options: LoadOptions(quantization: nil, computeType: .f32)
      ).load(fixtures + "/models/bias")
      let name = "model.layers.0.self_attn.q_proj"
      try model.attach([(name, LoRA(rank: 4, alpha: 4, initialization: .loftq, powerIterations: rounds))])
      #expect(PEFTFiles.modulesOfOtherBase(model) == (rounds > 1 ? [name] : []))
    }
  }
}
