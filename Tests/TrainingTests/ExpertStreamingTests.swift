import Adapters
import CPUBackend
import Formats
import Foundation
import Models
import Optimizers
import Tensors
import Testing

/// Bases with experts that stay on disk: three layers of sixteen experts of 400 kB each, and gpt-oss's own blocks.
@Suite(.serialized) struct ExpertStreamingTests {
  private static let fixture = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Fixtures/families/gpt_oss_mxfp4").path

  private static let directory: String = {
    let root = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    do {
      let config: JSON = [
        "model_type": "qwen3_moe", "hidden_size": 512, "intermediate_size": 512, "moe_intermediate_size": 512,
        "num_experts": 16, "num_experts_per_tok": 2, "norm_topk_prob": true, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 256,
        "max_position_embeddings": 256,
      ]
      let backend = CPUBackend(threadCount: 2)
      let model = try LanguageModel(
        random: try DecoderSpec(json: config, path: "config.json"), seed: 3, options: LoadOptions(computeType: .f32),
        trainsAllParameters: false, backend: backend)
      try model.save(directory: root + "/bf16")
      try ModelQuantizer(backend: backend, options: ModelQuantizer.Options())
        .convert(root + "/bf16", to: root + "/nf4")
    } catch {
      Issue.record(error)
    }
    return root
  }()

  private func load(_ path: String? = nil, streams: Bool, keeps: Bool = false) throws -> LanguageModel {
    var options = LoadOptions(computeType: .f32)
    (options.streams, options.keepsBlocks) = (streams, keeps)
    return try ModelLoader(backend: CPUBackend(threadCount: 2), options: options)
      .load(path ?? Self.directory + "/nf4")
  }

  /// Losses of three steps and the trained parameters after them, as bits.
  private func train(_ model: LanguageModel) throws -> [UInt32] {
    try model.attach(model.modules.filter(\.isLayerMatrix).map { ($0.name, LoRA(rank: 2, alpha: 4, dropout: 0.1)) })
    let optimizer = try Optimizer(
      model.trainableParameters.map { OptimizedParameter(name: $0.name, tensor: $0.tensor) },
      OptimizerOptions(.adamW, learningRate: 0.01))
    var bits: [UInt32] = []
    for step in 0..<3 {
      try optimizer.zeroGradients()
      let loss = try model.loss(Batch([((0..<12).map { (i: Int) -> Int32 in Int32((i * i + 31 * step) % 128) }, nil)]))
      bits += try loss.floats().map(\.bitPattern)
      try loss.backward()
      try optimizer.step()
    }
    return bits + (try model.trainableParameters.flatMap { try $0.tensor.floats().map(\.bitPattern) })
  }

  @Test func theBitsAreThoseOfAResidentModel() throws {
    let streamed = try load(streams: true)
    #expect(try train(streamed) == train(load(streams: false)))
    let stream = try #require(streamed.stream)
    #expect(stream.peakByteCount <= 2 * stream.largestByteCount)
    // Twelve tokens go to at most 24 experts of 48, and each layer is read twice a step.
    #expect(stream.readByteCount < 5 * stream.byteCount)
  }

  /// Bytes of the 4-bit file that this process has in memory, as the kernel counts them.
  private func residentByteCount() throws -> Int {
    var (total, isOurs) = (0, false)
    let file = try #require(FileHandle(forReadingAtPath: "/proc/self/smaps"))
    for line in String(decoding: file.readDataToEndOfFile(), as: UTF8.self).split(separator: "\n") {
      if line.contains("-") { isOurs = line.contains("\(Self.directory)/nf4") }
      if isOurs, line.hasPrefix("Rss:") { total += 1024 * (Int(line.filter(\.isNumber)) ?? 0) }
    }
    return total
  }

  /// Forward and backward: what was read and what is in memory are the experts that compute.
  @Test(arguments: [false, true]) func expertsWithoutTokensAreNotRead(trains: Bool) throws {
    let model = try load(streams: true)
    let stream = try #require(model.stream)
    var (used, most): (Set<String>, Int) = ([], 0)
    for module in model.modules where module.isExpert {
      _ = module.addHook { _, _ in
        used.insert(module.name)
        most = max(most, (try? self.residentByteCount()) ?? .max)
        return nil
      }
    }
    let experts = model.modules.filter(\.isExpert)
    let idle: () -> Int = { experts.filter { !used.contains($0.name) }.reduce(0) { $0 + $1.byteCount } }
    if trains {
      try model.attach(model.modules.filter(\.isExpert).map { ($0.name, LoRA(rank: 2, alpha: 4)) })
      try model.loss(Batch([([5, 77, 130], nil)])).backward()
    } else {
      _ = try model.logits([5, 77, 130])
    }
    #expect(used.count >= 3 * 3 * 2 && used.count <= 3 * 3 * 6)
    let layers = stream.byteCount - model.outputModule.byteCount
    // The last layer is still there when the backward pass begins.
    let passes = trains ? 2 : 1
    #expect(stream.readByteCount <= passes * (layers - idle()) + 2 * model.outputModule.byteCount + (64 << 10))
    #expect(stream.readByteCount > (layers - idle()) * 9 / 10)
    // Where a layer is recomputed, the experts of the one before it are read ahead.
    #expect(most > 0 && 10 * most < (trains ? 13 : 7) * stream.largestByteCount, "\(most), \(stream.largestByteCount)")
  }

  @Test func generationReadsTheExpertsOfEachToken() throws {
    let options = GenerationOptions(maxTokens: 6, ignoresEndOfSequence: true)
    let model = try load(streams: true)
    let tokens = try model.generate([1, 2, 3], options)
    #expect(try tokens == load(streams: false).generate([1, 2, 3], options))
    let stream = try #require(model.stream)
    #expect(stream.readByteCount < 3 * stream.byteCount)
  }

  /// The blocks of gpt-oss are views of the file and are streamed, from both kinds of files.
  @Test(arguments: ["model.safetensors", "model.q8_0.gguf"]) func theBlocksOfGPTOSSAreStreamed(file: String) throws {
    let folder = Self.directory + "/" + file
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    for (from, to) in [(file, file.replacing("q8_0.", with: "")), ("config.json", "config.json")] {
      try FileManager.default.copyItem(atPath: "\(Self.fixture)/\(from)", toPath: "\(folder)/\(to)")
    }
    let model = try load(folder, streams: true, keeps: true)
    for module in model.modules where module.isExpert {
      let blocks = try #require(module.blocks)
      let parts = [blocks.bytes] + [blocks.rows.second].compactMap { $0 }
      #expect(parts.allSatisfy { $0.storage.file != nil } && parts.reduce(0) { $0 + $1.byteCount } == blocks.byteCount)
    }
    let bits = try train(model)
    #expect(try #require(model.stream).readByteCount > 0)
    let resident = try load(folder, streams: false, keeps: true)
    #expect(try bits == train(resident))
  }
}
