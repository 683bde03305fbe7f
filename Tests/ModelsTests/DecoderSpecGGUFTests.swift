import Formats
import Foundation
import Testing

@testable import Models

@Suite struct DecoderSpecGGUFTests {
  private func metadata(_ architecture: String) -> [String: GGUFBytes.Value] {
    [
      "general.architecture": .text(architecture), architecture + ".embedding_length": .integer(16),
      architecture + ".feed_forward_length": .integer(24), architecture + ".block_count": .integer(2),
      architecture + ".attention.head_count": .integer(4), architecture + ".attention.head_count_kv": .integer(2),
      architecture + ".context_length": .integer(131072), architecture + ".rope.freq_base": .float(500000),
      architecture + ".attention.layer_norm_rms_epsilon": .float(1e-5),
      architecture + ".attention.key_length": .integer(64),
      "tokenizer.ggml.eos_token_id": .integer(7),
    ]
  }

  private let embedding: (String, [UInt64], [Float]) = ("token_embd.weight", [16, 3], Array(repeating: 1, count: 48))

  private func config(
    _ metadata: [String: GGUFBytes.Value], _ tensors: [(String, [UInt64], [Float])]
  ) throws -> DecoderSpec {
    try withFolder { folder in
      try GGUFBytes.make(metadata, tensors).write(to: folder.appendingPathComponent("m.gguf"))
      return try DecoderSpec(gguf: GGUFFile(path: folder.path + "/m.gguf"))
    }
  }

  @Test func metadataBecomesAConfig() throws {
    let config = try config(metadata("qwen3"), [embedding])
    #expect(config.modelType == "qwen3" && config.hiddenSize == 16 && config.intermediateSize == 24)
    #expect(config.layerCount == 2 && config.headCount == 4 && config.keyValueHeadCount == 2)
    #expect(config.headDimension == 64 && config.vocabularySize == 3 && config.maxPositions == 131072)
    #expect(config.normEpsilon == 1e-5 && config.rope == Rope(theta: 500000))
    #expect(config.tiesEmbeddings && !config.modules.attention.inputsHaveBias && config.eosTokenIDs == [7])
    let bias: (String, [UInt64], [Float]) = ("blk.0.attn_q.bias", [2], [0, 0])
    let untied: (String, [UInt64], [Float]) = ("output.weight", [1], [0])
    let other = try self.config(metadata("qwen2"), [embedding, bias, untied])
    #expect(!other.tiesEmbeddings && other.modules.attention.inputsHaveBias)
  }

  /// Divisors of Llama 3.2 (factor 32, theta 500000, 64 dimensions) as transformers 5.23 computes them
  /// (`_compute_llama3_parameters`, plain frequency over scaled frequency), entries 15 to 17.
  @Test func llama3ScalingIsRecognised() throws {
    let middle: [Float] = [1.65133, 3.29226, 9.66673]
    let divisors = [Float](repeating: 1, count: 15) + middle + [Float](repeating: 32, count: 32 - 15 - middle.count)
    let good = try config(metadata("llama"), [embedding, ("rope_freqs.weight", [32], divisors)])
    #expect(
      good.rope.scaling
        == .llama3(factor: 32, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalPositions: 8192))
    var others = divisors
    others[15] = 1.75
    guard
      case .longrope(let long) = try config(metadata("llama"), [embedding, ("rope_freqs.weight", [32], others)]).rope
        .scaling
    else { Issue.record("other divisors are those of longrope"); return }
    #expect(long.shortFactors == long.longFactors && long.shortFactors[15] == 1.75 && long.attentionFactor == 1)
    others[3] = 0
    #expect(throws: FormatError.self) {
      try config(metadata("llama"), [embedding, ("rope_freqs.weight", [32], others)])
    }
    #expect(throws: FormatError.self) {
      try config(metadata("llama"), [embedding, ("rope_freqs.weight", [2], [1, 1])])
    }
  }

  @Test(arguments: [
    ("general.architecture", "command-r"), ("llama.rope.scaling.type", "dynamic"), ("llama.block_count", "two"),
  ]) func unsupportedIsRefused(key: String, value: String) {
    var changed = metadata("llama")
    changed[key] = .text(value)
    #expect(throws: FormatError.self) { try config(changed, [embedding]) }
  }

  @Test(
    arguments: [
      ("llama.expert_count", 8), ("llama.rope.dimension_count", 32), ("llama.attention.head_count", 0),
      ("llama.attention.head_count_kv", 0), ("llama.block_count", 4_000_000_000),
    ] as [(String, UInt32)]) func badNumbersAreRefused(key: String, value: UInt32)
  {
    var changed = metadata("llama")
    changed[key] = .integer(value)
    #expect(throws: FormatError.self) { try config(changed, [embedding]) }
  }

  /// Random damage to metadata never traps.
  @Test func damagedMetadata() throws {
    var random: UInt64 = 3
    let original = GGUFBytes.make(
      metadata("llama"), [embedding, ("blk.0.attn_q.weight", [16, 8], Array(repeating: 2, count: 128))])
    try withFolder { folder in
      for _ in 0..<1500 {
        var damaged = original
        for _ in 0..<3 { damaged[Int(step(&random) % 900)] = UInt8(truncatingIfNeeded: step(&random)) }
        try damaged.write(to: folder.appendingPathComponent("m.gguf"))
        do {
          let file = try GGUFFile(path: folder.path + "/m.gguf")
          let source = try WeightSource(gguf: file, layout: Families.layout)
          for tensor in source.tensors { _ = try source.read(tensor.name) }
          _ = try DecoderSpec(gguf: file).layers.count
        } catch is FormatError {}
      }
    }
  }

  @Test func damagedConfig() throws {
    var random: UInt64 = 4
    let original = [UInt8](try Data(contentsOf: URL(fileURLWithPath: modelFixtures + "/../formats/config.json")))
    var accepted = 0
    for _ in 0..<3000 {
      var damaged = original
      damaged[Int(step(&random) % UInt64(damaged.count))] = UInt8(ascii: "0") + UInt8(step(&random) % 10)
      guard let json = try? JSON.parse(damaged) else { continue }
      do { accepted += try DecoderSpec(json: json, path: "x").layers.count > 0 ? 1 : 0 } catch {}
    }
    #expect(accepted > 0)
  }

  /// A linear congruential generator (Knuth, MMIX); its upper bits.
  private func step(_ state: inout UInt64) -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return state >> 33
  }
}
