import Autograd
import CPUBackend
import Foundation
import Tensors
import Testing

@testable import Models

private let ids: [Int32] = (0..<12).map { (i: Int) -> Int32 in Int32((5 * i * i + i + 3) % 64) }

private func model(_ change: (inout DecoderSpec) -> Void) throws -> LanguageModel {
  var spec = DecoderSpec(
    Llama.self, hiddenSize: 32, intermediateSize: 48, layerCount: 1, headCount: 4, keyValueHeadCount: 2,
    headDimension: 8, vocabularySize: 64, maxPositions: 64)
  change(&spec)
  return try LanguageModel(
    random: spec, seed: 5, options: LoadOptions(computeType: .f32), trainsAllParameters: true, deviation: 0.5,
    backend: CPUBackend(threadCount: 2))
}

/// Soft caps where they are not in a fused kernel.
@Suite struct CapTests {
  /// With a hook on the output matrix the logits are kept whole; the loss and its gradients stay the same.
  @Test func aHookOnTheOutputMatrixChangesNoCappedLoss() throws {
    let model = try ModelsTests.model { $0.logitCap = 1.5 }
    let plain = try self.model().logits(ids).floats()
    let capped = try model.logits(ids).floats()
    #expect(relativeError(capped, plain.map { 1.5 * Float(tanh(Double($0) / 1.5)) }) < 1e-6)
    #expect(relativeError(capped, plain) > 0.05)
    func trained() throws -> (loss: Double, gradients: [Float]) {
      for parameter in model.trainableParameters { parameter.tensor.gradient = nil }
      let loss = try model.loss(Batch([(ids, nil)]))
      try loss.backward()
      return (try loss.item(), try model.trainableParameters.flatMap { try $0.tensor.gradient?.floats() ?? [] })
    }
    let fused = try trained()
    let hook = try #require(model.module("lm_head")).addHook { _, _ in nil }
    let whole = try trained()
    hook.remove()
    #expect(abs(fused.loss - whole.loss) < 1e-6 * fused.loss)
    #expect(relativeError(whole.gradients, fused.gradients) < 1e-5)
  }

  /// Weights of two visible keys of capped scores differ at most by a factor of exp(2 * cap).
  @Test func attentionMapsKnowTheCapOfScores() throws {
    let cap = 0.02
    let maps = try ModelsTests.model { $0.scoreCap = cap }.attentionMaps(ids, layer: 0).floats()
    let free = try model().attentionMaps(ids, layer: 0).floats()
    func spread(_ maps: [Float]) -> Float {
      (0..<4 * 12).map { row in
        let visible = maps[row * 12..<row * 12 + row % 12 + 1]
        return (visible.max() ?? 0) / (visible.min() ?? 1)
      }.max() ?? 0
    }
    #expect(spread(maps) <= Float(exp(2 * cap)) * 1.0001 && spread(free) > 1.5)
  }

  private func model() throws -> LanguageModel { try ModelsTests.model { _ in } }
}
