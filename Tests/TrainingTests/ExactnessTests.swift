import Adapters
import Autograd
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

private func makeModel(
  dropout: Double = 0.2, threads: Int = 2, computeType: DType = .f32
) throws -> LanguageModel {
  let model = try ModelLoader(
    backend: CPUBackend(threadCount: threads), options: LoadOptions(quantization: .nf4, computeType: computeType)
  ).load("\(fixtures)/tied")
  let linear = model.modules.filter { $0.kind == .linear }
  try model.attach(linear.map { ($0.name, LoRA(rank: 8, alpha: 16, dropout: dropout)) })
  return model
}

private func makeOptimizer(_ model: LanguageModel) throws -> Optimizer {
  var options = OptimizerOptions(
    .adamW, learningRate: 0.01, bits: 8, isPaged: true, budget: 4096,
    spillDirectory: FileManager.default.temporaryDirectory.path)
  options.pageElementCount = 256
  return try Optimizer(
    model.trainableParameters.map {
      OptimizedParameter(name: $0.name, tensor: $0.tensor)
    }, options)
}

private func sequences(_ step: Int, count: Int = 8) -> [[Int32]] {
  (0..<count).map { (row: Int) -> [Int32] in
    (0..<(5 + 3 * row)).map { (i: Int) -> Int32 in Int32((i * i + 7 * row + 13 * step) % 128) }
  }
}

private func bits(_ model: LanguageModel) throws -> [[UInt32]] {
  try model.trainableParameters.map { try $0.tensor.floats().map(\.bitPattern) }
}

private func gradients(_ model: LanguageModel) throws -> [Float] {
  try model.trainableParameters.flatMap { try #require($0.tensor.gradient).floats() }
}

private func train(_ model: LanguageModel, _ optimizer: Optimizer, steps: Range<Int>) throws {
  for step in steps {
    try optimizer.zeroGradients()
    try model.loss(Batch(sequences(step, count: 2).map { ($0, nil) })).backward()
    try optimizer.step()
  }
}

@Suite struct ExactnessTests {
  @Test func resumingContinuesWithTheSameBits() throws {
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    let whole = try makeModel()
    let optimizer = try makeOptimizer(whole)
    try train(whole, optimizer, steps: 0..<3)
    try TrainingCheckpoint.save(directory, model: whole, optimizer: optimizer, state: ["step": 3, "note": "half"])
    try train(whole, optimizer, steps: 3..<6)

    let resumed = try makeModel()
    let second = try makeOptimizer(resumed)
    let state = try TrainingCheckpoint.load(directory, model: resumed, optimizer: second).state
    #expect(state["step"]?.int == 3 && state["note"]?.string == "half")
    try train(resumed, second, steps: 3..<6)
    #expect(try bits(whole) == bits(resumed))
    #expect(second.statistics != nil)

    // Another selection does not fit, and says so before anything changes.
    let other = try ModelLoader(
      backend: CPUBackend(threadCount: 1), options: LoadOptions(quantization: .nf4, computeType: .f32)
    ).load("\(fixtures)/tied")
    try other.attach([("model.layers.0.self_attn.q_proj", LoRA(rank: 2, alpha: 2))])
    #expect(throws: TrainingError.self) { try TrainingCheckpoint.load(directory, model: other, optimizer: nil) }
    try FileManager.default.removeItem(atPath: directory)
  }

  @Test func aBatchOfEightEqualsTwoOfFourAndEightOfOne() throws {
    let rows = sequences(1)
    let total = try Batch(rows.map { ($0, nil) }).trainedTokenCount
    func accumulated(_ size: Int) throws -> [Float] {
      let model = try makeModel(dropout: 0)
      for start in stride(from: 0, to: 8, by: size) {
        try model.loss(Batch(rows[start..<start + size].map { ($0, nil) }), denominator: total).backward()
      }
      return try gradients(model)
    }
    let whole = try accumulated(8)
    let scale = whole.map(\.magnitude).max() ?? 0
    #expect(scale > 0)
    for size in [4, 1] {
      let parts = try accumulated(size)
      #expect(zip(parts, whole).allSatisfy { abs($0 - $1) < 1e-5 * scale }, "micro-batches of \(size)")
    }
  }

  @Test(arguments: [DType.f32, .bf16])
  func checkpointingAndThreadsChangeNoBit(computeType: DType) throws {
    func run(checkpointing: Bool, threads: Int) throws -> [Float] {
      let model = try makeModel(threads: threads, computeType: computeType)
      model.checkpointing = checkpointing
      try model.loss(Batch(sequences(2).map { ($0, nil) })).backward()
      return try gradients(model)
    }
    let plain = try run(checkpointing: false, threads: 1)
    #expect(plain.allSatisfy(\.isFinite) && plain.contains { $0 != 0 })
    #expect(try run(checkpointing: true, threads: 1) == plain)
    #expect(try run(checkpointing: false, threads: 2) == plain)
    #expect(try run(checkpointing: true, threads: 3) == plain)
  }

  @Test func frozenWeightsStayAndLossFalls() throws {
    let model = try makeModel(dropout: 0)
    let before = try model.modules.compactMap { try $0.quantized?.codes.integers() }
    let optimizer = try makeOptimizer(model)
    let batch = try Batch(sequences(0, count: 3).map { ($0, nil) })
    let first = try model.loss(batch, isTraining: false).item()
    for _ in 0..<30 {
      try optimizer.zeroGradients()
      try model.loss(batch).backward()
      try optimizer.step()
    }
    #expect(try model.loss(batch, isTraining: false).item() < 0.7 * first)
    #expect(try model.modules.compactMap { try $0.quantized?.codes.integers() } == before)
  }

  @Test func thePlanKnowsTheMemoryOfAStep() throws {
    let model = try makeModel()
    let optimizer = try Optimizer(
      model.trainableParameters.map { OptimizedParameter(name: $0.name, tensor: $0.tensor) },
      OptimizerOptions(.adamW, learningRate: 0.01))
    let rows = (0..<4).map { (row: Int) -> [Int32] in (0..<200).map { (i: Int) -> Int32 in Int32((i * 3 + row) % 128) }
    }
    for checkpointing in [false, true] {
      model.checkpointing = checkpointing
      for _ in 0..<2 {
        try optimizer.zeroGradients()
        model.backend.memory.resetPeak()
        try model.loss(Batch(rows.map { ($0, nil) })).backward()
        try optimizer.step()
      }
      let rehearsal = CPUBackend(threadCount: 2, isRehearsal: true)
      let plan = try MemoryPlan(
        model, PlanRequest(microBatch: 4, maxLength: 200, batch: 4, checkpointing: checkpointing), on: rehearsal,
        programByteCount: 1000)
      let tensors = plan.moments.filter { $0.name != "load" }.map(\.bytes).max() ?? 0
      let ratio = Double(tensors - 1000 - rehearsal.scratchByteCount) / Double(model.backend.memory.peak)
      #expect(
        (0.99...1.01).contains(ratio),
        "checkpointing \(checkpointing): planned \(tensors), measured \(model.backend.memory.peak)")
      #expect(plan.categories.reduce(0) { $0 + $1.bytes } == plan.peak)
    }
  }
}
