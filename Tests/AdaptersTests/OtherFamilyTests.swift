import CPUBackend
import Formats
import Foundation
import Tensors
import Testing

@testable import Adapters
@testable import Models

private let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .appendingPathComponent("Fixtures").path
private let name = "model.layers.0.self_attn.q_proj"

private func load(_ path: String, headerOnly: Bool = false) throws -> LanguageModel {
  let options = LoadOptions(quantization: nil, computeType: .f32, headerOnly: headerOnly)
  return try ModelLoader(backend: CPUBackend(threadCount: 1), options: options).load("\(fixtures)/\(path)")
}

private func withFolder(_ body: (String) throws -> Void) throws {
  let folder = NSTemporaryDirectory() + "family-" + UUID().uuidString
  defer { try? FileManager.default.removeItem(atPath: folder) }
  try body(folder)
}

/// An adapter that was made for a model of another family is refused, also where all shapes are the same.
@Suite struct OtherFamilyTests {
  /// A Mistral and a Qwen2 of the same sizes.
  private let made = "models/mistral"
  private let other = "models/qwen2"

  private func adapted(_ path: String) throws -> LanguageModel {
    let model = try load(path)
    try model.attach([(name, LoRA(rank: 2, alpha: 4))])
    return model
  }

  /// Leaves of a saved adapter's files only what `fields` says of the base.
  private func say(_ fields: [String: JSON], in folder: String) throws {
    let weights = folder + "/adapter_model.safetensors", path = folder + "/adapter_config.json"
    let file = try SafetensorsFile(path: weights)
    let items = try file.entries.map {
      SafetensorsWriter.Item(name: $0.name, dtype: .f32, shape: $0.shape, bytes: Array(try file.bytes(of: $0.name)))
    }
    try SafetensorsWriter.write(path: weights, items)
    var config = try #require(try JSON.read(path: path).object)
    config["base_model_name_or_path"] = .null
    for (key, value) in fields { config[key] = value }
    try AtomicFile.write(path, JSON.object(config).text())
  }

