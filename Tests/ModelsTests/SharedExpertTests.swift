import CPUBackend
import Formats
import Foundation
import Tensors
import Testing

@testable import Models

private let families = SmolLM2.root.appendingPathComponent("Tests/Fixtures/families").path
private let ids: [Int32] = (0..<24).map { (i: Int) -> Int32 in Int32((7 * i * i + 3 * i + 5) % 128) }

/// Experts that every token has, and files with the experts of a layer in one tensor; ExpertGoldenTests has what all
/// families with experts have.
@Suite struct SharedExpertTests {
  private func load(_ path: String) throws -> LanguageModel {
    try ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .f32)).load(path)
  }

  @Test(arguments: ["qwen3_next", "qwen3_5_moe_text"]) func layersHaveTheirModules(name: String) throws {
    let model = try load("\(families)/\(name)")
    let expert = model.modules.filter { $0.layer == 0 && $0.name.contains(".shared_expert.") }
    #expect(expert.map(\.weightShape) == [[20, 32], [20, 32], [32, 20]])
    #expect(expert.allSatisfy { $0.isLayerMatrix && !$0.isExpert && !$0.isRouter })
    let gate = try #require(model.module("model.layers.0.mlp.shared_expert_gate"))
    #expect(gate.weightShape == [1, 32] && gate.isLayerMatrix)
    let fused = model.module("model.layers.0.linear_attn.in_proj_qkvz")
    #expect(fused?.weightShape == (name == "qwen3_next" ? [208, 32] : nil))
    if name == "qwen3_next" {
      #expect(model.module("model.layers.1.mlp.gate_proj")?.weightShape == [48, 32])
      #expect(model.spec.layers.map(\.hasExperts) == [true, false, true, true])
    }
  }

  /// The first token, which recurrent layers have not rounded over and over.
  @Test(arguments: ["qwen3_next", "qwen3_5_moe_text"]) func computesInBF16(name: String) throws {
    let loader = ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .bf16))
    let got = try Array(loader.load("\(families)/\(name)").logits(ids).floats().prefix(128))
    let wanted = try WeightSource(path: "\(families)/\(name)/golden.safetensors").read("logits").prefix(128)
    #expect(relativeError(got, Array(wanted)) < 0.15 && relativeError(got, Array(wanted)) > 0)
  }

  /// Of long texts most tokens are near transformers in f64; some are not, in transformers' own bf16 either: what the
  /// norm of a head divides by may be small, and a router near a tie chooses others.
  @Test(arguments: ["qwen3_next", "qwen3_next_full", "qwen3_5_moe_text"])
  func mostTokensOfLongTextsAreNearInBF16(name: String) throws {
    let loader = ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .bf16))
    let long = (0..<300).map { (i: Int) -> Int32 in Int32((11 * i * i + 5 * i + 3) % 128) }
    let got = try loader.load("\(families)/\(name)").logits(long).floats()
    let wanted = try load("\(families)/\(name)").logits(long).floats()
    let errors = (0..<300).map { token in
      let row = token * 128..<(token + 1) * 128
      return relativeError(Array(got[row]), Array(wanted[row]))
    }
    #expect(errors.sorted()[150] < 0.07 && errors[0] > 0)
  }

  private func write(_ folder: String, of name: String = "qwen3_5_moe_text", rows: Int = 48) throws {
    let source = try WeightSource(path: families + "/\(name)/model.safetensors")
    let (layers, count) = name == "qwen3_5_moe" ? ("model.language_model.layers.", 3) : ("model.layers.", 4)
    func item(_ name: String, _ shape: [Int], _ values: [Float]) -> SafetensorsWriter.Item {
      SafetensorsWriter.Item(name: name, dtype: .f32, shape: shape) { sink in
        try values.withUnsafeBytes { try sink($0) }
      }
    }
    var items = try source.tensors.filter { !$0.name.contains(".experts.") }.map {
      item($0.name, $0.shape, try source.read($0.name))
    }
    for layer in 0..<2 {
      let prefix = "\(layers)\(layer).mlp.experts."
      func all(_ roles: [String]) throws -> [Float] {
        try (0..<count).flatMap { number in
          try roles.flatMap { try source.read("\(prefix)\(number).\($0).weight") }
        }
      }
      items.append(item(prefix + "gate_up_proj", [count, rows, 32 * 48 / rows], try all(["gate_proj", "up_proj"])))
      items.append(item(prefix + "down_proj", [count, 32, 24], try all(["down_proj"])))
    }
    try SafetensorsWriter.write(path: folder + "/model.safetensors", items)
    try FileManager.default.copyItem(
      atPath: families + "/\(name)/config.json", toPath: folder + "/config.json")
  }

  /// As the models are published: [experts, gate and up, in] and [experts, out, in].
  @Test(arguments: ["qwen3_5_moe_text", "qwen3_5_moe"])
  func expertsInOneTensorAreTheSameModel(name: String) throws {
    try withFolder { folder in
      try write(folder.path, of: name)
      let model = try load(folder.path)
      #expect(try model.logits(ids).floats() == load("\(families)/\(name)").logits(ids).floats())
      // Their rows are parts of the file.
      #expect(model.modules.filter(\.isExpert).allSatisfy { $0.weight?.storage.file != nil })
    }
    try withFolder { folder in
      try write(folder.path, of: name, rows: 3)
      let error = #expect(throws: FormatError.self) { try load(folder.path) }
      #expect(error?.description.contains("mlp.experts.gate_up_proj") ?? false, "\(String(describing: error))")
    }
  }

  @Test(
    arguments: [
      ("shared_expert_intermediate_size", 0), ("shared_expert_intermediate_size", "20"), ("num_experts", 0),
      ("norm_topk_prob", false), ("decoder_sparse_step", 2), ("mlp_only_layers", [0]), ("num_experts_per_tok", 5),
    ] as [(String, JSON)]) func whatIsNotComputedIsRefusedByName(field: String, value: JSON) throws
  {
    let path = families + "/qwen3_5_moe_text/config.json"
    var json = try #require(try JSON.read(path: path).object)
    json[field] = value
    let error = #expect(throws: FormatError.self) { try DecoderSpec(json: .object(json), path: path) }
    #expect(error?.description.contains(field) ?? false, "\(String(describing: error))")
  }

  /// Inside a multimodal model, whose other parts are passed over with a word.
  @Test func theTextModelOfAMultimodalCheckpointIsRead() throws {
    let path = families + "/qwen3_5_moe"
    let model = try load(path), golden = try WeightSource(path: path + "/golden.safetensors")
    #expect(model.spec.modelType == "qwen3_5_moe_text" && model.spec.isPart)
    let long = (0..<300).map { (i: Int) -> Int32 in Int32((11 * i * i + 5 * i + 3) % 128) }
    let whole = try model.logits(long).floats()
    let got = [0, 16, 39, 40, 63, 64, 65, 127, 200, 299].flatMap { whole[$0 * 128..<($0 + 1) * 128] }
    #expect(relativeError(got, try golden.read("long_logits")) < 1e-4)
    #expect(relativeError(try model.logits(ids).floats(), try golden.read("logits")) < 1e-5)
    #expect(model.notices.contains { $0.contains("tensors of other parts") && $0.hasSuffix("mtp, visual") })
    // Adapters have the names that PEFT gives them in the whole model; what is saved is the text model alone.
    let names = model.modules.filter(\.isLayerMatrix).map(\.name)
    #expect(!names.isEmpty && names.allSatisfy { $0.hasPrefix("model.language_model.layers.") })
    try withFolder { folder in
      try model.save(directory: folder.path + "/saved")
      let again = try load(folder.path + "/saved")
      #expect(!again.spec.isPart && again.notices.isEmpty)
      #expect(relativeError(try again.logits(ids).floats(), try model.logits(ids).floats()) < 0.15)
    }
  }

  /// Its config alone.
  @Test func theTextModelOfAMultimodalConfigIsRead() throws {
    let text = try JSON.read(path: families + "/qwen3_5_moe_text/config.json")
    let whole: JSON = ["model_type": "qwen3_5_moe", "text_config": text, "vision_config": [:]]
    let spec = try DecoderSpec(json: whole, path: "config.json")
    #expect(spec.modelType == "qwen3_5_moe_text" && spec.isPart && spec.experts?.sharedWidth == 20)
  }
}
