import Adapters
import Autograd
import CPUBackend
import Formats
import Foundation
import Models
import Optimizers
import Tensors
import Testing

/// Eight layers of 1.35 MB in 4 bits, so that a window of two is far smaller than the model.
@Suite(.serialized) struct StreamingTests {
  private static let directory: String = {
    let root = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    do {
      let spec = DecoderSpec(
        Llama.self, hiddenSize: 512, intermediateSize: 1024, layerCount: 8, headCount: 8, keyValueHeadCount: 8,
        headDimension: 64, vocabularySize: 512, maxPositions: 256)
      let backend = CPUBackend(threadCount: 2)
      let model = try LanguageModel(
        random: spec, seed: 3, options: LoadOptions(computeType: .f32), trainsAllParameters: false, backend: backend)
      try model.save(directory: root + "/bf16")
      var options = ModelQuantizer.Options()
      options.shardByteCount = 5_000_000
      try ModelQuantizer(backend: backend, options: options).convert(root + "/bf16", to: root + "/nf4")
    } catch {
      Issue.record(error)
    }
    return root
  }()

  private func load(
    _ name: String = "nf4", streaming: Bool?, compute: DType = .bf16,
    on backend: CPUBackend = CPUBackend(threadCount: 2)
  ) throws -> LanguageModel {
    var options = LoadOptions(computeType: compute)
    options.streams = streaming
    let model = try ModelLoader(backend: backend, options: options).load("\(Self.directory)/\(name)")
    try model.attach(
      model.modules.filter { $0.kind == .linear && $0.role != "lm_head" }
        .map { ($0.name, LoRA(rank: 4, alpha: 8, dropout: 0.1)) })
    return model
  }

  private func batch(_ step: Int) throws -> Batch {
    try Batch([((0..<40).map { (i: Int) -> Int32 in Int32((i * i + 31 * step) % 512) }, nil)])
  }

