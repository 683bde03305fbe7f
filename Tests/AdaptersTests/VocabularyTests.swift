import CPUBackend
import Foundation
import Models
import Tensors
import Testing

@testable import Adapters
@testable import Formats

private let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .appendingPathComponent("Fixtures/models").path
private let ids: [Int32] = (0..<16).map { (i: Int) -> Int32 in Int32(37 * i % 128) }
private let prefix = PEFTFiles.keyPrefix

private func load(_ name: String) throws -> LanguageModel {
  try ModelLoader(
    backend: CPUBackend(threadCount: 1), options: LoadOptions(quantization: nil, computeType: .f32)
  ).load("\(fixtures)/\(name)")
}

/// Adapters of a base to which tokens were added, as PEFT 0.21.2 writes them.
@Suite struct VocabularyTests {
  /// A folder with an adapter of q_proj that changes nothing, and more tensors: shapes with one value each.
  private func folder(
    _ model: LanguageModel, _ more: [(name: String, shape: [Int], value: Float)], _ fields: [String: JSON] = [:]
  ) throws -> String {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    try model.attach(model.modules.filter { $0.role == "q_proj" }.map { ($0.name, LoRA(rank: 2, alpha: 2)) })
    try PEFTFiles.save(model, directory: folder)
    model.removeAdapters()
    try add(more, to: folder)
    let path = folder + "/adapter_config.json"
    var config = try #require(try JSON.read(path: path).object)
    for (key, value) in fields { config[key] = value }
    try JSON.object(config).text().write(toFile: path, atomically: false, encoding: .utf8)
    return folder
  }

  private func add(_ more: [(name: String, shape: [Int], value: Float)], to folder: String) throws {
    let path = folder + "/adapter_model.safetensors"
    let file = try SafetensorsFile(path: path)
    let old = try file.entries.map { entry in
      let bytes = Array(try file.bytes(of: entry.name))
      return SafetensorsWriter.Item(name: entry.name, dtype: .f32, shape: entry.shape) { sink in
        try bytes.withUnsafeBytes { try sink($0) }
      }
    }
    let new = more.map { name, shape, value in
      SafetensorsWriter.Item(name: prefix + name, dtype: .f32, shape: shape) { sink in
        try [Float](repeating: value, count: shape.reduce(1, *)).withUnsafeBytes { try sink($0) }
      }
    }
    try SafetensorsWriter.write(path: path, old + new)
  }

