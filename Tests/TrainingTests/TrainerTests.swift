import Foundation
import QLoRA
import Testing

private let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .appendingPathComponent("Fixtures/models").path

private func makeModel(dropout: Double = 0.1) throws -> LanguageModel {
  let model = try ModelLoader(
    backend: CPUBackend(threadCount: 2), options: LoadOptions(quantization: .nf4, computeType: .f32)
  ).load("\(fixtures)/tied")
  try model.attachLoRA(rank: 4, alpha: 8, dropout: dropout)
  return model
}

private func optimizer(_ model: LanguageModel) throws -> Optimizer {
  try Optimizer(
    model.optimizedParameters, OptimizerOptions(.adamW, learningRate: 0.01))
}

private func samples(_ model: LanguageModel) throws -> Samples {
  let samples = Samples(for: model)
  for row in 0..<6 {
    let ids = (0..<(6 + row)).map { Int32(($0 * $0 + 7 * row) % 128) }
    _ = try samples.append(ids, trained: [2..<ids.count])
  }
  return samples
}

private func bits(_ model: LanguageModel) throws -> [[UInt32]] {
  try model.trainableParameters.map { try $0.tensor.floats().map(\.bitPattern) }
}

@Suite struct TrainerTests {
  @Test func trains() throws {
    let model = try makeModel()
    let (trainer, data) = (try Trainer(model, try optimizer(model), maxGradientNorm: 1), try samples(model))
    var losses: [Double] = []
    for step in 1...12 {
      let report = try trainer.step(data.microBatches(data.indices, size: 2, step: step))
      #expect(report.tokens == data.statistics.tokens && report.gradientNorm > 0)
      losses.append(report.loss)
    }
    #expect(losses[11] < losses[0] - 0.5, "\(losses)")
  }

  /// Clipping on the optimizer's way over the gradients gives the bits of clipping them first.
  @Test func clippingInOnePassHasTheSameBits() throws {
    let (one, other) = (try makeModel(), try makeModel())
    let data = try samples(one)
    let (trainer, second) = (try Trainer(one, try optimizer(one), maxGradientNorm: 0.3), try optimizer(other))
    for step in 1...4 {
      let parts = try data.microBatches(data.indices, size: 3, step: step)
      let report = try trainer.step(parts)
      try second.zeroGradients()
      for part in parts { try other.loss(part).backward() }
      let norm = try Gradients.clip(other.trainableParameters.map(\.tensor), to: 0.3)
      try second.step()
      #expect(norm == report.gradientNorm && norm > 0.3)
    }
    #expect(try bits(one) == bits(other))
  }

  @Test func clippingRefusesWhatIsNoLimit() throws {
    let model = try makeModel()
    let optimizer = try optimizer(model)
    for limit in [0, -1, -Double.infinity] {
      #expect(throws: OptimizerError.badGradientLimit(limit)) { try Trainer(model, optimizer, maxGradientNorm: limit) }
      #expect(throws: OptimizerError.badGradientLimit(limit)) { try Gradients.clip([], to: limit) }
    }
    let error = #expect(throws: OptimizerError.self) { try Gradients.scale(norm: 1, limit: .nan) }
    #expect(error?.description == "the largest gradient norm is nan, expected a number above 0; infinity only measures")
    #expect(try Gradients.scale(norm: 2, limit: 1) == Float(1 / 2.000001))
    #expect(try Gradients.scale(norm: 2, limit: 2) == 1)
    #expect(try Gradients.scale(norm: 2, limit: .infinity) == 1)
  }

  @Test func whatTakesNoPartInTheLossIsNamed() throws {
    let model = try makeModel()
    let trainer = try Trainer(model, try optimizer(model))
    let parts = try samples(model).microBatches([0], size: 1, step: 1)
    // B starts at zero; with A at zero too neither gets a gradient.
    let idle = try #require(model.adapters.last)
    let a = try idle.tensors[0].copied()
    try model.backend.fill(idle.tensors[0], 0)
    let before = try bits(model)
    #expect(throws: TrainingError.missingGradients([idle.moduleName])) { try trainer.step(parts) }
    try model.backend.fill(idle.tensors[1], .nan)
    #expect { try trainer.step(parts) } throws: { error in
      if case TrainingError.lossNotFinite(_, microBatch: 1)? = error as? TrainingError { true } else { false }
    }
    try model.backend.fill(idle.tensors[1], 0)
    #expect(throws: TrainingError.noParts) { try trainer.step([]) }
    #expect(try bits(model) == before && trainer.optimizer.stepCount == 0)
    try model.backend.copy(a, into: idle.tensors[0])
    try trainer.step(parts)
    #expect(try model.missingGradients() == [])
    let weight = try #require(model.trainableParameters.first)
    try model.backend.fill(try #require(weight.tensor.gradient), .nan)
    #expect(try model.nonFiniteGradients() == [weight.name])
    try trainer.optimizer.zeroGradients()
    #expect(try model.missingGradients() == model.adapters.map(\.moduleName))
  }

  @Test func aSelectionThatMatchesNothingIsAnError() throws {
    let model = try makeModel()
    model.removeAdapters()
    #expect(throws: AdapterError.nothingSelected) { try model.attachLoRA(rank: 4, alpha: 8) { _ in false } }
  }
}