  /// Losses of ten steps and the trained parameters after them, as bits. Without a budget optimizer state stays in
  /// memory.
  private func train(_ model: LanguageModel, budget: Int? = nil) throws -> [UInt32] {
    var options = OptimizerOptions(
      .adamW, learningRate: 0.01, isPaged: budget != nil, budget: budget ?? 0,
      spillDirectory: Self.directory)
    options.pageElementCount = 4096
    let optimizer = try Optimizer(
      model.trainableParameters.map { OptimizedParameter(name: $0.name, tensor: $0.tensor) }, options)
    #expect((optimizer.statistics != nil) == (budget != nil))
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

  /// Bytes of the 4-bit files that this process has in memory, as the kernel counts them.
  private func residentByteCount() throws -> Int {
    var (total, isOurs) = (0, false)
    // The size of this file is given as 0, so it is read to its end.
    let file = try #require(FileHandle(forReadingAtPath: "/proc/self/smaps"))
    for line in String(decoding: file.readDataToEndOfFile(), as: UTF8.self).split(separator: "\n") {
      if line.contains("-") { isOurs = line.contains("\(Self.directory)/nf4") }
      if isOurs, line.hasPrefix("Rss:") { total += 1024 * (Int(line.filter(\.isNumber)) ?? 0) }
    }
    return total
  }

  @Test(arguments: [DType.bf16, .f32]) func tenStepsHaveTheBitsOfAResidentModel(compute: DType) throws {
    let streamed = try load(streaming: true, compute: compute)
    let bits = try train(streamed)
    let resident = try load(streaming: false, compute: compute)
    // In bf16 the sums of a recomputed layer's gradients are rounded elsewhere, streamed or not.
    resident.checkpointing = compute == .bf16
    #expect(try bits == train(resident))
    let stream = try #require(streamed.stream)
    #expect(stream.peakByteCount <= 2 * stream.largestByteCount && 4 * stream.peakByteCount <= stream.byteCount)
    #expect(stream.readByteCount > 10 * stream.byteCount)
  }

  @Test func theKernelHasNoMoreThanTheWindowAndOneLayerInMemory() throws {
    let model = try load(streaming: true)
    let stream = try #require(model.stream)
    // Norms were converted; what remains are single pages.
    #expect(try residentByteCount() < stream.largestByteCount)
    var samples: [Int] = []
    for module in model.modules where module.kind == .linear && module.layer != nil {
      _ = module.addHook { _, _ in
        samples.append((try? self.residentByteCount()) ?? .max)
        return nil
      }
    }
    for step in 0..<2 { try model.loss(batch(step)).backward() }
    #expect(samples.count == 2 * 2 * 7 * 8)
    let peak = try #require(samples.max())
    #expect(peak >= stream.largestByteCount && peak <= 3 * stream.largestByteCount, "\(peak) of \(stream.byteCount)")

    let resident = try load(streaming: false)
    try resident.loss(batch(0)).backward()
    #expect(try residentByteCount() > 3 * stream.largestByteCount)
    withExtendedLifetime(resident) {}
  }

  /// A limit below what a resident base needs: streamed without being asked, with paged optimizer state, and the same
  /// bits.
  @Test func whatDoesNotFitIsStreamedByItselfAndHasTheSameBits() throws {
    let bytes = try #require(load(streaming: true).stream).byteCount
    let backend = CPUBackend.limited(bytes)
    let model = try load(streaming: nil, on: backend)
    let stream = try #require(model.stream)
    #expect(backend.memory.live(.file) < bytes / 3 && backend.memory.live(.file) >= 2 * stream.largestByteCount)
    let bits = try train(model, budget: 300_000)
    #expect(backend.residentByteCount + backend.memory.live(.file) <= bytes)
    let resident = try load(streaming: false)
    resident.checkpointing = true
    #expect(try bits == train(resident))
    // Resident again does not fit, and what was before stays.
    #expect(throws: TensorError.self) { try model.setStreaming(false) }
    #expect(model.stream === stream && backend.memory.live(.file) < bytes / 3)
  }

  @Test func aBaseThatFitsIsResidentAndOnTheBooks() throws {
    let backend = CPUBackend.limited(1 << 30)
    let model = try load(streaming: nil, on: backend)
    #expect(model.stream == nil && backend.memory.live(.file) == 0)
    _ = try model.logits([1, 2, 3])
    #expect(model.stream == nil && backend.memory.live(.file) > 10 << 20)
    // The window is a part of what was on the books, so that there is always room for it.
    backend.memory.limit = backend.residentByteCount + backend.memory.live(.file) + (1 << 20)
    try model.setStreaming(true)
    #expect(model.stream != nil && backend.memory.live(.file) < 5 << 20)
    #expect(model.checkpointing == false, "what the recipe set stays as it is")
    #expect(throws: TensorError.self) { try load(streaming: false, on: CPUBackend.limited(4 << 20)) }
  }

  /// Groups of layers cannot be had with one layer in memory at a time: an error, not a silent 1.
  @Test func recomputingSeveralLayersTogetherIsRefused() throws {
    let model = try load(streaming: false)
    (model.checkpointing, model.checkpointInterval) = (true, 2)
    #expect(throws: ModelError.streamedInterval(layers: 2)) { try model.setStreaming(true) }
    #expect(model.stream == nil)
    let bytes = try #require(load(streaming: true).stream).byteCount
    let short = try load(streaming: nil, on: CPUBackend.limited(1 << 30))
    (short.checkpointing, short.checkpointInterval) = (true, 2)
    short.backend.memory.limit = bytes
    #expect(throws: ModelError.streamedInterval(layers: 2)) { try short.loss(batch(0)) }
    short.checkpointInterval = 1
    _ = try short.loss(batch(0))
    #expect(short.stream != nil)
  }

  @Test func generationReadsLayerAfterLayerToo() throws {
    let options = GenerationOptions(maxTokens: 6, ignoresEndOfSequence: true)
    let tokens = try load(streaming: true).generate([1, 2, 3], options)
    #expect(try tokens == load(streaming: false).generate([1, 2, 3], options))
  }

  @Test func whatCannotBeStreamedIsRefused() throws {
    var options = LoadOptions(quantization: .nf4)
    options.streams = true
    let path = "\(Self.directory)/bf16"
    #expect(throws: ModelError.cannotStream(path: path)) {
      try ModelLoader(backend: CPUBackend(threadCount: 1), options: options).load(path)
    }
  }

  @Test func aFileCutShortIsAnErrorNotACrash() throws {
    let copy = "\(Self.directory)/cut"
    try FileManager.default.copyItem(atPath: "\(Self.directory)/nf4", toPath: copy)
    let model = try load("cut", streaming: true)
    _ = try model.logits([1, 2, 3])
    let shards = try FileManager.default.contentsOfDirectory(atPath: copy).filter { $0.hasSuffix(".safetensors") }
    let last = "\(copy)/\(try #require(shards.max()))"
    let file = try #require(FileHandle(forUpdatingAtPath: last))
    try file.truncate(atOffset: file.seekToEndOfFile() / 2)
    #expect {
      _ = try model.logits([1, 2, 3])
    } throws: {
      guard case ModelError.unreadableWeights(copy, let layer, _) = $0 else { return false }
      return layer >= 6
    }
  }
}

extension CPUBackend {
  fileprivate static func limited(_ byteCount: Int) -> CPUBackend {
    let backend = CPUBackend(threadCount: 2)
    backend.memory.limit = byteCount
    return backend
  }
}
