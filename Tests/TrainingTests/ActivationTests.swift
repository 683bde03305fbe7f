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

/// Checkpointing by groups of layers and offloading: the same bits with less memory.
@Suite(.serialized) struct ActivationTests {
  private static let layerCount = 7

  private func makeModel(_ compute: DType, interval: Int = 0, offloads: Bool = false) throws -> LanguageModel {
    let spec = DecoderSpec(
      Llama.self, hiddenSize: 64, intermediateSize: 96, layerCount: Self.layerCount, headCount: 4,
      keyValueHeadCount: 2, headDimension: 16, vocabularySize: 128, maxPositions: 4096)
    let model = try LanguageModel(
      random: spec, seed: 3, options: LoadOptions(quantization: .nf4, computeType: compute),
      trainsAllParameters: false, backend: CPUBackend(threadCount: 2))
    try model.attach(
      model.modules.filter { $0.kind == .linear && $0.role != "lm_head" }
        .map { ($0.name, LoRA(rank: 4, alpha: 8, dropout: 0.1)) })
    model.checkpointing = interval > 0
    model.checkpointInterval = max(1, interval)
    if offloads {
      model.activationStore = try ActivationStore(directory: FileManager.default.temporaryDirectory.path)
    }
    return model
  }

  private func batch(_ step: Int, length: Int = 40) throws -> Batch {
    try Batch([((0..<length).map { (i: Int) -> Int32 in Int32((i * i + 31 * step) % 128) }, nil)])
  }

  /// Losses of ten steps of two micro-batches and the trained parameters after them, as bits.
  private func train(_ model: LanguageModel) throws -> [UInt32] {
    let optimizer = try Optimizer(
      model.trainableParameters.map { OptimizedParameter(name: $0.name, tensor: $0.tensor) },
      OptimizerOptions(.adamW, learningRate: 0.01))
    var bits: [UInt32] = []
    for step in 0..<10 {
      try optimizer.zeroGradients()
      for micro in 0..<2 {
        let loss = try model.loss(batch(2 * step + micro))
        bits += try loss.floats().map(\.bitPattern)
        try loss.backward()
      }
      try optimizer.step()
    }
    return bits + (try model.trainableParameters.flatMap { try $0.tensor.floats().map(\.bitPattern) })
  }

  @Test(arguments: [DType.f32, .bf16]) func tenStepsHaveTheBitsOfAPlainRun(compute: DType) throws {
    let plain = try train(makeModel(compute))
    for interval in [1, 2, 3, Self.layerCount] {
      #expect(try train(makeModel(compute, interval: interval)) == plain, "every \(interval)")
      let model = try makeModel(compute, interval: interval, offloads: true)
      #expect(try train(model) == plain, "every \(interval), offloaded")
      let store = try #require(model.activationStore)
      let kept = (Self.layerCount + interval - 1) / interval * 40 * 64 * compute.byteCount
      #expect(store.peakByteCount == kept && store.writtenByteCount == 20 * kept, "every \(interval)")
      // The last two of a pass are still in memory when the backward pass comes.
      #expect(store.readByteCount >= 20 * (kept - 2 * 40 * 64 * compute.byteCount))
    }
  }

  /// Live bytes of activations after a forward pass: what each way keeps.
  @Test func keptActivationsAreFewer() throws {
    func kept(_ interval: Int, offloads: Bool = false) throws -> Int {
      let model = try makeModel(.f32, interval: interval, offloads: offloads)
      let before = model.backend.memory.live(.activations)
      let loss = try model.loss(batch(0, length: 512))
      defer { withExtendedLifetime(loss) {} }
      return model.backend.memory.live(.activations) - before
    }
    let one = 512 * 64 * 4
    let (plain, each, fourth) = try (kept(0), kept(1), kept(4))
    let offloaded = try kept(1, offloads: true)
    #expect(plain > 20 * one && each > Self.layerCount * one && each < (Self.layerCount + 3) * one)
    #expect(each - fourth == (Self.layerCount - 2) * one)
    #expect(each - offloaded == (Self.layerCount - 1) * one)
  }