  @Test func theWeightsNameTheTypeOfTheBase() throws {
    try withFolder { folder in
      let model = try adapted(made)
      try PEFTFiles.save(model, directory: folder + "/peft")
      _ = try MLXFiles.save(model, directory: folder + "/mlx")
      for (kind, file) in [("peft", "adapter_model.safetensors"), ("mlx", "adapters.safetensors")] {
        let weights = "\(folder)/\(kind)/\(file)"
        #expect(
          try SafetensorsFile(path: weights).metadata == ["format": "pt", "base_model_type": "mistral"])
        let stranger = try load(other)
        for isTrainable in [false, true] {
          #expect(
            throws: AdapterError.otherFamily(
              path: weights, field: "__metadata__.base_model_type", type: "mistral", model: "qwen2")
          ) { try AdapterFiles.load("\(folder)/\(kind)", into: stranger, trainable: isTrainable, set: "second") }
          #expect(stranger.adapterSets.isEmpty)
        }
        #expect(try AdapterFiles.load("\(folder)/\(kind)", into: try load(made)) == 1)
      }
    }
  }

  @Test func withoutThatTheClassOrTheFolderOfTheBaseDo() throws {
    try withFolder { folder in
      try PEFTFiles.save(try adapted(made), directory: folder)
      let (base, model) = ("\(fixtures)/\(made)", try load(other))
      func mapping(_ name: String, _ library: String) -> JSON {
        ["base_model_class": .string(name), "parent_library": .string(library)]
      }
      let cases: [(fields: [String: JSON], field: String?)] = [
        (["base_model_name_or_path": .string(base)], "base_model_name_or_path"),
        (["auto_mapping": mapping("MistralForCausalLM", "elsewhere")], "auto_mapping.base_model_class"),
        (
          ["auto_mapping": mapping("MistralModel", "transformers.models.mistral.modeling_mistral")],
          "auto_mapping.base_model_class"
        ),
        // What PEFT saw goes before what lies at a path now.
        (
          [
            "auto_mapping": mapping("Qwen2ForCausalLM", "transformers.models.qwen2.modeling_qwen2"),
            "base_model_name_or_path": .string(base),
          ], nil
        ),
        // Nobody knows.
        ([:], nil), (["base_model_name_or_path": .string(folder + "/not-there")], nil),
        (["base_model_name_or_path": "a/hub-name"], nil),
        (["auto_mapping": mapping("SomebodysModel", "transformers_modules.somebody")], nil),
        (["auto_mapping": "no object", "base_model_name_or_path": 3], nil),
      ]
      for (fields, field) in cases {
        try say(fields.merging(["auto_mapping": .null]) { own, _ in own }, in: folder)
        let path = folder + "/adapter_config.json"
        if let field {
          #expect(
            throws: AdapterError.otherFamily(path: path, field: field, type: "mistral", model: "qwen2"), "\(fields)"
          ) { try PEFTFiles.load(folder, into: model) }
        } else {
          #expect(try PEFTFiles.load(folder, into: model) == 1, "\(fields)")
          model.removeAdapters()
        }
      }
    }
  }

  /// What PEFT itself wrote for a family.
  @Test(arguments: ["llama", "mistral", "gemma2", "qwen3", "phi3"]) func classesAreThoseOfPEFT(family: String) throws {
    let folder = "\(fixtures)/families/\(family)/adapter"
    #expect(
      throws: AdapterError.otherFamily(
        path: folder + "/adapter_config.json", field: "auto_mapping.base_model_class", type: family, model: "qwen2")
    ) { try PEFTFiles.load(folder, into: try load(other)) }
    #expect(try PEFTFiles.load(folder, into: try load("families/\(family)", headerOnly: true)) > 0)
  }

  @Test func aGGUFFileMayHoldSeveralFamilies() throws {
    let file = try load("families/llama/model.gguf", headerOnly: true)
    #expect(
      AdapterBase.metadata(file).map { "\($0.0)=\($0.1)" } == [
        "format=pt", "base_model_type=llama", "base_model_format=gguf",
      ])
    let own = try #require(FamilyHint(file))
    let path = try #require(FamilyHint(path: "\(fixtures)/families/llama/model.gguf"))
    for (type, may) in [("llama", true), ("mistral", true), ("mixtral", false), ("qwen2", false)] {
      let hint = try #require(FamilyHint(modelType: type))
      #expect(own.agrees(with: hint) == may && hint.agrees(with: own) == may, "\(type)")
      #expect(path.agrees(with: hint) == may, "\(type)")
    }
    // Its metadata says so to the model in 16 bits.
    try withFolder { folder in
      try PEFTFiles.save(try adapted(made), directory: folder)
      for (format, passes) in [("gguf", true), ("pt", false)] {
        let metadata = ["base_model_type": "llama", "base_model_format": format]
        let check = {
          try AdapterBase.check(try load(made), weights: ("w", metadata), [:], path: "c", field: "base")
        }
        if passes {
          try check()
        } else {
          #expect(throws: AdapterError.self) { try check() }
        }
      }
    }
  }

  @Test func oneNetworkMayHaveTwoNames() throws {
    let cases: [(String, String, Bool)] = [
      ("gemma3", "gemma3_text", true), ("qwen3_5", "qwen3_5_text", true), ("qwen3_5_moe", "qwen3_5_moe_text", true),
      ("ministral", "mistral", true), ("gemma3", "gemma2", false), ("qwen3_5", "qwen3_5_moe", false),
      ("llama", "mistral", false), ("olmo", "olmo2", false), ("olmo", "olmo", true),
    ]
    for (one, two, same) in cases {
      let (a, b) = (try #require(FamilyHint(modelType: one)), try #require(FamilyHint(modelType: two)))
      #expect(a.agrees(with: b) == same && b.agrees(with: a) == same, "\(one), \(two)")
    }
    #expect(FamilyHint(modelType: "somebodys") == nil)
    let part = try load("families/gemma3", headerOnly: true)
    #expect(AdapterBase.metadata(part).map(\.1) == ["pt", "gemma3"])
    let olmo = try #require(FamilyHint(modelType: "olmo2", isGGUF: true))
    #expect(olmo.agrees(with: try #require(FamilyHint(modelType: "olmo3"))))
  }
}
