import CPUBackend
import Formats
import Foundation
import Tensors
import Testing

@testable import Models

private let folder = SmolLM2.root.appendingPathComponent("Tests/Fixtures/families/qwen3_5_text").path
private let ids: [Int32] = (0..<24).map { (i: Int) -> Int32 in Int32((7 * i * i + 3 * i + 5) % 128) }

/// What is particular to GGUF files of models with gated DeltaNets; FamilyGoldenTests reads those of llama.cpp's
/// converter.
@Suite struct HybridGGUFTests {
  private func load(_ path: String, keeps: Bool = false) throws -> LanguageModel {
    var options = LoadOptions(computeType: .f32)
    options.keepsBlocks = keeps
    return try ModelLoader(backend: CPUBackend(threadCount: 2), options: options).load(path)
  }

  /// A file beside a config.json, since a GGUF file by itself has to have a tokenizer.
  private func load(gguf path: String, config: JSON, keeps: Bool = false) throws -> LanguageModel {
    try withFolder { target in
      try FileManager.default.copyItem(atPath: path, toPath: target.path + "/model.gguf")
      try config.text(.compact).write(toFile: target.path + "/config.json", atomically: true, encoding: .utf8)
      return try load(target.path, keeps: keeps)
    }
  }

  /// The converter's file with other metadata and with more tensors, of 32 ones each.
  private func rewrite(
    _ target: String, _ changes: [String: GGUFValue?] = [:], adding names: [String] = [], zeroing zeros: String? = nil
  ) throws {
    let file = try GGUFFile(path: folder + "/model.gguf")
    let items = try file.tensors.map { tensor in
      let (type, bytes) = (try #require(tensor.type), try file.bytes(of: tensor.name))
      return GGUFWriter.Item(name: tensor.name, shape: tensor.shape, type: type) { sink in
        guard tensor.name == zeros else { return try sink(bytes) }
        try [UInt8](repeating: 0, count: bytes.count).withUnsafeBytes { try sink($0) }
      }
    }
    let ones = [Float](repeating: 1, count: 32)
    let others = names.map { name in
      GGUFWriter.Item(name: name, shape: [32], type: .f32) { sink in try ones.withUnsafeBytes { try sink($0) } }
    }
    var metadata = file.metadata
    for (key, value) in changes { metadata["qwen35." + key] = value }
    try GGUFWriter.write(path: target, metadata.map { ($0, $1) }, items + others)
  }

  /// Such layers follow those of the model and are counted with them.
  @Test func layersThatPredictAheadArePassedOverWithAWord() throws {
    try withFolder { target in
      let path = target.path + "/ahead.gguf"
      let types: [GGUFValue] = [true, true, true, false, false].map { .bool($0) }
      let changes: [String: GGUFValue?] = [
        "block_count": .unsigned(5), "nextn_predict_layers": .unsigned(1), "attention.recurrent_layers": .array(types),
      ]
      try rewrite(
        path, changes,
        adding: ["blk.4.attn_norm.weight", "blk.4.nextn.enorm.weight"])
      let spec = try DecoderSpec(gguf: try GGUFFile(path: path))
      #expect(spec.layers.map(\.isRecurrent) == [true, true, true, false])
      let model = try load(gguf: path, config: spec.toJSON())
      #expect(model.notices.contains { $0.contains("2 tensors of other parts") && $0.hasSuffix("blk.4") })
      #expect(relativeError(try model.logits(ids).floats(), try load(folder).logits(ids).floats()) < 1e-6)
    }
  }

  /// Older files name no layers; those of any file that make no sense are errors that name the key.
  @Test func metadataOfDeltaNetsIsReadOrRefusedByName() throws {
    try withFolder { target in
      let path = target.path + "/changed.gguf"
      func types(_ changes: [String: UInt64?]) throws -> [Bool] {
        let unnamed: [String: GGUFValue?] = ["attention.recurrent_layers": Optional<GGUFValue>.none]
        let values = changes.mapValues { $0.map { GGUFValue.unsigned($0) } }
        try rewrite(path, unnamed.merging(values) { $1 })
        return try DecoderSpec(gguf: try GGUFFile(path: path)).layers.map(\.isRecurrent)
      }
      let (usual, second) = try (types([:]), types(["full_attention_interval": 2]))
      #expect(usual == [true, true, true, false] && second == [true, false, true, false])
      for (key, value) in [
        ("ssm.group_count", 0), ("ssm.group_count", 3), ("ssm.inner_size", 81), ("ssm.conv_kernel", 65),
        ("ssm.state_size", nil), ("full_attention_interval", 0), ("nextn_predict_layers", 4),
      ] as [(String, UInt64?)] {
        let error = #expect(throws: FormatError.self) { try types([key: value]) }
        let names = [key, ["ssm.group_count": "linear_num", "ssm.conv_kernel": "linear_conv"][key] ?? key]
        #expect(names.contains { error?.description.contains($0) ?? false }, "\(String(describing: error))")
      }
    }
  }

  /// No logarithm has 0 for its negated exponential.
  @Test func exponentialsThatAreNoneAreRefusedByName() throws {
    try withFolder { target in
      let path = target.path + "/zero.gguf"
      try rewrite(path, zeroing: "blk.1.ssm_a")
      let config = try JSON.read(path: folder + "/config.json")
      let error = #expect(throws: FormatError.self) { try load(gguf: path, config: config) }
      #expect(error?.description.contains("blk.1.ssm_a") ?? false, "\(String(describing: error))")
    }
  }

  /// Rows in another order stay blocks; columns in another order cannot, and that is said.
  @Test func keptBlocksAreTheModelOfTheFile() throws {
    try withFolder { target in
      // Columns of value heads that blocks fill.
      var json = try #require(try JSON.read(path: folder + "/config.json").object)
      json["linear_value_head_dim"] = 16
      json["linear_key_head_dim"] = 16
      let spec = try DecoderSpec(json: .object(json), path: "config.json")
      try SyntheticModel(backend: CPUBackend(threadCount: 1), options: SyntheticModel.Options(), seed: 3)
        .write(spec, tokenizer: nil, to: target.path + "/made")
      let path = target.path + "/kept.gguf"
      try load(target.path + "/made").saveGGUF(path, .q8_0)
      let file = try GGUFFile(path: path)
      #expect(try file.tensor("blk.0.ssm_out.weight").type == .q8_0)
      #expect(try file.tensor("blk.0.ssm_conv1d.weight").type == .f32)
      let (kept, wide) = try (
        load(gguf: path, config: .object(json), keeps: true), load(gguf: path, config: .object(json))
      )
      for (module, other) in zip(kept.modules, wide.modules) where module.kind == .linear {
        // 48 columns are no whole number of blocks.
        #expect((module.blocks == nil) == ["out_proj", "down_proj"].contains(module.role), "\(module.name)")
        #expect(try module.denseWeight().floats() == other.denseWeight().floats(), "\(module.name)")
      }
      #expect(kept.notices.contains { $0.contains("out_proj of 3 layers") })
      #expect(relativeError(try kept.logits(ids).floats(), try wide.logits(ids).floats()) < 1e-5)
    }
  }
}
