import CPUBackend
import Foundation
import Models
import Tensors
import Testing

@testable import Adapters

/// What no file could hold together is refused when it is made, not at the first checkpoint.
@Suite struct MixingTests {
  private func model() throws -> LanguageModel {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    return try ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .f32))
      .load(root.appendingPathComponent("models/tiny").path)
  }

  private func names(_ model: LanguageModel, _ role: String) -> [String] {
    model.modules.filter { $0.role == role }.map(\.name)
  }

  private func vera(_ model: LanguageModel, _ role: String) throws -> [(module: String, method: any AdapterMethod)] {
    let modules = model.modules.filter { $0.role == role }
    let projections = try VeRA.Projections(rank: 4, key: 0, for: modules, isSaved: true, on: model.backend)
    return modules.map { ($0.name, VeRA(projections, dropout: 0, start: 0.1)) }
  }

  @Test func aSecondMethodInOneSetIsRefused() throws {
    let low = LoRA(rank: 2, alpha: 4), stable = LoRA(rank: 2, alpha: 4, rankStabilised: true)
    let tokens = ("model.embed_tokens", TrainedTokens([5, 6]) as any AdapterMethod)
    let cases: [(first: String, second: String, (LanguageModel) throws -> (first: [Part], second: [Part]))] = [
      ("vera", "vera", { (try self.vera($0, "q_proj"), try self.vera($0, "v_proj")) }),
      ("vera", "tokens", { (try self.vera($0, "q_proj"), [tokens]) }),
      ("tokens", "vera", { ([tokens], try self.vera($0, "q_proj")) }),
      ("lora", "rslora", { (self.parts($0, "q_proj", low), self.parts($0, "v_proj", stable)) }),
      ("lora", "dora", { (self.parts($0, "q_proj", low), self.parts($0, "v_proj", DoRA(low))) }),
      ("ia3", "lora", { (self.parts($0, "q_proj", IA3(scalesInput: false)), self.parts($0, "v_proj", low)) }),
    ]
    for (first, second, make) in cases {
      let model = try model()
      let made = try make(model)
      try model.attach(made.first)
      let before = model.adapters.count
      #expect(throws: AdapterError.self, "\(first) and \(second)") { try model.attach(made.second) }
      // What is there can be saved, and the other in a set of its own.
      #expect(model.adapters.count == before)
      _ = try PEFTFiles.configuration(model)
      try model.attach(made.second, set: "other")
      _ = try PEFTFiles.configuration(model)
    }
  }

  private typealias Part = (module: String, method: any AdapterMethod)

  private func parts(_ model: LanguageModel, _ role: String, _ method: any AdapterMethod) -> [Part] {
    names(model, role).map { ($0, method) }
  }

  @Test func tokensStandBesideLoRA() throws {
    let model = try model()
    try model.attach(parts(model, "q_proj", LoRA(rank: 2, alpha: 4)))
    try model.attach([("model.embed_tokens", TrainedTokens([5, 6]))])
    _ = try PEFTFiles.configuration(model)
  }

  /// The search would need tens of passes.
  @Test func evaLooksForFreeModulesBeforeItSearches() throws {
    let model = try model()
    let low = LoRA(rank: 2, alpha: 4)
    try model.attach(parts(model, "q_proj", low))
    var passes = 0
    _ = try #require(model.module("model.layers.0.self_attn.q_proj")).addHook { _, _ in
      passes += 1
      return nil
    }
    #expect(throws: AdapterError.alreadyAttached(module: "model.layers.0.self_attn.q_proj", set: "default")) {
      try model.attach(
        names(model, "q_proj").map { ($0, low) }, EVA(), batches: [[(ids: [1, 2, 3, 4], labels: nil)]])
    }
    #expect(passes == 0)
  }
}
