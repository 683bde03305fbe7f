import Adapters
import CPUBackend
import Formats
import Foundation
import Tensors
import Testing
import Tokenizers

@testable import Models

private let fixtures = SmolLM2.root.appendingPathComponent("Tests/Fixtures").path
private let ids: [Int32] = (0..<24).map { (i: Int) -> Int32 in Int32((7 * i * i + 3 * i + 5) % 128) }

private func load(_ path: String) throws -> LanguageModel {
  try ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .f32)).load(path)
}

/// A file without a tokenizer, loaded beside the config.json of its family.
private func reload(_ path: String, _ family: String) throws -> LanguageModel {
  try withFolder { folder in
    for (from, to) in [(path, "model.gguf"), ("\(fixtures)/families/\(family)/config.json", "config.json")] {
      try FileManager.default.copyItem(atPath: from, toPath: "\(folder.path)/\(to)")
    }
    return try load(folder.path)
  }
}

/// The tiny model of each family that llama.cpp's converter wrote too (Tests/Fixtures/models/make_gguf_families.py).
private let converted = [
  "llama", "qwen2", "qwen3", "granite", "smollm3", "olmo2_plain", "olmo3", "phi3", "phi3_long", "gemma", "gemma2",
  "gemma3_text", "gpt_neox", "qwen3_5_square",
]

@Suite struct GGUFModelWriterTests {
  /// Without a window an OLMo 3 is an OLMo 2, of which no file has a pattern.
  @Test func anOLMo3WithoutWindowsIsWrittenAsOLMo2() throws {
    try withFolder { folder in
      let source = "\(fixtures)/families/olmo3", path = folder.path + "/m.gguf"
      var config = try JSON.read(path: source + "/config.json").object ?? JSONObject()
      config["layer_types"] = .array([JSON](repeating: "full_attention", count: 4))
      try JSON.object(config).text().write(toFile: folder.path + "/config.json", atomically: false, encoding: .utf8)
      try FileManager.default.copyItem(
        atPath: source + "/model.safetensors", toPath: folder.path + "/model.safetensors")
      try load(folder.path).saveGGUF(path, .f32)
      let spec = try DecoderSpec(gguf: try GGUFFile(path: path))
      #expect(spec.modelType == "olmo2" && spec.layers.allSatisfy { $0.window == nil })
    }
  }

  /// Every tensor has the bytes of the converter's; every key of the architecture its value. Keys that only one of both
  /// writes are listed.
  @Test(arguments: converted) func theFileIsThatOfTheConverter(name: String) throws {
    try withFolder { folder in
      let path = folder.path + "/m.gguf"
      let model = try load("\(fixtures)/families/\(name)")
      try model.saveGGUF(path, .f32)
      let (own, other) = try (GGUFFile(path: path), GGUFFile(path: "\(fixtures)/families/\(name)/model.gguf"))
      #expect(Set(own.tensors.map(\.name)) == Set(other.tensors.map(\.name)))
      for tensor in other.tensors {
        let stored = try own.tensor(tensor.name)
        #expect(stored.type == tensor.type && stored.shape == tensor.shape, "\(tensor.name)")
        let isSame = try own.bytes(of: tensor.name).elementsEqual(try other.bytes(of: tensor.name))
        #expect(isSame, "\(tensor.name)")
      }
      for (key, value) in other.metadata where !key.hasPrefix("general.") {
        // Counts only with longrope; a config read here no longer has it.
        if name == "phi3", key == "phi3.rope.scaling.original_context_length" { continue }
        guard let found = own.metadata[key] else {
          Issue.record("\(key) is missing, \(value)")
          continue
        }
        #expect(found == value || found.double == value.double, "\(key): \(found), the converter writes \(value)")
      }
      let logits = try (reload(path, name).logits(ids).floats(), model.logits(ids).floats())
      #expect(relativeError(logits.0, logits.1) < 1e-5)
    }
  }

