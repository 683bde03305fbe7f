import Formats
import Foundation
import Testing

@testable import Models

/// Files that differ in one thing, against what transformers 5.23 makes of them (Tests/Fixtures/fields).
@Suite struct ConfigCaseTests {
  private static let cases: [JSON] = {
    let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("Fixtures/fields/config_cases.json").path
    return (try? JSON.read(path: path))?["cases"]?.array ?? []
  }()

  private func difference(_ config: JSON) -> String {
    let base = Self.cases.first?["config"]?.object?.keys ?? []
    return (config.object ?? JSONObject()).filter { !base.contains($0.0) || $0.1.isNull }
      .map { "\($0.0) = \($0.1.text())" }.joined(separator: ", ")
  }

  @Test func configsAreReadAsTransformersReadsThem() throws {
    try #require(Self.cases.count > 90)
    var refused = 0
    for item in Self.cases {
      let config = try #require(item["config"])
      let spec: DecoderSpec
      do { spec = try DecoderSpec(json: config, path: "config.json") } catch {
        refused += 1
        // Where the engine is stricter: a theta that transformers forgets, and a factor that it does not use.
        let parameters = config["rope_parameters"]
        let forgets =
          config["rope_scaling"]?["rope_theta"] == nil && config["rope_theta"] == nil
          && parameters?["rope_theta"]?.double == 700 && config["rope_scaling"]?["factor"] != nil
        let unused = parameters?["rope_type"]?.string == "default" && parameters?["factor"] != nil
        #expect(item["error"] != nil || forgets || unused, "\(difference(config)): \(error)")
        continue
      }
      #expect(item["error"] == nil, "\(difference(config)) is read, transformers refuses it")
      let wanted = try #require(item["frequencies"]?.array, "\(difference(config))").compactMap(\.double)
      let got = spec.rope.frequencies(headDimension: spec.headDimension, length: 24)
      #expect(got.count == wanted.count, "\(difference(config))")
      for (mine, its) in zip(got, wanted) { #expect(abs(Double(mine) / its - 1) < 1e-5, "\(difference(config))") }
      // The peer's text has 24 tokens; wider windows do not show.
      let windows = spec.layers.map { $0.window.flatMap { $0 < 24 ? $0 : nil } }
      #expect(windows == item["windows"]?.array?.map(\.int), "\(difference(config))")
      #expect(spec.eosTokenIDs == item["end"]?.array?.compactMap(\.int), "\(difference(config))")
      #expect(try DecoderSpec(json: spec.toJSON(), path: "again") == spec, "\(difference(config))")
    }
    #expect(refused > 25)
  }

  @Test(
    arguments: [
      ("rope_scaling", ["rope_type": "su", "factor": 2]), ("rope_parameters", ["type": "dynamic"]),
      ("rope_scaling", ["rope_type": "yarn", "factor": 2, "truncate": 1]),
      ("rope_scaling", ["rope_type": "yarn", "factor": 2, "attention_factor": -1]),
      ("rope_scaling", ["rope_type": "yarn", "factor": 2, "beta_fast": 1, "beta_slow": 2]),
      ("rope_scaling", ["rope_type": "longrope", "short_factor": [1, 1], "long_factor": [1, 1]]),
      ("rope_scaling", ["rope_type": "longrope", "factor": 2]),
      ("rope_scaling", ["rope_type": "dynamic", "factor": 2, "original_max_position_embeddings": 7]),
      ("rope_parameters", ["full_attention": ["rope_type": "linear", "factor": 4]]),
      ("rope_scaling", ["type": "linear", "factor": 1e300]), ("rope_scaling", ["rope_type": 3]),
      ("rope_scaling", ["type": "default", "factor": 4]), ("rope_scaling", ["type": "linear", "factor": 4, "new": 1]),
      ("rope_theta", 1e300), ("rope_theta", "10000"), ("rope_parameters", ["rope_theta": -1]), ("rope_parameters", []),
      ("hidden_act", 5), ("hidden_activation", "gelu"), ("partial_rotary_factor", 0.25),
      ("eos_token_id", ["</s>"]), ("eos_token_id", 1e300), ("eos_token_id", [2, .null]), ("bos_token_id", 0.5),
      ("hidden_size", 1e300), ("hidden_size", 64.5), ("hidden_size", -64), ("num_attention_heads", -4),
      ("num_hidden_layers", 0), ("vocab_size", .int(.max)), ("intermediate_size", .int(.min)), ("head_dim", 1e18),
      ("max_position_embeddings", -1), ("max_position_embeddings", 1e12), ("rms_norm_eps", 1e300), ("rms_norm_eps", -1),
      ("sliding_window", 16), ("use_sliding_window", true), ("layer_types", ["sliding_attention", "full_attention"]),
      ("attention_multiplier", 0.5), ("quantization_config", ["quant_method": "gptq", "bits": 4]),
      ("quantization_config", ["quant_method": "bitsandbytes", "load_in_8bit": true]),
      ("quantization_config", ["quant_method": "fp8", "fmt": "e5m2"]), ("quantization", ["bits": 4, "group_size": 64]),
      ("text_config", ["hidden_size": 8]), ("is_encoder_decoder", true), ("qk_norm", true), ("num_experts", 8),
    ] as [(String, JSON)]) func whatIsNotComputedIsRefusedByName(field: String, value: JSON)
  {
    var json: JSONObject = JSONObject([
      ("model_type", "llama"), ("hidden_size", 64), ("intermediate_size", 160), ("num_hidden_layers", 2),
      ("num_attention_heads", 4), ("vocab_size", 128),
    ])
    #expect(throws: Never.self) { try DecoderSpec(json: .object(json), path: "config.json") }
    json[field] = value
    let error = #expect(throws: FormatError.self) { try DecoderSpec(json: .object(json), path: "config.json") }
    let named = ["rope": "rope", "eos_token_id": "token", "bos_token_id": "token"].first { field.hasPrefix($0.key) }?
      .value
    #expect(error.map { $0.description.contains(named ?? field) } ?? false, "\(String(describing: error))")
    // No one is told to say of weights in 8 bits that they have 4.
    if value["load_in_8bit"] == true { #expect(error.map { $0.description.contains("weights in 8 bits") } ?? false) }
  }
}
