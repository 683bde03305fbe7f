import Foundation
import Testing

@testable import Formats

@Suite struct ModelConfigGGUFTests {
  enum Value {
    case integer(UInt32)
    case float(Float)
    case text(String)
  }

  private func bytes<T: FixedWidthInteger>(_ v: T) -> [UInt8] { withUnsafeBytes(of: v.littleEndian) { Array($0) } }
  private func text(_ s: String) -> [UInt8] { bytes(UInt64(s.utf8.count)) + Array(s.utf8) }

  /// A GGUF file of f32 tensors.
  private func file(_ metadata: [String: Value], _ tensors: [(String, [UInt64], [Float])]) -> [UInt8] {
    var head = Array("GGUF".utf8) + bytes(UInt32(3)) + bytes(UInt64(tensors.count)) + bytes(UInt64(metadata.count))
    for (key, value) in metadata {
      head += text(key)
      switch value {
      case .integer(let v): head += bytes(UInt32(4)) + bytes(v)
      case .float(let v): head += bytes(UInt32(6)) + bytes(v.bitPattern)
      case .text(let v): head += bytes(UInt32(8)) + text(v)
      }
    }
    var data: [UInt8] = []
    for (name, dims, values) in tensors {
      head += text(name) + bytes(UInt32(dims.count)) + dims.flatMap { bytes($0) }
      head += bytes(UInt32(0)) + bytes(UInt64(data.count))
      data += values.flatMap { bytes($0.bitPattern) }
      data += [UInt8](repeating: 0, count: (32 - data.count % 32) % 32)
    }
    return head + [UInt8](repeating: 0, count: (32 - head.count % 32) % 32) + data
  }

  private func metadata(_ architecture: String) -> [String: Value] {
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
    _ metadata: [String: Value], _ tensors: [(String, [UInt64], [Float])]
  ) throws -> ModelConfig {
    try Fixture.withFolder { folder in
      try Fixture.write(folder + "/m.gguf", file(metadata, tensors))
      return try ModelConfig(gguf: GGUFFile(path: folder + "/m.gguf"))
    }
  }

  @Test func metadataBecomesAConfig() throws {
    let config = try config(metadata("qwen3"), [embedding])
    #expect(config.modelType == .qwen3 && config.hiddenSize == 16 && config.intermediateSize == 24)
    #expect(config.layerCount == 2 && config.headCount == 4 && config.keyValueHeadCount == 2)
    #expect(config.headDimension == 64 && config.vocabularySize == 3 && config.maxPositions == 131072)
    #expect(config.normEpsilon == 1e-5 && config.ropeTheta == 500000 && config.ropeScaling == .none)
    #expect(config.tiesEmbeddings && !config.hasQKVBias && config.eosTokenIDs == [7])
    let bias: (String, [UInt64], [Float]) = ("blk.0.attn_q.bias", [2], [0, 0])
    let untied: (String, [UInt64], [Float]) = ("output.weight", [1], [0])
    let other = try self.config(metadata("qwen2"), [embedding, bias, untied])
    #expect(!other.tiesEmbeddings && other.hasQKVBias)
  }

  /// Divisors of Llama 3.2 (factor 32, theta 500000, 64 dimensions) as transformers 5.23 computes them
  /// (`_compute_llama3_parameters`, plain frequency over scaled frequency), entries 15 to 17.
  @Test func llama3ScalingIsRecognised() throws {
    let middle: [Float] = [1.65133, 3.29226, 9.66673]
    let divisors = [Float](repeating: 1, count: 15) + middle + [Float](repeating: 32, count: 32 - 15 - middle.count)
    let good = try config(metadata("llama"), [embedding, ("rope_freqs.weight", [32], divisors)])
    #expect(
      good.ropeScaling
        == .llama3(factor: 32, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalPositions: 8192))
    var wrong = divisors
    wrong[15] *= 1.01
    #expect(throws: FormatError.self) {
      try config(metadata("llama"), [embedding, ("rope_freqs.weight", [32], wrong)])
    }
    #expect(throws: FormatError.self) {
      try config(metadata("llama"), [embedding, ("rope_freqs.weight", [2], [1, 1])])
    }
  }

  @Test(arguments: [
    ("general.architecture", "gemma"), ("llama.rope.scaling.type", "yarn"), ("llama.block_count", "two"),
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
    var random = SplitMix(state: 3)
    let original = file(
      metadata("llama"), [embedding, ("blk.0.attn_q.weight", [16, 8], Array(repeating: 2, count: 128))])
    try Fixture.withFolder { folder in
      for _ in 0..<1500 {
        var damaged = original
        for _ in 0..<3 { damaged[Int(random.next() % 900)] = UInt8(truncatingIfNeeded: random.next()) }
        try Fixture.write(folder + "/m.gguf", damaged)
        do {
          let file = try GGUFFile(path: folder + "/m.gguf")
          let source = try WeightSource(gguf: file)
          for tensor in source.tensors { _ = try source.read(tensor.name) }
          _ = try ModelConfig(gguf: file).parameterCount
        } catch is FormatError {}
      }
    }
  }

  @Test func damagedConfig() throws {
    var random = SplitMix(state: 4)
    let original = try Fixture.bytes("config.json")
    var accepted = 0
    for _ in 0..<3000 {
      var damaged = original
      damaged[Int(random.next() % UInt64(damaged.count))] = UInt8(ascii: "0") + UInt8(random.next() % 10)
      guard let json = try? JSON.parse(damaged) else { continue }
      do { accepted += try ModelConfig(json: json, path: "x").parameterCount > 0 ? 1 : 0 } catch {}
    }
    #expect(accepted > 0)
  }
}
