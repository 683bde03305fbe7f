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

private func temporary() -> String {
  FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
}

/// Methods that only the tests know (PluggedAdapters.swift) go through everything that the engine does with adapters.
@Suite(.serialized) struct PluggedAdapterTests {
  enum Kind: String, CaseIterable, CustomTestStringConvertible {
    case ia3, dora
    var testDescription: String { rawValue }
    var method: any AdapterMethod {
      switch self {
      case .ia3: IA3()
      case .dora: FullDoRA(low: LoRA(rank: 4, alpha: 8))
      }
    }
  }

  init() {
    AdapterMethods.register(FullDoRA.self)
  }

  private func base(
    _ name: String = "tied", threads: Int = 2, compute: DType = .f32, quantization: FourBitKind? = .nf4
  ) throws -> LanguageModel {
    let options = LoadOptions(quantization: quantization, computeType: compute)
    return try ModelLoader(backend: CPUBackend(threadCount: threads), options: options).load("\(fixtures)/\(name)")
  }

  private func attach(_ method: any AdapterMethod, to model: LanguageModel) throws {
    try model.attach(model.modules.filter { $0.kind == .linear }.map { ($0.name, method) })
  }

  /// Values away from the start, where an adapter does nothing.
  private func disturb(_ model: LanguageModel) throws {
    for (name, tensor) in model.trainableParameters {
      let noise = try Tensor(empty: tensor.shape, on: model.backend)
      try model.backend.fillNormal(
        noise, mean: 0, deviation: 0.1, stream: RandomStream(seed: 4, purpose: "noise", module: name))
      try model.backend.accumulate(noise, scale: 1, into: tensor, scale: 1)
    }
  }

  private func adapted(
    _ kind: Kind, _ name: String = "tied", threads: Int = 2, compute: DType = .f32
  ) throws -> LanguageModel {
    let model = try base(name, threads: threads, compute: compute)
    try attach(kind.method, to: model)
    try disturb(model)
    return model
  }

  private func batch(_ step: Int) throws -> Batch {
    try Batch(
      (0..<2).map { (row: Int) -> ([Int32], [Int32]?) in
        ((0..<20 + row).map { (i: Int) -> Int32 in Int32((i * i + 7 * row + 13 * step) % 128) }, nil)
      })
  }

  private func optimizer(_ model: LanguageModel) throws -> Optimizer {
    try Optimizer(
      model.trainableParameters.map { OptimizedParameter(name: $0.name, tensor: $0.tensor) },
      OptimizerOptions(.adamW, learningRate: 0.01))
  }

  private func train(_ model: LanguageModel, _ optimizer: Optimizer, steps: Range<Int>) throws {
    for step in steps {
      try optimizer.zeroGradients()
      try model.loss(batch(step)).backward()
      try optimizer.step()
    }
  }

  private func bits(_ model: LanguageModel) throws -> [UInt32] {
    try model.trainableParameters.flatMap { try $0.tensor.floats().map(\.bitPattern) }
  }

