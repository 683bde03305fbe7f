import CPUBackend
import Formats
import Foundation
import Tensors
import Testing

@testable import Models

/// Every tensor of a file has a fate, and two truths about one thing are compared.
@Suite struct CheckpointTests {
  private func load(_ folder: URL) throws -> LanguageModel {
    try ModelLoader(backend: CPUBackend(threadCount: 1), options: LoadOptions(computeType: .f32)).load(folder.path)
  }

  private typealias Values = [(name: String, shape: [Int], values: [Float])]

  /// A folder with the model `name` of the fixtures, changed.
  private func changed<R>(
    _ name: String, config: [(String, JSON)] = [], tensors: (inout Values) -> Void = { _ in },
    _ body: (URL) throws -> R
  ) throws -> R {
    try withFolder { folder in
      let from = modelFixtures + "/" + name
      var json = try JSON.read(path: from + "/config.json").object ?? JSONObject()
      for (key, value) in config { json[key] = value }
      try JSON.object(json).text().write(toFile: folder.path + "/config.json", atomically: true, encoding: .utf8)
      let source = try WeightSource(path: from + "/model.safetensors")
      var values: Values = try source.tensors.map { ($0.name, $0.shape, try source.read($0.name)) }
      tensors(&values)
      try write(values, folder.path + "/model.safetensors")
      return try body(folder)
    }
  }

  private func write(_ values: Values, _ path: String) throws {
    try SafetensorsWriter.write(
      path: path,
      values.map { entry in
        SafetensorsWriter.Item(name: entry.name, dtype: .f32, shape: entry.shape) { sink in
          try entry.values.withUnsafeBytes { try sink($0) }
        }
      })
  }

