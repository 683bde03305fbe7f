import CPUBackend
import Formats
import Foundation
import Models
import Tensors
import Testing

@testable import Adapters

private let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .appendingPathComponent("Fixtures").path
private let ids: [Int32] = (0..<24).map { (i: Int) -> Int32 in Int32((7 * i * i + 3 * i + 5) % 128) }
private let prefix = "base_model.model."

private func load(_ name: String) throws -> LanguageModel {
  try ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .f32))
    .load("\(fixtures)/families/\(name)")
}

private func withFolder(_ body: (String) throws -> Void) throws {
  let folder = NSTemporaryDirectory() + "names-" + UUID().uuidString
  try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(atPath: folder) }
  try body(folder)
}

private func relativeError(_ got: [Float], _ wanted: [Float]) -> Float {
  guard got.count == wanted.count else { return .infinity }
  return (zip(got, wanted).map { ($0 - $1).magnitude }.max() ?? .infinity) / (wanted.map(\.magnitude).max() ?? 1)
}

private func file(_ folder: String) throws -> SafetensorsFile {
  try SafetensorsFile(path: folder + "/adapter_model.safetensors")
}

private func configuration(_ folder: String) throws -> JSON { try JSON.read(path: folder + "/adapter_config.json") }

/// A folder with these fields and with tensors of ones.
private func write(_ fields: JSON, _ tensors: [(String, [Int])], _ folder: String) throws {
  try AtomicFile.write(folder + "/adapter_config.json", fields.text(.python))
  try SafetensorsWriter.write(
    path: folder + "/adapter_model.safetensors",
    tensors.map { name, shape in
      .init(name: name, dtype: .f32, shape: shape) { sink in
        try [Float](repeating: 1, count: shape.reduce(1, *)).withUnsafeBytes { try sink($0) }
      }
    })
}

/// Modules that transformers 5 calls otherwise than checkpoints do; the adapters of PEFT are those of make_renamed.py.
@Suite struct PEFTNamesTests {
  @Test(
    arguments: [
      ("head", "gpt_neox"), ("head_whole", "gpt_neox"), ("router_whole", "mixtral"), ("biases", "gpt_oss"),
    ] as [(String, String)]) func anAdapterOfPEFTIsReadAndWrittenSo(name: String, family: String) throws
  {
    let model = try load(family), folder = "\(fixtures)/adapters/renamed/\(name)"
    let plain = try model.logits(ids).floats()
    try PEFTFiles.load(folder, into: model)
    let wanted = try WeightSource(path: folder + "/logits.safetensors").read("logits")
    #expect(relativeError(try model.logits(ids).floats(), wanted) < 1e-5)
    #expect(relativeError(plain, wanted) > 1e-2)
    try withFolder { target in
      let path = target + "/a"
      try PEFTFiles.save(model, directory: path)
      let (theirs, ours) = (try file(folder), try file(path))
      // The frozen output matrix is not written beside its adapter.
      let names = Set(theirs.entries.map(\.name)).filter { !$0.hasSuffix("lm_head.base_layer.weight") }
      #expect(Set(ours.entries.map(\.name)) == names)
      for name in names { #expect(try theirs.bytes(of: name).elementsEqual(try ours.bytes(of: name)), "\(name)") }
      let (mine, original) = (try configuration(path), try configuration(folder))
      func list(_ json: JSON, _ field: String) -> Set<String> { Set(json[field]?.array?.compactMap(\.string) ?? []) }
      #expect(list(mine, "target_modules") == list(original, "target_modules") && mine["bias"] == original["bias"])
    }
  }

  /// The names of transformers 4.
  @Test func otherNamesAreReadToo() throws {
    let folder = "\(fixtures)/adapters/renamed/head"
    try withFolder { target in
      var json = try #require(try JSON.read(path: folder + "/adapter_config.json").object)
      json["target_modules"] = ["embed_out", "dense"]
      json["rank_pattern"] = ["embed_out": 3]
      try AtomicFile.write(target + "/adapter_config.json", JSON.object(json).text(.python))
      let file = try SafetensorsFile(path: folder + "/adapter_model.safetensors")
      try SafetensorsWriter.write(
        path: target + "/adapter_model.safetensors",
        try file.entries.map { entry in
          .init(
            name: entry.name.replacing("lm_head", with: "embed_out"), dtype: .f32, shape: entry.shape,
            bytes: Array(try file.bytes(of: entry.name)))
        })
      let (one, other) = (try load("gpt_neox"), try load("gpt_neox"))
      try PEFTFiles.load(folder, into: one)
      try PEFTFiles.load(target, into: other)
      #expect(try one.logits(ids).floats() == other.logits(ids).floats())
    }
  }

  /// PEFT's words mean modules, and experts are none there.
  @Test func biasesOfExpertsAreNotMeant() throws {
    let model = try load("gpt_oss")
    try model.attachLoRA(rank: 2, alpha: 4)
    try model.trainParts(modules: [], bias: .adapted)
    #expect(model.modules.allSatisfy { !$0.isExpert || $0.trained == nil })
    #expect(model.modules.contains { $0.isRouter && $0.trained?.trainsBias == true })
  }

  @Test func anExpertIsNotTrainedAsAWhole() throws {
    let model = try load("qwen3_moe")
    let error = #expect(throws: AdapterError.self) { try model.trainParts(modules: ["experts.1.down_proj"]) }
    guard case .badStart(let module, let name, _)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(module.hasSuffix("experts.1.down_proj") && name == "modules_to_save")
    #expect(model.modules.allSatisfy { $0.trained == nil })
  }
}

/// Files whose tensors are not those of a module here: the error says why.
@Suite struct PEFTStrangerTests {
  private func low(_ name: String, _ value: JSON) -> JSON {
    var fields = JSONObject([
      ("peft_type", "LORA"), ("r", 2), ("lora_alpha", 4), ("target_modules", []),
    ])
    fields[name] = value
    return .object(fields)
  }

