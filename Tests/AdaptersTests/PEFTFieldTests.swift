import CPUBackend
import Formats
import Foundation
import Models
import Tensors
import Testing

@testable import Adapters

private let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .appendingPathComponent("Fixtures").path

/// adapter_config.json means what it means to PEFT 0.21, or is an error that names the field.
@Suite struct PEFTFieldTests {
  private let config =
    [
      ("peft_type", "LORA"), ("r", 4), ("lora_alpha", 8), ("target_modules", ["q_proj"]),
    ] as [(String, JSON)]

  private func header(layers: Int) throws -> LanguageModel {
    let spec = try DecoderSpec(
      json: [
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": .int(layers),
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64,
      ], path: "config")
    return try LanguageModel(
      spec, origin: .random(name: "small"), options: LoadOptions(headerOnly: true), backend: CPUBackend(threadCount: 1))
  }

  @Test func modulesRanksAndScalesAreThoseOfPEFT() throws {
    let file = try JSON.read(path: fixtures + "/fields/adapter_cases.json")
    let cases = try #require(file["cases"]?.array)
    let model = try header(layers: try #require(file["layers"]?.int))
    try #require(cases.count > 30)
    for item in cases {
      let config = try #require(item["config"])
      var found: [String: (Int, Double)] = [:]
      do {
        let targets = try PEFTTargets(config, path: "c"), reader = try LoRA.reader(config, path: "c")
        for module in model.modules where try targets.contains(module) {
          let method = try #require(try reader(module, [:]) as? LoRA)
          found[module.name] = (method.rank, method.scaling)
        }
      } catch {
        #expect(item["error"] != nil, "\(config.text()): \(error)")
        continue
      }
      // PEFT refuses to adapt nothing, and modules that are not linear; so does the engine, once it sees the tensors.
      if item["error"] != nil {
        #expect(
          found.isEmpty || found.keys.contains { model.module($0)?.kind != .linear }
            || config["target_modules"]?.string != nil, "\(config.text())")
        continue
      }
      let wanted = try #require(item["modules"]?.object)
      #expect(Set(found.keys) == Set(wanted.keys), "\(config.text())")
      for (name, value) in wanted {
        #expect(found[name]?.0 == value[0]?.int, "\(config.text()): \(name)")
        #expect(abs((found[name]?.1 ?? 0) - (value[1]?.double ?? -1)) < 1e-12, "\(config.text()): \(name)")
      }
    }
  }

  @Test(
    arguments: [
      ("init_lora_weights", "pissa"), ("init_lora_weights", "pissa_niter_16"), ("init_lora_weights", "olora"),
      ("init_lora_weights", "OLoRA"), ("init_lora_weights", "corda"), ("init_lora_weights", "loftq"),
      ("init_lora_weights", "lora_ga"), ("init_lora_weights", "mica"), ("init_lora_weights", 7),
      ("use_dora", 1), ("use_qalora", true), ("lora_bias", true), ("bias", "some"), ("bias", 1),
      ("fan_in_fan_out", true),
      ("trainable_token_indices", ["a"]), ("trainable_token_indices", ["embed_tokens": 1]),
      ("layer_replication", [[0, 1]]), ("alora_invocation_tokens", [1]), ("megatron_config", ["a": 1]),
      ("velora_config", ["a": 1]), ("monteclora_config", ["a": 1]), ("arrow_config", ["a": 1]),
      ("kasa_config", ["a": 1]), ("use_bdlora", ["a": 1]), ("ensure_weight_tying", 1), ("task_type", "SEQ_CLS"),
      ("new_method", 1), ("use_rslora", "yes"), ("r", 0), ("r", 2.5), ("r", 1e300), ("r", .int(.max)),
      ("lora_alpha", "8"), ("lora_alpha", 1e300), ("lora_dropout", 1), ("lora_dropout", "a"),
      ("rank_pattern", ["q_proj": 0]), ("rank_pattern", ["(": 2]), ("rank_pattern", [1]),
      ("alpha_pattern", ["q_proj": "a"]),
    ] as [(String, JSON)]) func whatIsNotComputedIsRefusedByName(field: String, value: JSON) throws
  {
    var json = JSONObject(config)
    #expect(throws: Never.self) { try LoRA.reader(.object(json), path: "c") }
    json[field] = value
    let error = #expect(throws: (any Error).self) { try LoRA.reader(.object(json), path: "c") }
    #expect(error.map { "\($0)".contains(field) } ?? false, "\(String(describing: error))")
  }

  @Test(
    arguments: [
      ("init_lora_weights", "gaussian"), ("init_lora_weights", false), ("init_lora_weights", "eva"),
      ("loftq_config", ["loftq_bits": 4]), ("runtime_config", ["a": 1]), ("base_model_name_or_path", "x"),
      ("something_off", false), ("bias", "none"), ("trainable_token_indices", [:]),
    ] as [(String, JSON)]) func whatChangesNothingIsRead(field: String, value: JSON)
  {
    var json = JSONObject(config)
    json[field] = value
    #expect(throws: Never.self) { try LoRA.reader(.object(json), path: "c") }
  }

  /// The tensors are those of `target_modules`: no more and no fewer.
  @Test(
    arguments: [
      (["q_proj"], "model.layers.0"), (["q_proj", "v_proj", "k_proj", "up_proj", "lm_head"], "lm_head"),
    ] as [(JSON, String)]) func tensorsAndTargetsAreCompared(targets: JSON, named: String) throws
  {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try FileManager.default.copyItem(atPath: fixtures + "/models/ad1", toPath: folder)
    var json = try #require(try JSON.read(path: folder + "/adapter_config.json").object)
    json["target_modules"] = targets
    try JSON.object(json).text().write(toFile: folder + "/adapter_config.json", atomically: true, encoding: .utf8)
    let model = try ModelLoader(backend: CPUBackend(threadCount: 1), options: LoadOptions(computeType: .f32)).load(
      fixtures + "/models/base")
    let error = #expect(throws: AdapterError.self) { try PEFTFiles.load(folder, into: model) }
    #expect("\(try #require(error))".contains(named) && model.adapters.isEmpty)
  }
}