  @Test func aGraphThatIsDroppedGivesItsPartOfTheFileBack() throws {
    let model = try makeModel(.f32, interval: 1, offloads: true)
    let store = try #require(model.activationStore)
    for step in 0..<3 { _ = try model.loss(batch(step)) }
    #expect(store.peakByteCount == Self.layerCount * 40 * 64 * 4)
    // Two passes at once lie behind one another.
    let (first, second) = try (model.loss(batch(0)), model.loss(batch(1)))
    #expect(store.peakByteCount == 2 * Self.layerCount * 40 * 64 * 4)
    try first.backward()
    try second.backward()
    let gradients = try model.trainableParameters.map { try #require($0.tensor.gradient).floats() }
    let plain = try makeModel(.f32)
    plain.dropoutStep = 3
    let (third, fourth) = try (plain.loss(batch(0)), plain.loss(batch(1)))
    try third.backward()
    try fourth.backward()
    #expect(try plain.trainableParameters.map { try #require($0.tensor.gradient).floats() } == gradients)
  }

  /// /dev/full in place of the spill file: what could not be written is told, and the next pass is a whole one.
  @Test func aFullDiskIsAnErrorOfTheForwardPass() throws {
    let model = try makeModel(.f32, interval: 1)
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    model.activationStore = try ActivationStore(directory: directory)
    let name = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").first {
      (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)"))?.hasPrefix(directory) ?? false
    }
    let descriptor = try #require(name.flatMap { Int32($0) })
    let (original, full) = (dup(descriptor), open("/dev/full", O_RDWR))
    dup2(full, descriptor)
    #expect(
      throws: TensorError.spillFailed(content: .activations, path: directory, operation: .write, code: ENOSPC)
    ) { try model.loss(batch(0)).backward() }
    dup2(original, descriptor)
    for descriptor in [original, full] { close(descriptor) }
    for parameter in model.trainableParameters { parameter.tensor.gradient = nil }
    try model.loss(batch(1)).backward()
    let plain = try makeModel(.f32)
    plain.dropoutStep = 1
    try plain.loss(batch(1)).backward()
    for (left, right) in zip(model.trainableParameters, plain.trainableParameters) {
      #expect(try left.tensor.gradient?.floats() == right.tensor.gradient?.floats(), "\(left.name)")
    }
    try FileManager.default.removeItem(atPath: directory)
  }

  /// Dropout draws each element of an adapter's input three times, and once more where layers are recomputed.
  @Test func thePlannedWorkCountsDropout() throws {
    func masked(_ model: LanguageModel, checkpointing: Bool) throws -> Double {
      let request = PlanRequest(microBatch: 1, maxLength: 32, batch: 2, checkpointing: checkpointing)
      return try MemoryPlan(
        model, request, on: CPUBackend(threadCount: 1, isRehearsal: true), programByteCount: 0
      ).work.masked
    }
    let model = try makeModel(.f32)
    // q, k, v, o, gate and up read 64 elements a token, down 96.
    let elements = Double(2 * 32 * Self.layerCount * (6 * 64 + 96))
    #expect(try masked(model, checkpointing: false) == 3 * elements)
    #expect(try masked(model, checkpointing: true) == 4 * elements)
    _ = model.removeAdapters()
    try model.attach([("model.layers.0.self_attn.q_proj", LoRA(rank: 4, alpha: 8))])
    #expect(try masked(model, checkpointing: true) == 0)
  }

  /// What a rehearsal took is given back: a plan tries many, before a run that has little room.
  @Test func plansLeaveNothingBehind() throws {
    func mapped() throws -> Int {
      let pages = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8).split(separator: " ")
      return try #require(Int(pages[0])) * Int(sysconf(Int32(_SC_PAGESIZE)))
    }
    let model = try makeModel(.f32)
    func plan() throws -> Int {
      let request = PlanRequest(microBatch: 8, maxLength: 1024, batch: 8, checkpointing: false)
      return try MemoryPlan(
        model, request, on: CPUBackend(threadCount: 1, isRehearsal: true), programByteCount: 0
      ).peak
    }
    let peak = try plan()
    let before = try mapped()
    for _ in 0..<4 { _ = try plan() }
    let more = try mapped() - before
    #expect(more < peak, "\(more) bytes more; a plan is of \(peak)")
  }

  @Test(arguments: [(1, false), (3, false), (1, true), (2, true)])
  func thePlanKnowsTheMemory(interval: Int, offloads: Bool) throws {
    let model = try makeModel(.f32, interval: interval, offloads: offloads)
    let optimizer = try Optimizer(
      model.trainableParameters.map { OptimizedParameter(name: $0.name, tensor: $0.tensor) },
      OptimizerOptions(.adamW, learningRate: 0.01))
    for step in 0..<2 {
      try optimizer.zeroGradients()
      model.backend.memory.resetPeak()
      try model.loss(batch(step, length: 1024)).backward()
      try optimizer.step()
    }
    let rehearsal = CPUBackend(threadCount: 2, isRehearsal: true)
    let plan = try MemoryPlan(
      model,
      PlanRequest(
        microBatch: 1, maxLength: 1024, batch: 1, checkpointing: true, checkpointInterval: interval,
        offloads: offloads),
      on: rehearsal, programByteCount: 1000)
    let tensors = plan.moments.filter { $0.name != "load" }.map(\.bytes).max() ?? 0
    let ratio = Double(tensors - 1000 - rehearsal.scratchByteCount) / Double(model.backend.memory.peak)
    #expect((0.99...1.01).contains(ratio), "planned \(tensors), measured \(model.backend.memory.peak)")
    #expect(plan.spillByteCount == model.activationStore?.peakByteCount ?? 0)
  }
}
