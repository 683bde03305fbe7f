import Formats
import Testing

@testable import Models

/// What is written of configs whose fields are at the edges of what a family may say.
@Suite struct SavedConfigTests {
  private func config(_ family: String, _ changes: JSON) -> JSON {
    var json: JSONObject = JSONObject([
      ("model_type", .string(family)), ("hidden_size", 64), ("intermediate_size", 48), ("num_hidden_layers", 2),
      ("num_attention_heads", 4), ("vocab_size", 128),
    ])
    if family != "gpt_neox" {
      json["num_key_value_heads"] = 2
      json["head_dim"] = 12
    }
    for (key, value) in changes.object ?? JSONObject() { json[key] = value }
    return .object(json)
  }

  @Test(
    arguments: [
      // A whole head, where a quarter is usual; a quarter of 12 elements is no even number.
      ("qwen3_5_text", ["rope_parameters": ["rope_type": "default", "partial_rotary_factor": 1]]),
      ("qwen3_5_moe_text", ["partial_rotary_factor": 1, "num_experts": 4, "num_experts_per_tok": 2]),
      ("qwen3_next", ["partial_rotary_factor": 0.5, "num_experts": 0]),
      ("gpt_neox", ["rotary_pct": 1]), ("phi3", ["partial_rotary_factor": 0.5]),
      // A window that no layer has.
      ("gpt_oss", ["sliding_window": 7, "layer_types": ["full_attention", "full_attention"]]),
      ("gpt_oss", ["sliding_window": 7, "layer_types": ["full_attention", "sliding_attention"]]),
    ] as [(String, JSON)]) func readsBackAsTheSame(family: String, changes: JSON) throws
  {
    let spec = try DecoderSpec(json: config(family, changes), path: "config.json")
    #expect(try DecoderSpec(json: spec.toJSON(), path: "again") == spec)
  }

  /// transformers reads this key of GPT-NeoX only inside rope_parameters.
  @Test func aPartOfHeadsThatNobodyReadsIsRefused() throws {
    let error = #expect(throws: FormatError.self) {
      try DecoderSpec(json: config("gpt_neox", ["partial_rotary_factor": 0.5]), path: "config.json")
    }
    #expect(error?.description.contains("partial_rotary_factor") ?? false, "\(String(describing: error))")
    for changes in [
      ["partial_rotary_factor": 0.5, "rotary_pct": 0.5], ["rope_parameters": ["partial_rotary_factor": 0.5]],
    ] as [JSON] {
      #expect(try DecoderSpec(json: config("gpt_neox", changes), path: "config.json").rope.partialFactor == 0.5)
    }
  }
}