  @Test func rowsOfAnotherVocabularyAreNamed() throws {
    for (name, head) in [("bias", "lm_head"), ("tied", "model.embed_tokens")] {
      let model = try load(name)
      let (rows, width) = (model.outputModule.outFeatures, model.outputModule.inFeatures)
      let cases: [(String, [(name: String, shape: [Int], value: Float)], [String: JSON], Int)] = [
        (head, [("\(head).weight", [rows + 3, width], 0)], [:], rows + 3),
        (
          head, [("\(head).weight", [rows + 3, width], 0)], ["modules_to_save": ["embed_tokens", "lm_head"]], rows + 3
        ),
        ("model.embed_tokens", [("model.embed_tokens.lora_embedding_A", [2, rows - 1], 0)], [:], rows - 1),
        ("model.embed_tokens", [("model.embed_tokens.base_layer.weight", [rows + 1, width], 0)], [:], rows + 1),
        (
          "model.embed_tokens", [("model.embed_tokens.token_adapter.base_layer.weight", [rows + 2, width], 0)],
          ["trainable_token_indices": [.int(rows), .int(rows + 1)]], rows + 2
        ),
        (
          "model.embed_tokens", [("model.embed_tokens.token_adapter.trainable_tokens_delta", [1, width], 0)],
          ["trainable_token_indices": [.int(rows + 4)]], rows + 5
        ),
      ]
      for (module, more, fields, found) in cases {
        let folder = try folder(model, more, fields)
        #expect(
          throws: AdapterError.otherVocabulary(
            path: folder + "/adapter_config.json", module: module, rows: found, base: rows, unties: false)
        ) { try PEFTFiles.load(folder, into: model) }
        #expect(model.adapters.isEmpty)
        try FileManager.default.removeItem(atPath: folder)
      }
    }
    let tied = try load("tied")
    let (rows, width) = (tied.outputModule.outFeatures, tied.outputModule.inFeatures)
    let folder = try folder(tied, [("lm_head.weight", [rows + 3, width], 0)], ["modules_to_save": ["lm_head"]])
    #expect(
      throws: AdapterError.otherVocabulary(
        path: folder + "/adapter_config.json", module: "lm_head", rows: rows + 3, base: rows, unties: true)
    ) { try PEFTFiles.load(folder, into: tied) }
    try FileManager.default.removeItem(atPath: folder)
  }

  /// Tensors of other methods with a row for each token.
  @Test func rowsOfOtherMethodsAreNamedToo() throws {
    for grown in [-3, 3] {
      let model = try load("bias")
      let (rows, width) = (model.outputModule.outFeatures, model.outputModule.inFeatures)
      for (name, shape) in [("ia3_l", [rows + grown, 1]), ("vera_lambda_b", [rows + grown])] {
        let folder = try folder(model, [("lm_head.\(name)", shape, 1)])
        #expect(
          throws: AdapterError.otherVocabulary(
            path: folder + "/adapter_config.json", module: "lm_head", rows: rows + grown, base: rows, unties: false)
        ) { try PEFTFiles.load(folder, into: model) }
        try FileManager.default.removeItem(atPath: folder)
      }
      try model.attach([("lm_head", LoRA(rank: 2, alpha: 2))])
      let folder = NSTemporaryDirectory() + "qlora-\(UUID().uuidString)"
      _ = try MLXFiles.save(model, directory: folder)
      model.removeAdapters()
      #expect(try MLXFiles.load(folder, into: model) == 1)
      model.removeAdapters()
      let weights = folder + "/adapters.safetensors"
      let items = [("lm_head.lora_a", [width, 2]), ("lm_head.lora_b", [2, rows + grown])].map { name, shape in
        SafetensorsWriter.Item(name: name, dtype: .f32, shape: shape) { sink in
          try [Float](repeating: 0, count: shape[0] * shape[1]).withUnsafeBytes { try sink($0) }
        }
      }
      try SafetensorsWriter.write(path: weights, items)
      #expect(
        throws: AdapterError.otherVocabulary(
          path: weights, module: "lm_head", rows: rows + grown, base: rows, unties: false)
      ) { try MLXFiles.load(folder, into: model) }
      try FileManager.default.removeItem(atPath: folder)
    }
  }

  /// Where tokens were added PEFT saves trained tokens of a tied output matrix a second time, beside frozen copies.
  @Test func trainedTokensOfATiedMatrixMayBeThereTwice() throws {
    let model = try load("tied")
    let ends = ["model.embed_tokens", "lm_head"], width = model.outputModule.inFeatures
    let fields: [String: JSON] = ["trainable_token_indices": [3, 49]]
    var logits: [[Float]] = []
    for names in [ends.prefix(1), ends[...]] {
      let more = names.map { ($0 + ".token_adapter.trainable_tokens_delta", [2, width], Float(0.25)) }
      let folder = try folder(model, more, fields)
      try PEFTFiles.load(folder, into: model)
      logits.append(try model.logits(ids).floats())
      model.removeAdapters()
      try FileManager.default.removeItem(atPath: folder)
    }
    #expect(try logits[0] == logits[1] && logits[0] != model.logits(ids).floats())
    let more = zip(ends, [0.25, 0.5]).map { ($0 + ".token_adapter.trainable_tokens_delta", [2, width], Float($1)) }
    let folder = try folder(model, more, fields)
    #expect(
      throws: AdapterError.otherCopy(
        path: folder + "/adapter_model.safetensors", tensor: prefix + more[1].0, of: prefix + more[0].0)
    ) { try PEFTFiles.load(folder, into: model) }
    try FileManager.default.removeItem(atPath: folder)
  }

  @Test func matricesThatPEFTSavesUnaskedTakeThePlacesOfTheBases() throws {
    let model = try load("bias")
    let names = ["model.embed_tokens", "lm_head"]
    let shapes = names.compactMap { model.module($0)?.weight?.shape }
    let base = try model.logits(ids).floats()
    let whole = zip(names, shapes).map { (name: $0 + ".weight", shape: $1, value: Float(0.25)) }
    let again = zip(names, shapes).flatMap { name, shape in
      [
        (name: name + ".modules_to_save.weight", shape: shape, value: Float(0.25)),
        (name: name + ".original_module.weight", shape: shape, value: Float(7)),
      ]
    }
    let asked: [String: JSON] = ["modules_to_save": ["embed_tokens", "lm_head"]]
    var logits: [[Float]] = []
    for (more, fields) in [(whole, asked), (whole, [:]), (whole + again, asked)] {
      let folder = try folder(model, more, fields)
      try PEFTFiles.load(folder, into: model)
      logits.append(try model.logits(ids).floats())
      // What is read is saved and read again.
      let copy = folder + "-copy"
      try PEFTFiles.save(model, directory: copy)
      model.removeAdapters()
      #expect(try model.logits(ids).floats() == base)
      try PEFTFiles.load(copy, into: model)
      #expect(try model.logits(ids).floats() == logits.last)
      model.removeAdapters()
      for path in [folder, copy] { try FileManager.default.removeItem(atPath: path) }
    }
    #expect(logits[0] != base && logits[1] == logits[0] && logits[2] == logits[0])

    let bad = try folder(model, whole + [(names[1] + ".modules_to_save.weight", shapes[1], 0.5)], asked)
    #expect(
      throws: AdapterError.otherCopy(
        path: bad + "/adapter_model.safetensors", tensor: prefix + "lm_head.modules_to_save.weight",
        of: prefix + "lm_head.weight")
    ) { try PEFTFiles.load(bad, into: model) }
    try FileManager.default.removeItem(atPath: bad)
  }

  @Test func aMatrixThatIsTwoCannotBecomeOneOfThem() throws {
    let model = try load("tied")
    let shape = [model.outputModule.outFeatures, model.outputModule.inFeatures]
    for (names, fields, unties) in [
      (["lm_head"], ["modules_to_save": ["lm_head"]] as [String: JSON], true),
      (["model.embed_tokens"], [:], false), (["model.embed_tokens", "lm_head"], [:], true),
    ] {
      let folder = try folder(model, names.map { ($0 + ".weight", shape, 0.25) }, fields)
      #expect(
        throws: AdapterError.tiedOutput(
          path: folder + "/adapter_model.safetensors", tensor: "\(prefix)\(names[0]).weight", unties: unties)
      ) { try PEFTFiles.load(folder, into: model) }
      try FileManager.default.removeItem(atPath: folder)
    }
  }

  @Test func foldersWithAnotherFormOfAdapterSayWhatLiesThere() throws {
    let model = try load("tied")
    let folder = try folder(model, [])
    let parent = folder + "-two"
    try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true)
    try FileManager.default.moveItem(atPath: folder, toPath: parent + "/one")
    #expect(throws: AdapterError.notAnAdapter(path: parent, inside: [parent + "/one"])) {
      try PEFTFiles.load(parent, into: model)
    }
    let weights = parent + "/one/adapter_model"
    try FileManager.default.moveItem(atPath: weights + ".safetensors", toPath: weights + ".bin")
    let error = #expect(throws: FormatError.self) { try PEFTFiles.load(parent + "/one", into: model) }
    #expect("\(String(describing: error))".contains("adapter_model.bin"))
    try FileManager.default.removeItem(atPath: parent)
  }
}