  private func error(_ family: String, _ fields: JSON, _ tensors: [(String, [Int])]) throws -> String {
    var text = ""
    try withFolder { folder in
      try write(fields, tensors.map { (prefix + $0.0, $0.1) }, folder)
      let error = #expect(throws: (any Error).self) { try PEFTFiles.load(folder, into: try load(family)) }
      text = String(describing: error)
    }
    return text
  }

  @Test func anAdapterOfTheOutputMatrixAloneOfATiedBase() throws {
    let head = try error(
      "gemma3_text", low("target_modules", ["lm_head"]),
      [("lm_head.lora_A.weight", [2, 32]), ("lm_head.lora_B.weight", [128, 2])])
    #expect(head.contains("lm_head.lora_A.weight changes the output matrix alone"))
    let tokens = try error(
      "gemma3_text", low("trainable_token_indices", ["lm_head": [3]]),
      [("lm_head.token_adapter.trainable_tokens_delta", [1, 32])])
    #expect(tokens.contains("trainable_tokens_delta changes the output matrix alone"))
  }

  @Test func tokensOfAnOutputMatrix() throws {
    let beside = try error(
      "llama", low("trainable_token_indices", ["lm_head": [3]]),
      [("lm_head.token_adapter.trainable_tokens_delta", [1, 32])])
    #expect(beside.contains("trainable_token_indices = tokens of lm_head instead of the embedding"))
    let alone: JSON = ["peft_type": "TRAINABLE_TOKENS", "target_modules": ["lm_head"], "token_indices": [3]]
    let text = try error("llama", alone, [("lm_head.trainable_tokens_delta", [1, 32])])
    #expect(text.contains("token_indices = tokens of lm_head instead of the embedding"))
  }

  @Test func layersThatAreThereTwice() throws {
    let fields = low("layer_replication", [[0, 2], [1, 2]])
    let text = try error("llama", fields, [("model.layers.2.self_attn.q_proj.lora_A.weight", [2, 32])])
    #expect(text.contains("layer_replication"))
  }

  @Test func feedForwardModulesOfIA3ThatAreNotNamed() throws {
    let fields: JSON = ["peft_type": "IA3", "target_modules": ["down_proj"], "feedforward_modules": nil]
    let text = try error("llama", fields, [("model.layers.0.mlp.down_proj.ia3_l", [1, 48])])
    #expect(text.contains("feedforward_modules"))
  }

  /// The text model computes texts as with the whole.
  @Test func partsThatAreNotReadAreSaid() throws {
    let folder = "\(fixtures)/families/gemma3/adapter"
    let model = try load("gemma3")
    #expect(try AdapterFiles.notices(folder, of: model).isEmpty)
    try PEFTFiles.load(folder, into: model)
    let logits = try model.logits(ids).floats()
    try withFolder { target in
      try FileManager.default.copyItem(
        atPath: folder + "/adapter_config.json", toPath: target + "/adapter_config.json")
      let file = try SafetensorsFile(path: folder + "/adapter_model.safetensors")
      let vision = prefix + "model.vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.lora_A.weight"
      let own = try file.entries.map { entry in
        SafetensorsWriter.Item(
          name: entry.name, dtype: .f32, shape: entry.shape, bytes: Array(try file.bytes(of: entry.name)))
      }
      try SafetensorsWriter.write(
        path: target + "/adapter_model.safetensors",
        own + [.init(name: vision, dtype: .f32, shape: [2, 1], bytes: [UInt8](repeating: 0, count: 8))])
      let other = try load("gemma3")
      try PEFTFiles.load(target, into: other)
      #expect(try other.logits(ids).floats() == logits)
      let notices = try AdapterFiles.notices(target, of: other)
      #expect(notices.count == 1 && notices[0].contains(vision))
    }
  }

  /// mlx-lm reads no adapter of a single expert, and neither form has what is no plain LoRA.
  @Test func whatOtherFormsCannotHoldIsNamed() throws {
    func refusal(_ family: String, _ method: any AdapterMethod, _ role: String) throws -> AdapterError? {
      let model = try load(family)
      let module = try #require(model.modules.first { $0.role == role })
      try model.attach([(module.name, method)])
      var error: AdapterError?
      try withFolder { folder in
        error = #expect(throws: AdapterError.self) { try MLXFiles.save(model, directory: folder + "/mlx") }
        #expect(!FileManager.default.fileExists(atPath: folder + "/mlx"))
      }
      return error
    }
    let low = LoRA(rank: 2, alpha: 4)
    #expect(
      try refusal("mixtral", low, "w2")
        == .notLowRank(
          module: "model.layers.0.block_sparse_moe.experts.0.w2", what: "LoRA on an expert, of which mlx-lm reads none")
    )
    #expect(
      try refusal("llama", EmbeddingLoRA(low), "embed_tokens")
        == .notLowRank(module: "model.embed_tokens", what: "LoRA on the embedding"))
    #expect(
      try refusal("llama", TrainedTokens([3]), "embed_tokens")
        == .notLowRank(module: "model.embed_tokens", what: "trained tokens"))
  }
}