  private func gradients(_ model: LanguageModel) throws -> [Float] {
    try model.trainableParameters.flatMap { try #require($0.tensor.gradient).floats() }
  }

  private func relativeError(_ got: [Float], _ wanted: [Float]) -> Float {
    guard got.count == wanted.count else { return .infinity }
    return (zip(got, wanted).map { ($0 - $1).magnitude }.max() ?? .infinity) / (wanted.map(\.magnitude).max() ?? 1)
  }

  private let ids: [Int32] = (0..<24).map { (i: Int) -> Int32 in Int32((7 * i * i + 3 * i + 5) % 128) }

  @Test(arguments: Kind.allCases) func aNewAdapterChangesNothingAndThenLearns(kind: Kind) throws {
    let model = try base()
    let before = try model.logits(ids).floats()
    try attach(kind.method, to: model)
    #expect(try relativeError(model.logits(ids).floats(), before) < 1e-6)
    #expect(model.adapters.allSatisfy { $0.lowRank == nil && $0.isTrained })
    let optimizer = try optimizer(model)
    let first = try model.loss(batch(0), isTraining: false).item()
    for _ in 0..<40 { try train(model, optimizer, steps: 0..<1) }
    #expect(try model.loss(batch(0), isTraining: false).item() < 0.9 * first)
    #expect(try model.withoutAdapters { try model.logits(ids).floats() } == before)
  }

  /// Central differences of the loss, for the elements with the largest gradients of every tensor.
  @Test(arguments: Kind.allCases) func gradientsAreThoseOfFiniteDifferences(kind: Kind) throws {
    try checkGradients(try adapted(kind))
  }

  /// What a method saved stays as it was, though the decoder rotates and adds in place.
  @Test func aMethodMayKeepItsResult() throws {
    let model = try base()
    try attach(Bent(), to: model)
    try disturb(model)
    try checkGradients(model)
  }

  @Test func anOutputHasTheShapeAndTypeOfTheLayer() throws {
    let model = try base(compute: .bf16)
    let name = "model.layers.0.self_attn.q_proj"
    try model.attach([(name, IA3())])
    var seen: DType?
    _ = model.module(name)?.addHook { _, output in
      seen = output.dtype
      return nil
    }
    _ = try model.logits(ids)
    #expect(seen == .bf16)
    model.removeAdapters()
    try model.attach([(name, Bent(missing: 2))])
    #expect(throws: ModelError.badAdapterOutput(module: name, expected: [24, 64], got: [22, 64])) {
      try model.logits(ids)
    }
  }

