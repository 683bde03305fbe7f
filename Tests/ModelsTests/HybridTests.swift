import CPUBackend
import Formats
import Foundation
import Tensors
import Testing

@testable import Models

private let folder = SmolLM2.root.appendingPathComponent("Tests/Fixtures/families/qwen3_5_text").path
private let longIDs: [Int32] = (0..<300).map { (i: Int) -> Int32 in Int32((11 * i * i + 5 * i + 3) % 128) }

/// What is particular to models with recurrent layers; FamilyGoldenTests has what all families have.
@Suite struct HybridTests {
  private func load(_ path: String = folder) throws -> LanguageModel {
    try ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .f32)).load(path)
  }

  /// Texts that end before, at and behind the end of a chunk; all rows of a text are those of the longer one.
  @Test func logitsEqualTransformersAtTheEndsOfChunks() throws {
    let model = try load()
    let golden = try WeightSource(path: folder + "/golden.safetensors").read("long_logits")
    let rows = [0: 0, 63: 4, 64: 5, 127: 7]
    for count in [1, 64, 65, 128] {
      let place = try #require(rows[count - 1]) * 128
      let got = try model.logits(Array(longIDs[..<count])).floats().suffix(128)
      #expect(relativeError(Array(got), Array(golden[place..<place + 128])) < 2e-5, "\(count) tokens")
    }
  }

  @Test func layersHaveTheirModules() throws {
    let model = try load()
    #expect(model.spec.layers.map(\.isRecurrent) == [true, true, true, false])
    let names = model.modules.filter { $0.layer == 0 }.map(\.name)
    for name in [
      "conv1d", "A_log", "dt_bias", "norm", "in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a", "out_proj",
    ] {
      #expect(names.contains("model.layers.0.linear_attn." + name))
    }
    #expect(!names.contains { $0.contains("self_attn") })
    #expect(model.module("model.layers.3.self_attn.q_proj")?.weightShape == [128, 32])
    #expect(model.module("model.layers.0.linear_attn.A_log")?.isLayerMatrix == false)
    #expect(throws: ModelError.noAttention(layer: 1)) { try model.attentionMaps([1, 2, 3], layer: 1) }
    #expect(try model.attentionMaps([1, 2, 3], layer: 3).shape == [4, 3, 3])
  }

  /// Pieces of any length, one over several chunks, go on from the states before.
  @Test func statesGoOnFromPieceToPiece() throws {
    let model = try load()
    let whole = try model.logits(longIDs).floats()
    let cache = try KeyValueCache(model, capacity: 10)
    var start = 0
    for count in [1, 2, 130, 64, 1, 102] {
      let got = try model.step(Array(longIDs[start..<start + count]), cache: cache).floats()
      start += count
      #expect(relativeError(got, Array(whole[(start - 1) * 128..<start * 128])) < 2e-5, "\(start) tokens")
    }
    // A cache that begins anew forgets the states too.
    cache.ids = []
    #expect(
      relativeError(try model.step([longIDs[0]], cache: cache).floats(), Array(whole[..<128])) < 1e-5)
  }

  @Test func generationIsThatWithoutACache() throws {
    let model = try load()
    var text = Array(longIDs[..<9])
    let generated = try model.generate(text, GenerationOptions(maxTokens: 24, ignoresEndOfSequence: true))
    for _ in 0..<24 {
      let last = try model.logits(text).floats().suffix(128)
      text.append(Int32(last.indices.max { last[$0] < last[$1] }! - last.startIndex))
    }
    #expect(generated == Array(text.dropFirst(9)))
  }

  private func config(_ changes: [(String, JSON)]) throws -> DecoderSpec {
    var json = try #require(try JSON.read(path: folder + "/config.json").object)
    for (key, value) in changes { json[key] = value }
    return try DecoderSpec(json: .object(json), path: "config.json")
  }

  @Test func layerTypesFollowFromTheIntervalWhereTheyAreNotSaid() throws {
    let types = try config([("layer_types", .null), ("full_attention_interval", 2)]).layers.map(\.isRecurrent)
    #expect(types == [true, false, true, false])
    #expect(try config([("layer_types", .null)]).layers.map(\.isRecurrent) == [true, true, true, false])
  }

  @Test(
    arguments: [
      ("linear_num_key_heads", 0), ("linear_num_key_heads", 3), ("linear_num_value_heads", 1_099_511_627_776),
      ("linear_key_head_dim", -1), ("linear_value_head_dim", 1.5), ("linear_conv_kernel_dim", 0),
      ("linear_conv_kernel_dim", 65), ("linear_num_key_heads", .null), ("linear_key_head_dim", "12"),
      ("full_attention_interval", 0), ("layer_types", ["linear_attention"]), ("attn_output_gate", false),
      ("layer_types", ["linear_attention", "full_attention", "mamba", "full_attention"]),
      ("layer_types", ["linear_attention", "full_attention", "sliding_attention", "full_attention"]),
      ("mlp_only_layers", [1]), ("num_experts", 8), ("linear_bias", true), ("sliding_window", 4),
    ] as [(String, JSON)]) func whatIsNotComputedIsRefusedByName(field: String, value: JSON) throws
  {
    let error = #expect(throws: FormatError.self) { try config([(field, value)]) }
    let names = [field, field.replacing("num_key", with: "num_value")]
    #expect(names.contains { error?.description.contains($0) ?? false }, "\(String(describing: error))")
  }

  /// Layers that predict ahead are passed over under both names; a tensor of another shape is named.
  @Test func tensorsThatAreNotReadAreKnown() throws {
    try withFolder { target in
      let source = try WeightSource(path: folder + "/model.safetensors")
      func write(_ change: (String, [Int]) -> [Int]) throws {
        var items = try source.tensors.map { tensor -> SafetensorsWriter.Item in
          let values = try source.read(tensor.name)
          return SafetensorsWriter.Item(name: tensor.name, dtype: .f32, shape: change(tensor.name, tensor.shape)) {
            sink in try values.withUnsafeBytes { try sink($0) }
          }
        }
        items.append(SafetensorsWriter.Item(name: "mtp.fc.weight", dtype: .f32, shape: [1], bytes: [0, 0, 0, 0]))
        try SafetensorsWriter.write(path: target.path + "/model.safetensors", items)
      }
      try FileManager.default.copyItem(atPath: folder + "/config.json", toPath: target.path + "/config.json")
      try write { $1 }
      #expect(try load(target.path).isLoaded)
      try write { $0.hasSuffix("layers.1.linear_attn.conv1d.weight") ? [128, 4] : $1 }
      let error = #expect(throws: FormatError.self) { try load(target.path) }
      #expect(error?.description.contains("layers.1.linear_attn.conv1d.weight") ?? false)
    }
  }

  /// A new model begins with decays spread over its heads, and norms that scale nothing.
  @Test func newModelsBeginAsTheFamilyDoes() throws {
    let model = try LanguageModel(
      random: try config([]), seed: 1, options: LoadOptions(computeType: .f32), trainsAllParameters: true,
      backend: CPUBackend(threadCount: 2))
    func weight(_ name: String) throws -> [Float] {
      try #require(model.module("model.layers.0." + name)?.weight).floats()
    }
    #expect(try weight("linear_attn.dt_bias") == [1, 1, 1, 1] && weight("linear_attn.norm").allSatisfy { $0 == 1 })
    #expect(try weight("input_layernorm").allSatisfy { $0 == 0 } && weight("linear_attn.A_log")[0] < 1)
    let loss = try model.loss(Batch([(Array(longIDs[..<70]), nil)]))
    try loss.backward()
    for (name, tensor) in model.trainableParameters {
      #expect(try tensor.gradient?.floats().contains { $0 != 0 } ?? false, "\(name) has no gradient")
    }
  }
}
