import Adapters
import Autograd
import CPUBackend
import Formats
import Foundation
import Models
import Optimizers
import Tensors
import Testing
import Training

/// `quant = "keep"`: tests on a small GGUF file with matrices in ten formats; see Tests/Fixtures/formats/make_kept.py.
@Suite(.serialized) struct KeptBaseTests {
  private static let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Fixtures").path
  private static let file = fixtures + "/formats/kept.gguf"
  private let ids = (0..<20).map { Int32(1 + 7 * $0) }

  private func options(keeps: Bool, compute: DType = .f32, headerOnly: Bool = false) -> LoadOptions {
    var options = LoadOptions(computeType: compute, headerOnly: headerOnly)
    options.keepsBlocks = keeps
    return options
  }

  private func load(
    keeps: Bool = true, streams: Bool? = nil, compute: DType = .f32,
    on backend: CPUBackend = CPUBackend(threadCount: 2)
  ) throws -> LanguageModel {
    var options = options(keeps: keeps, compute: compute)
    options.streams = streams
    return try ModelLoader(backend: backend, options: options).load(Self.file)
  }

  private func attach(_ model: LanguageModel) throws {
    try model.attach(
      model.modules.filter { $0.kind == .linear }.map { ($0.name, LoRA(rank: 4, alpha: 8, dropout: 0.1)) })
  }

