import Adapters
import Autograd
import CPUBackend
import Foundation
import Models
import Tensors
import Testing

@testable import Training

private let tiny = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent().appendingPathComponent("models/tiny").path

/// What one of several ranks needs.
@Suite struct RanksPlanTests {
  private func model(_ stage: (index: Int, count: Int)? = nil) throws -> LanguageModel {
    var options = LoadOptions(quantization: .nf4, computeType: .f32)
    options.stage = stage
    let model = try ModelLoader(backend: CPUBackend(threadCount: 2), options: options).load(tiny)
    try model.attach(model.modules.filter(\.isLayerMatrix).map { ($0.name, LoRA(rank: 64, alpha: 2)) })
    return model
  }

  private func planned(_ model: LanguageModel, _ request: PlanRequest) throws -> Double {
    let rehearsal = CPUBackend(threadCount: 2, isRehearsal: true)
    let plan = try MemoryPlan(model, request, on: rehearsal, programByteCount: 0)
    let state = plan.categories.first { $0.name == "optimizer" }?.bytes ?? 0
    let moments = plan.moments.filter { ["forward", "backward"].contains($0.name) }.map(\.bytes).max() ?? 0
    return Double(moments - rehearsal.scratchByteCount - state)
  }

  private let batch = { try Batch([((0..<16).map { 5 * $0 }, nil)]) }

  /// The gradients of a part that are summed and wait for the others are most of this model's memory.
  @Test(arguments: [1, 2, 8]) func thePlanHoldsTheGradientsOfParts(parts: Int) throws {
    let model = try model()
    let sum = try GradientSum(model.trainableParameters.map(\.tensor), parts: parts)
    for _ in 0..<2 {
      for parameter in model.trainableParameters { parameter.tensor.gradient = nil }
      model.backend.memory.resetPeak()
      for part in try sum.begin(8) {
        for _ in part { try model.loss(batch()).backward() }
        try sum.add(loss: 1)
      }
      _ = try sum.finish()
    }
    let plan = try planned(
      model, PlanRequest(microBatch: 1, maxLength: 16, batch: 8, checkpointing: false, parts: parts))
    // The plan has the optimizer's state beside them only later.
    let ratio = plan / Double(model.backend.memory.peak)
    #expect((0.98...1.1).contains(ratio), "planned \(plan), measured \(model.backend.memory.peak)")
  }

  /// A stage, with as many micro-batches on their way as it keeps.
  @Test(arguments: [0, 1, 2]) func thePlanHoldsTheMemoryOfAStage(index: Int) throws {
    let model = try model((index, 3))
    let isLast = index == 2
    for _ in 0..<2 {
      for parameter in model.trainableParameters { parameter.tensor.gradient = nil }
      model.backend.memory.resetPeak()
      var flying: [(GradientEntry?, Tensor)] = []
      for _ in 0..<3 - index {
        let entry = index == 0 ? nil : GradientEntry(try Tensor(full: [16, 192], value: 0.1, on: model.backend))
        flying.append((entry, try model.pass(batch(), from: entry?.tensor)))
      }
      for (_, output) in flying {
        try output.backward(seed: isLast ? nil : try Tensor(full: [16, 192], value: 0.1, on: model.backend))
      }
      flying = []
    }
    let request = PlanRequest(microBatch: 1, maxLength: 16, batch: 8, checkpointing: false)
    let plan = try planned(model, request) - 3 * 16 * 192 * 4
    let ratio = plan / Double(model.backend.memory.peak)
    #expect((0.95...1.2).contains(ratio), "planned \(plan), measured \(model.backend.memory.peak)")
    #expect(try planned(model, request) < planned(self.model(), request))
  }

  /// Rows and shapes of a sum over other processes, by hand: 3 elements and a mark make a block of 17, and of two ranks
  /// each gets half of the other's sum.
  @Test func whatComesFromOthersHasRoom() {
    let sum = GradientSum.planned([3], parts: 2, ranks: 2)
    #expect(sum.block == 17 && sum.held == 0 && sum.room == 9)
    #expect(GradientSum.planned([3], parts: 8, ranks: 1).held == 3)
    #expect(GradientSum.planned([3], parts: 8, ranks: 2).held == 2)
  }
}
