import Adapters
import CPUBackend
import Formats
import Foundation
import Models
import Optimizers
import Tensors
import Testing

@testable import Training

private let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .appendingPathComponent("Fixtures/models").path

/// A run that trains one adapter on top of a frozen one, beside a third that is not in use.
private struct Run {
  let model: LanguageModel
  let optimizer: Optimizer
  private let batch = try! Batch([([1, 2, 3, 4, 5], nil)])

  // The elements of the frozen B are `frozen`.
  init(frozen: Double = 0.1) throws {
    model = try ModelLoader(
      backend: CPUBackend(threadCount: 1), options: LoadOptions(quantization: .nf4, computeType: .f32)
    ).load("\(fixtures)/tied")
    let lora = LoRA(rank: 2, alpha: 4, dropout: 0.2)
    let modules = model.modules.filter { $0.role == "q_proj" }.map { ($0.name, lora as any AdapterMethod) }
    for name in ["frozen", "idle", "default"] { try model.attach(modules, set: name) }
    for (_, adapter) in try model.adapterSet("frozen").members {
      for tensor in adapter.tensors { tensor.requiresGradient = false }
      try model.backend.fill(adapter.tensors[1], frozen)
    }
    try model.useAdapters(["default", "frozen"])
    optimizer = try Optimizer(model.optimizedParameters, OptimizerOptions(.adamW, learningRate: 0.01))
  }

  func step() throws {
    try model.loss(batch).backward()
    try optimizer.step()
    try optimizer.zeroGradients()
  }

  var trained: [[Float]] { get throws { try model.trainableParameters.map { try $0.tensor.floats() } } }
}

@Suite struct StackedAdapterTests {
  @Test func aRunOnTopOfAFrozenAdapterGoesOnWithTheSameBits() throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    let whole = try Run()
    try whole.step()
    try TrainingCheckpoint.save(path, model: whole.model, optimizer: whole.optimizer, state: [:])
    try whole.step()

    let resumed = try Run()
    _ = try TrainingCheckpoint.load(path, model: resumed.model, optimizer: resumed.optimizer)
    try resumed.step()
    #expect(try resumed.trained == whole.trained)
    // The trained one is there for others, under PEFT's names.
    let file = try SafetensorsFile(path: path + "/adapter/adapter_model.safetensors")
    #expect(file.entries.count == whole.model.trainableParameters.count)

    let other = try Run(frozen: 0.2)
    let error = #expect(throws: TrainingError.self) {
      _ = try TrainingCheckpoint.load(path, model: other.model, optimizer: other.optimizer)
    }
    guard case .changed(_, let differences, _)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(differences.allSatisfy { $0.path[0] == "adapters" && $0.path[1].hasPrefix("frozen:") })
  }

  @Test func aPlanCountsAdaptersThatAreNotInUse() throws {
    let run = try Run()
    func planned() throws -> Int {
      let plan = try MemoryPlan(
        run.model, PlanRequest(microBatch: 1, maxLength: 8, batch: 1, checkpointing: false),
        on: CPUBackend(threadCount: 1, isRehearsal: true), programByteCount: 0)
      return plan.categories.first { $0.name == "adapters" }?.bytes ?? 0
    }
    let all = try planned()
    #expect(all == run.model.adapterSets.reduce(0) { $0 + $1.byteCount })
    try run.model.removeAdapters("idle")
    #expect(try planned() * 3 == all * 2)
  }
}