  /// Losses and trained parameters of three steps, with the gradients of the first.
  private func train(_ model: LanguageModel) throws -> (bits: [UInt32], gradients: [Float]) {
    try attach(model)
    let parameters = model.trainableParameters
    let optimizer = try Optimizer(
      parameters.map { OptimizedParameter(name: $0.name, tensor: $0.tensor) },
      OptimizerOptions(.adamW, learningRate: 0.01))
    var (bits, gradients): ([UInt32], [Float]) = ([], [])
    for step in 0..<3 {
      try optimizer.zeroGradients()
      let batch = try Batch([((0..<50).map { (i: Int) -> Int32 in Int32((i * i + 31 * step) % 259) }, nil)])
      let loss = try model.loss(batch)
      bits += try loss.floats().map(\.bitPattern)
      try loss.backward()
      if step == 0 { gradients = try parameters.flatMap { try #require($0.tensor.gradient).floats() } }
      try optimizer.step()
    }
    return (bits + (try parameters.flatMap { try $0.tensor.floats().map(\.bitPattern) }), gradients)
  }

  @Test func logitsAreThoseOfTransformers() throws {
    let model = try load()
    let golden = try Data(contentsOf: URL(fileURLWithPath: Self.fixtures + "/formats/kept.f32")).withUnsafeBytes {
      Array($0.bindMemory(to: Float.self))
    }
    let logits = try model.logits(ids).floats()
    let deviation = (golden.reduce(0) { $0 + $1 * $1 } / Float(golden.count)).squareRoot()
    let worst = zip(logits, golden).reduce(Float(0)) { max($0, ($1.0 - $1.1).magnitude) }
    #expect(logits.count == golden.count && worst <= 1e-4 * deviation, "\(worst) of \(deviation)")
  }

  @Test func formatsAreThoseOfTheFile() throws {
    let model = try load()
    let forms = model.modules.map { $0.storedForm ?? $0.weight?.dtype.name ?? "none" }
    #expect(
      Array(forms.prefix(10)) == [
        "Q8_0", "f32", "Q4_0", "Q8_0", "Q5_0", "Q5_1", "f32", "Q4_1", "IQ4_NL", "Q4_K",
      ])
    #expect(model.module("model.layers.1.self_attn.v_proj")?.weight?.dtype == .f16)
    let embedding = try #require(model.module("model.embed_tokens"))
    #expect(embedding.weight == nil && embedding.byteCount == 259 * 2 * 34)
    // A plan counts the same bytes without reading them.
    let planned = try ModelLoader(
      backend: CPUBackend(threadCount: 1), options: options(keeps: true, headerOnly: true)
    ).load(Self.file)
    #expect(planned.modules.map(\.byteCount) == model.modules.map(\.byteCount))
    #expect(planned.modules.map(\.storedForm) == model.modules.map(\.storedForm))
  }

  /// The weights are those that reading them wide gives, so each bit of training is.
  @Test(arguments: [DType.f32, .bf16]) func trainingIsThatOfTheDecodedBase(compute: DType) throws {
    let kept = try train(try load(compute: compute))
    let wide = try load(keeps: false, compute: .f32)
    // In bf16 wide weights would be rounded while loading, where kept ones are rounded in the product: the same.
    let dense = try train(compute == .f32 ? wide : try load(keeps: false, compute: .bf16))
    let scale = dense.gradients.reduce(Float(0)) { max($0, $1.magnitude) }
    let worst = zip(kept.gradients, dense.gradients).reduce(Float(0)) { max($0, ($1.0 - $1.1).magnitude) }
    #expect(scale > 0 && worst <= (compute == .f32 ? 1e-5 : 0.03) * scale, "\(worst) of \(scale)")
    if compute == .f32 { #expect(kept.bits == dense.bits) }
  }

  @Test func streamedBitsAreTheSame() throws {
    let resident = try train(try load(streams: false))
    let model = try load(streams: true)
    #expect(model.canStream)
    let streamed = try train(model)
    #expect(try #require(model.stream).readByteCount > 0)
    #expect(streamed.bits == resident.bits)
  }

  /// Generation decodes codes in registers and the forward pass decodes tiles: greedy tokens agree.
  @Test func generationWithTheCacheIsThatWithout() throws {
    let model = try load()
    var text = Array(ids.prefix(4))
    for _ in 0..<12 {
      let rows = try model.logits(text).floats().suffix(259)
      text.append(Int32(rows.indices.max { rows[$0] < rows[$1] }! - rows.startIndex))
    }
    var greedy = GenerationOptions()
    (greedy.maxTokens, greedy.ignoresEndOfSequence) = (12, true)
    #expect(try model.generate(Array(ids.prefix(4)), greedy) == Array(text.dropFirst(4)))
  }

  /// Adapters have the rows of the Hugging Face tensors whatever order the file has: attached to the folder that the
  /// base was saved as, they give the same model.
  @Test func adaptersAndSavedModelsAreInTheOrderOfHuggingFace() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let model = try load()
    _ = try train(model)
    try PEFTFiles.save(model, directory: folder + "/adapter")
    let own = try model.logits(ids).floats()
    try model.withoutAdapters { try model.save(directory: folder + "/base") }
    let other = try ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .f32))
      .load(folder + "/base")
    try PEFTFiles.load(folder + "/adapter", into: other)
    let theirs = try other.logits(ids).floats()
    let scale = own.reduce(Float(0)) { max($0, $1.magnitude) }
    // The saved base is rounded to bf16.
    let worst = zip(own, theirs).reduce(Float(0)) { max($0, ($1.0 - $1.1).magnitude) }
    #expect(worst <= 0.02 * scale, "\(worst) of \(scale)")
    try model.mergeAdapters()
    let merged = try model.logits(ids).floats()
    #expect(zip(own, merged).allSatisfy { ($0 - $1).magnitude <= 1e-4 * scale })
    #expect(model.module("model.layers.0.self_attn.q_proj")?.blocks == nil)
  }

  @Test func whatCannotBeKeptIsRefused() throws {
    let loader = ModelLoader(backend: CPUBackend(threadCount: 1), options: options(keeps: true))
    let folder = Self.fixtures + "/models/base"
    #expect(throws: ModelError.nothingToKeep(path: folder)) { try loader.load(folder) }
    var planned = options(keeps: true, headerOnly: true)
    #expect(throws: ModelError.nothingToKeep(path: folder)) {
      try ModelLoader(backend: CPUBackend(threadCount: 1), options: planned).load(folder)
    }
    #expect(throws: ModelError.self) {
      try ModelLoader(backend: CPUBackend(threadCount: 1), options: planned).load("llama-65b")
    }
    planned.wantedBlockSize = 64
    #expect(throws: ModelError.self) {
      try ModelLoader(backend: CPUBackend(threadCount: 1), options: planned).load(Self.file)
    }
    let model = try load()
    #expect(throws: ModelError.self) { try model.quantizationReports(of: ["model.layers.0.mlp.up_proj"]) }
  }

  /// A run that goes on must have the base it began with, and the checkpoint names it.
  @Test func theFormatsAreAPartOfTheRun() throws {
    func quant(_ model: LanguageModel) throws -> String? { try RunIdentity(model).values["base"]?["quant"]?.string }
    #expect(try quant(try load()) == "IQ4_NL, MXFP4, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q6_K, Q8_0")
    #expect(try quant(try load(keeps: false)) == "")
  }
}