  private func checkGradients(_ model: LanguageModel) throws {
    let batch = try batch(0)
    try model.loss(batch, isTraining: false).backward()
    for (name, tensor) in model.trainableParameters {
      let analytic = try #require(tensor.gradient).floats()
      let largest = analytic.indices.sorted { analytic[$0].magnitude > analytic[$1].magnitude }.prefix(2)
      for element in largest {
        func loss(_ delta: Float) throws -> Float {
          var values = try tensor.floats()
          values[element] += delta
          let original = try tensor.copied()
          try model.backend.copy(try Tensor(values, shape: tensor.shape, on: model.backend), into: tensor)
          defer { try? model.backend.copy(original, into: tensor) }
          return try GradientMode.disabled { try model.loss(batch, isTraining: false).floats()[0] }
        }
        let step: Float = 0.02
        let numeric = try (loss(step) - loss(-step)) / (2 * step)
        #expect(
          abs(numeric - analytic[element]) < 0.02 * analytic[element].magnitude + 1e-4,
          "\(name)[\(element)]: analytic \(analytic[element]), numeric \(numeric)")
      }
    }
  }

  @Test(arguments: Kind.allCases, [DType.f32, .bf16])
  func recomputationAndThreadsChangeNoBit(kind: Kind, compute: DType) throws {
    func run(interval: Int, threads: Int) throws -> [Float] {
      let model = try adapted(kind, threads: threads, compute: compute)
      (model.checkpointing, model.checkpointInterval) = (interval > 0, max(1, interval))
      try model.loss(batch(1)).backward()
      return try gradients(model)
    }
    let plain = try run(interval: 0, threads: 1)
    #expect(plain.allSatisfy(\.isFinite) && plain.contains { $0 != 0 })
    #expect(try run(interval: 0, threads: 3) == plain)
    #expect(try run(interval: 1, threads: 1) == plain)
    #expect(try run(interval: 2, threads: 2) == plain)
  }

  @Test(arguments: Kind.allCases) func aResumedRunContinuesWithTheSameBits(kind: Kind) throws {
    let directory = temporary()
    let (whole, resumed) = (try adapted(kind), try adapted(kind))
    let (first, second) = (try optimizer(whole), try optimizer(resumed))
    try train(whole, first, steps: 0..<3)
    try TrainingCheckpoint.save(directory, model: whole, optimizer: first, state: ["step": 3])
    try train(whole, first, steps: 3..<6)
    _ = try TrainingCheckpoint.load(directory, model: resumed, optimizer: second)
    try train(resumed, second, steps: 3..<6)
    #expect(try bits(whole) == bits(resumed))
    #expect(FileManager.default.fileExists(atPath: directory + "/adapter/adapter_config.json"))
    try FileManager.default.removeItem(atPath: directory)
  }

  @Test(arguments: Kind.allCases) func thePlanKnowsBytesAndWork(kind: Kind) throws {
    let model = try adapted(kind)
    let optimizer = try optimizer(model)
    let rows = (0..<4).map { (row: Int) -> [Int32] in (0..<200).map { (i: Int) -> Int32 in Int32((i * 3 + row) % 128) }
    }
    let batch = try Batch(rows.map { ($0, nil) })
    for checkpointing in [false, true] {
      model.checkpointing = checkpointing
      for _ in 0..<2 {
        try optimizer.zeroGradients()
        model.backend.memory.resetPeak()
        try model.loss(batch).backward()
        try optimizer.step()
      }
      let rehearsal = CPUBackend(threadCount: 2, isRehearsal: true)
      let request = PlanRequest(microBatch: 4, maxLength: 200, batch: 4, checkpointing: checkpointing)
      let plan = try MemoryPlan(model, request, on: rehearsal, programByteCount: 0)
      let planned = plan.moments.filter { $0.name != "load" }.map(\.bytes).max() ?? 0
      let ratio = Double(planned - rehearsal.scratchByteCount) / Double(model.backend.memory.peak)
      #expect((0.99...1.01).contains(ratio), "planned \(planned), measured \(model.backend.memory.peak)")
      let elements = model.adapters.reduce(0) { $0 + $1.elementCount }
      #expect(plan.trainableCount == elements && plan.adapterByteCount == 4 * elements)
      #expect(plan.adapterByteCount == model.backend.memory.live(.adapters))
      let work = model.modules.compactMap { module in module.adapter?.method.work(of: module) }
      let times = checkpointing ? 4.0 : 3
      #expect(plan.work.lowRank == 800 * times * work.reduce(0) { $0 + $1.products })
      #expect(
        plan.work.passing - StepWork(try base(), request).passing == 4 * 800 * times * work.reduce(0) { $0 + $1.passed }
      )
    }
  }

  @Test(arguments: Kind.allCases, ["tied", "bias"])
  func aMergedModelComputesTheSame(kind: Kind, name: String) throws {
    let model = try adapted(kind, name)
    let (plain, wanted) = try (model.withoutAdapters { try model.logits(ids).floats() }, model.logits(ids).floats())
    #expect(relativeError(plain, wanted) > 1e-3)
    let norms = try model.modules.compactMap { try $0.adapterNorm() }
    let weights = try model.modules.filter { $0.adapter != nil }.map { try $0.denseWeight().floats() }
    let adaptedModules = model.modules.filter { $0.adapter != nil }
    try model.mergeAdapters()
    #expect(model.adapters.isEmpty)
    #expect(try relativeError(model.logits(ids).floats(), wanted) < 5e-5)
    for (index, module) in adaptedModules.enumerated() {
      let change = try zip(module.denseWeight().floats(), weights[index]).reduce(0.0) {
        $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1)
      }
      #expect(abs(norms[index] / change.squareRoot() - 1) < 1e-5 && norms[index] > 0, "\(module.name)")
    }
  }

  @Test(arguments: Kind.allCases) func whatIsSavedReadsBackTheSame(kind: Kind) throws {
    let (model, directory) = (try adapted(kind), temporary())
    try PEFTFiles.save(model, directory: directory)
    try PEFTFiles.check(directory, against: model)
    let again = try base()
    #expect(try PEFTFiles.load(directory, into: again, trainable: true) == model.adapters.count)
    #expect(try bits(again) == bits(model))
    #expect(try again.logits(ids).floats() == model.logits(ids).floats())
    let path = directory + "/adapter_config.json"
    let text = try String(contentsOfFile: path, encoding: .utf8)
    let name = type(of: kind.method).peftType
    #expect(try JSON.read(path: path)["peft_type"]?.string == name)
    if kind == .ia3 {
      let file = try SafetensorsFile(path: directory + "/adapter_model.safetensors")
      #expect(file.entry("base_model.model.model.layers.0.self_attn.q_proj.ia3_l")?.shape == [64, 1])
    }

    // A method nobody registered, and a tensor the method does not have.
    try text.replacingOccurrences(of: "\"\(name)\"", with: "\"MIXED\"").write(
      toFile: path, atomically: true, encoding: .utf8)
    #expect {
      try PEFTFiles.load(directory, into: try base())
    } throws: { error in
      let words = String(describing: error)
      return words.hasPrefix("\(path): peft_type = \"MIXED\" is not supported; known: LORA") && words.contains("IA3")
    }
    let targets = try #require(try JSON.read(path: path)["target_modules"])
    let other: JSON =
      kind == .ia3
      ? ["peft_type": "DORA", "r": 4, "lora_alpha": 8, "target_modules": targets]
      : ["peft_type": "IA3", "target_modules": targets, "feedforward_modules": []]
    try other.text().write(toFile: path, atomically: true, encoding: .utf8)
    #expect {
      try PEFTFiles.load(directory, into: try base())
    } throws: {
      if case AdapterError.unknownTensor = $0 { true } else { false }
    }
    try FileManager.default.removeItem(atPath: directory)
  }

  @Test func oneFileHoldsOneMethod() throws {
    let model = try base()
    let names = model.modules.filter { $0.kind == .linear }.map(\.name)
    #expect(throws: AdapterError.mixedMethods(modules: [names[0], names[1]], names: ["ia3", "lora"])) {
      try model.attach([(names[0], IA3()), (names[1], LoRA(rank: 2, alpha: 2))])
    }
    #expect(model.adapters.isEmpty)
    #expect(throws: AdapterError.self) { try base().attach([(names[0], IA3(learningRateFactor: -1))]) }
  }

  /// The two paths of the engine give the same outputs, masks and gradients.
  @Test func theFusedBranchIsThePlainOne() throws {
    func run(_ method: any AdapterMethod) throws -> [Float] {
      let model = try base()
      try attach(method, to: model)
      try disturb(model)
      let loss = try model.loss(batch(2))
      try loss.backward()
      return try loss.floats() + gradients(model)
    }
    let low = LoRA(rank: 4, alpha: 8, dropout: 0.3)
    let (fused, plain) = (try run(low), try run(PlainLoRA(low: low)))
    #expect(relativeError(plain, fused) < 1e-5)
    #expect(try relativeError(run(LoRA(rank: 4, alpha: 8)), fused) > 1e-3)
  }

  @Test(arguments: Kind.allCases) func aStreamedBaseGivesTheSameBits(kind: Kind) throws {
    let (root, backend) = (temporary(), CPUBackend(threadCount: 2))
    try ModelQuantizer(backend: backend, options: ModelQuantizer.Options()).convert(
      "\(fixtures)/tied", to: root)
    func run(streams: Bool) throws -> [UInt32] {
      var options = LoadOptions(computeType: .f32)
      options.streams = streams
      let model = try ModelLoader(backend: CPUBackend(threadCount: 2), options: options).load(root)
      try attach(kind.method, to: model)
      try disturb(model)
      #expect((model.stream != nil) == streams)
      try train(model, try optimizer(model), steps: 0..<3)
      return try bits(model)
    }
    #expect(try run(streams: true) == run(streams: false))
    try FileManager.default.removeItem(atPath: root)
  }
}