  /// The fields by which a model of the family computes what such files cannot say.
  @Test(arguments: [
    ("mixtral", "experts"), ("olmoe", "experts"), ("qwen3_moe", "experts"), ("gemma3", "layer_types"),
    ("qwen3_5_text", "linear_value_head_dim"),
  ])
  func whatFilesCannotSayIsRefusedByName(name: String, field: String) throws {
    try withFolder { folder in
      let model = try load("\(fixtures)/families/\(name)")
      let error = #expect(throws: ModelError.self) { try model.saveGGUF(folder.path + "/m.gguf", .f32) }
      guard case .notInGGUF(_, let what) = error else {
        Issue.record("\(String(describing: error))")
        return
      }
      #expect(what.contains(field), "\(what)")
      let names = try FileManager.default.contentsOfDirectory(atPath: folder.path)
      #expect(names.isEmpty)
    }
  }

  @Test(arguments: GGUFMixture.allCases) func everyMixtureReadsBack(mixture: GGUFMixture) throws {
    try withFolder { folder in
      let path = folder.path + "/m.gguf"
      let model = try load("\(fixtures)/families/smollm3")
      try model.saveGGUF(path, mixture)
      let file = try GGUFFile(path: path)
      #expect(file.metadata["general.file_type"]?.int == mixture.number)
      // Rows of 64 hold no block of 256: the smaller blocks that llama.cpp takes then.
      let expected: GGMLType =
        switch mixture {
        case .q4_k_m: .q5_0
        case .q5_k_m: .q5_1
        case .q6_k: .q8_0
        default: mixture.base
        }
      #expect(try file.tensor("blk.1.attn_q.weight").type == expected)
      #expect(try file.tensor("blk.1.attn_norm.weight").type == .f32)
      let name = "model.layers.1.mlp.down_proj"
      let own = try #require(model.module(name)).denseWeight().floats()
      let error = relativeError(try WeightSource(gguf: file, layout: Families.layout).read(name + ".weight"), own)
      let limits: [GGUFMixture: Float] = [.f32: 0, .f16: 4e-4, .bf16: 3e-3, .q8_0: 8e-3, .q6_k: 8e-3, .q5_k_m: 0.05]
      #expect(error <= limits[mixture] ?? 0.1, "\(error)")
    }
  }

  @Test func adaptersAreRefusedOrMergedIntoTheFileAlone() throws {
    try withFolder { folder in
      let path = folder.path + "/m.gguf"
      let model = try load("\(fixtures)/families/phi3")
      try PEFTFiles.load("\(fixtures)/families/phi3/adapter", into: model)
      let count = model.adapters.count
      #expect(throws: ModelError.adaptersAttached(count: count)) { try model.saveGGUF(path, .f32) }
      try model.saveGGUF(path, .f32, merging: true)
      #expect(model.adapters.count == count)
      let live = try model.logits(ids).floats()
      #expect(relativeError(try reload(path, "phi3").logits(ids).floats(), live) < 1e-5)
    }
  }

  /// The names by which llama.cpp's quantizer gives half of the values and down projections of 32 layers more bits.
  @Test func importantLayersHaveMoreBits() throws {
    let spec = try #require(try DecoderSpec.known(name: "llama-2-7b"))
    func layers(_ mixture: GGUFMixture, _ name: String, _ shape: [Int]) -> [Int] {
      (0..<32).filter { mixture.type(of: "blk.\($0).\(name).weight", shape: shape, layer: $0, in: spec) == .q6_K }
    }
    let important = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    #expect(layers(.q4_k_m, "attn_v", [4096, 4096]) == important)
    #expect(layers(.q5_k_m, "ffn_down", [4096, 11008]) == important)
    #expect(layers(.q4_k_m, "attn_q", [4096, 4096]).isEmpty)
    #expect(GGUFMixture.q4_k_m.type(of: "output.weight", shape: [32000, 4096], layer: nil, in: spec) == .q6_K)
    #expect(GGUFMixture.q4_k_m.type(of: "token_embd.weight", shape: [32000, 4096], layer: nil, in: spec) == .q4_K)
    let large = try #require(try DecoderSpec.known(name: "llama-2-70b"))
    #expect(GGUFMixture.q4_k_m.type(of: "blk.13.attn_v.weight", shape: [1024, 8192], layer: 13, in: large) == .q5_K)
  }
}