  @Test(arguments: [
    "model.layers.7.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.bias", "score.weight", "lm_head.bias",
    "model.layers.0.self_attn.q_norm.weight", "model.layers.0.mlp.up_proj.weight_scale",
  ]) func aTensorThatNothingReadsIsNamed(name: String) throws {
    let error = #expect(throws: ModelError.self) {
      try changed("base", tensors: { $0.append((name, [4], [1, 2, 3, 4])) }, load)
    }
    guard case .unknownTensor(name, _)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  /// Masks that Pythia's files hold.
  @Test func leftoversOfAFamilyArePassedOver() throws {
    let names = ["gpt_neox.layers.0.attention.bias", "gpt_neox.layers.1.attention.masked_bias"]
    let model = try changed(
      "../families/gpt_neox", tensors: { values in for name in names { values.append((name, [2], [1, 1])) } }, load)
    #expect(model.isLoaded)
    #expect(throws: ModelError.self) {
      try changed("base", tensors: { $0.append(("model.layers.0.attention.bias", [2], [1, 1])) }, load)
    }
  }

  /// The text model of a multimodal checkpoint under the names of transformers 4 and 5; parts that are not the images'
  /// or the text model's have no fate.
  @Test func theTextModelIsFoundUnderBothNames() throws {
    let ids: [Int32] = [3, 1, 4, 1, 5, 9]
    let wanted = try changed("../families/gemma3", load).logits(ids).floats()
    let renamed = try changed(
      "../families/gemma3",
      tensors: { values in
        for index in values.indices {
          let name = values[index].name
          values[index].name =
            name.hasPrefix("language_model.model.")
            ? "model.language_model." + name.dropFirst("language_model.model.".count) : "model." + name
        }
      }, load)
    #expect(try renamed.logits(ids).floats() == wanted)
    #expect(renamed.notices.contains { $0.contains("gemma3") && $0.contains("text model") })
    #expect(throws: ModelError.self) {
      try changed("../families/gemma3", tensors: { $0.append(("audio_tower.weight", [2], [1, 1])) }, load)
    }
  }

  /// As transformers saves them from the class without a head.
  @Test(
    arguments: [
      ("tied", "model.", [:]), ("../families/gemma3", "language_model.model.", [:]),
      ("../families/gpt_neox", "gpt_neox.", ["tie_word_embeddings": true]),
      ("../families/gpt_oss", "model.", ["tie_word_embeddings": true]),
    ] as [(String, String, [String: JSON])])
  func namesWithoutTheirFirstPartAreTheSameModel(name: String, prefix: String, config: [String: JSON]) throws {
    let ids: [Int32] = [3, 1, 4, 1, 5, 9], config = config.map { ($0.key, $0.value) }
    func headless(_ values: inout Values) {
      values.removeAll { ["lm_head.weight", "embed_out.weight"].contains($0.name) }
    }
    let wanted = try changed(name, config: config, tensors: headless, load).logits(ids).floats()
    func bare(_ values: inout Values) {
      headless(&values)
      for index in values.indices where values[index].name.hasPrefix(prefix) {
        let kept = prefix.hasPrefix("language_model.") ? "language_model." : ""
        values[index].name = kept + values[index].name.dropFirst(prefix.count)
      }
    }
    let model = try changed(name, config: config, tensors: bare, load)
    #expect(try model.logits(ids).floats() == wanted)
    #expect(throws: ModelError.missingHead(name: model.spec.outerNames.output + ".weight", path: "")) {
      do {
        _ = try changed(name, config: [("tie_word_embeddings", false)], tensors: bare, load)
      } catch ModelError.missingHead(let name, _) { throw ModelError.missingHead(name: name, path: "") }
    }
  }

  @Test func leftoversOfOldCheckpointsArePassedOver() throws {
    let model = try changed(
      "base", tensors: { $0.append(("model.layers.0.self_attn.rotary_emb.inv_freq", [2], [1, 1])) }, load)
    #expect(model.notices.isEmpty)
  }

  @Test func aTiedModelWithAHeadOfItsOwn() throws {
    let ids: [Int32] = [1, 5, 9]
    let plain = try changed("tied", load)
    #expect(plain.spec.tiesEmbeddings && plain.notices.isEmpty)
    func withHead(_ scale: Float) throws -> LanguageModel {
      try changed(
        "tied",
        tensors: { values in
          guard let embedding = values.first(where: { $0.name == "model.embed_tokens.weight" }) else { return }
          values.append(("lm_head.weight", embedding.shape, embedding.values.map { $0 * scale }))
        }, load)
    }
    let same = try withHead(1)
    #expect(same.spec.tiesEmbeddings && same.notices.isEmpty)
    let other = try withHead(2)
    #expect(!other.spec.tiesEmbeddings && other.notices.count == 1)
    let (a, b) = (try plain.logits(ids).floats(), try other.logits(ids).floats())
    #expect(zip(a, b).allSatisfy { abs(2 * $0 - $1) <= 1e-4 * (1 + abs($1)) })
    #expect(try same.logits(ids).floats() == a)
  }

  @Test func endTokensOfTheGenerationConfigCountToo() throws {
    let text = #"{"eos_token_id": [2, 7], "temperature": 0.6, "top_k": 50, "transformers_version": "5"}"#
    try changed("base") { folder in
      let path = folder.path + "/generation_config.json"
      try text.write(toFile: path, atomically: true, encoding: .utf8)
      let model = try load(folder)
      #expect(model.spec.eosTokenIDs == [2, 7])
      #expect(model.notices.count == 1 && model.notices[0].contains("temperature = 0.6:"))
      #expect(model.spec.toJSON()["eos_token_id"] == [2, 7])
      for bad in [#"{"eos_token_id": "</s>"}"#, "[]", #"{"eos_token_id": 99999999}"#, "{"] {
        try bad.write(toFile: path, atomically: true, encoding: .utf8)
        #expect(throws: FormatError.self) { try load(folder) }
      }
    }
  }

  @Test func aStaleQuantizationConfigIsSaidAndDropped() throws {
    let stale: JSON = ["quant_method": "bitsandbytes", "load_in_4bit": true]
    let model = try changed("base", config: [("quantization_config", stale)], load)
    #expect(model.notices.count == 1 && model.spec.quantizationConfig == nil)
  }

  /// Of Qwen2.5 for a million tokens.
  @Test func attentionInChunksIsSaidNotToBeComputed() throws {
    let chunks: JSON = ["chunk_size": 262144, "local_size": 8192, "original_max_position_embeddings": 262144]
    let model = try changed("base", config: [("dual_chunk_attention_config", chunks)], load)
    #expect(model.notices.count == 1 && model.notices[0].contains("dual_chunk_attention_config"), "\(model.notices)")
  }

  @Test func shardsAreThoseOfTheIndex() throws {
    try changed("base") { folder in
      let source = try WeightSource(path: folder.path + "/model.safetensors")
      let values: Values = try source.tensors.map { ($0.name, $0.shape, try source.read($0.name)) }
      let (a, b) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
      try FileManager.default.removeItem(atPath: folder.path + "/model.safetensors")
      try write(Array(values.prefix(4)), folder.path + "/" + a)
      try write(Array(values.dropFirst(4)), folder.path + "/" + b)
      func index(_ swapped: Bool) throws {
        let map = values.enumerated().map { ($1.name, JSON.string(($0 < 4) != swapped ? a : b)) }
        try JSON.object(JSONObject([("weight_map", .object(JSONObject(map)))])).text().write(
          toFile: folder.path + "/model.safetensors.index.json", atomically: true, encoding: .utf8)
      }
      try index(false)
      #expect(try load(folder).notices.isEmpty)
      try write([("x", [1], [0])], folder.path + "/model-00003-of-00003.safetensors")
      #expect(try load(folder).notices.map { $0.contains("model-00003-of-00003") } == [true])
      try index(true)
      #expect(throws: FormatError.self) { try load(folder) }
      try index(false)
      try write(Array(values.dropFirst(3)), folder.path + "/" + b)
      #expect(throws: FormatError.self) { try load(folder) }
      // Twice, of which the index names one.
      try write(Array(values.dropFirst(4)), folder.path + "/" + b)
      try write(Array(values.prefix(5)), folder.path + "/" + a)
      #expect(throws: FormatError.duplicate(path: folder.path + "/" + b, name: values[4].name)) { try load(folder) }
    }
  }
}
