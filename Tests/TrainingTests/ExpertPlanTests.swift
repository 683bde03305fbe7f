import Adapters
import Autograd
import CPUBackend
import Foundation
import Models
import Optimizers
import Tensors
import Testing

@testable import Training

private let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .appendingPathComponent("Fixtures/families").path

/// Plans of models with experts: which of them get tokens is not known, so a plan has room for the worst.
@Suite struct ExpertPlanTests {
  /// Few tokens, so that the weights are most of it.
  @Test(arguments: [("gpt_oss_mxfp4", true), ("gpt_oss_mxfp4", false), ("olmoe", false)])
  func thePlanHoldsTheMemoryOfAStep(name: String, keeps: Bool) throws {
    var options = LoadOptions(quantization: keeps ? nil : .nf4, computeType: .f32)
    options.keepsBlocks = keeps
    let model = try ModelLoader(backend: CPUBackend(threadCount: 2), options: options).load("\(fixtures)/\(name)")
    try model.attach(model.modules.filter(\.isExpert).map { ($0.name, LoRA(rank: 1, alpha: 2)) })
    let optimizer = try Optimizer(
      model.trainableParameters.map { OptimizedParameter(name: $0.name, tensor: $0.tensor) },
      OptimizerOptions(.adamW, learningRate: 0.01))
    for _ in 0..<2 {
      try optimizer.zeroGradients()
      model.backend.memory.resetPeak()
      try model.loss(Batch([((0..<8).map { 5 * $0 }, nil)])).backward()
      try optimizer.step()
    }
    let rehearsal = CPUBackend(threadCount: 2, isRehearsal: true)
    let plan = try MemoryPlan(
      model, PlanRequest(microBatch: 1, maxLength: 8, batch: 1, checkpointing: false), on: rehearsal,
      programByteCount: 1000)
    let tensors = plan.moments.filter { $0.name != "load" }.map(\.bytes).max() ?? 0
    let ratio = Double(tensors - 1000 - rehearsal.scratchByteCount) / Double(model.backend.memory.peak)
    #expect((0.98...1.2).contains(ratio), "planned \(tensors), measured \(model.backend.memory.peak)")
  }

  /// What a plan says without its passes is what it says with them.
  @Test func shapesAloneGiveTheWork() throws {
    let options = LoadOptions(quantization: .nf4, computeType: .f32)
    let model = try ModelLoader(backend: CPUBackend(threadCount: 2), options: options).load("\(fixtures)/olmoe")
    try model.attach(model.modules.filter(\.isExpert).map { ($0.name, LoRA(rank: 1, alpha: 2)) })
    func plan(_ rehearses: Bool) throws -> MemoryPlan {
      try MemoryPlan(
        model, PlanRequest(microBatch: 2, maxLength: 64, batch: 4, checkpointing: true),
        on: CPUBackend(threadCount: 2, isRehearsal: true), programByteCount: 1000, rehearses: rehearses)
    }
    let (whole, shapes) = (try plan(true), try plan(false))
    #expect(shapes.work.flops == whole.work.flops && shapes.work.flops > 0)
    #expect(shapes.trainableCount == whole.trainableCount && shapes.optimizerByteCount == whole.optimizerByteCount)
    #expect(shapes.moments.isEmpty && shapes.peak < whole.peak)
  }
}
