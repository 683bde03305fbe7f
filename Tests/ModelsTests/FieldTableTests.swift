import Adapters
import Formats
import Foundation
import Testing

@testable import Models

private let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent()

/// Every key that a peer's own classes know has a decision, and docs/fields.md says which.
@Suite struct FieldTableTests {
  /// Keys that earlier versions of the classes had, or read under another name.
  private static let older: Set = [
    "hidden_act", "rotary_pct", "rotary_emb_base", "rope_local_base_freq", "sliding_window_pattern",
    "sliding_window_size", "num_experts", "num_local_experts", "experts_per_token", "initial_context_length",
    // Of published files of Qwen3.5; transformers pops the first and reads none of the others.
    "full_attention_interval", "mamba_ssm_dtype", "mtp_num_hidden_layers", "mtp_use_dedicated_embeddings",
  ]

  private let peers: JSON

  init() throws { peers = try JSON.read(path: root.path + "/Tests/Fixtures/fields/peer_keys.json") }

  private func keys(_ list: JSON?) throws -> [String] {
    let keys = try #require(list?.array).compactMap(\.string)
    try #require(!keys.isEmpty)
    return keys
  }

  @Test func everyKeyOfTransformersConfigsHasADecision() throws {
    let classes = try #require(peers["config"]?.object)
    #expect(classes.count == Families.all.count + 2)
    for (name, list) in classes {
      for key in try keys(list) where ConfigTable.table.decision(of: key) == nil {
        #expect(Families.named(name)?.ownKeys[key] != nil, "\(name): \(key)")
      }
    }
    for key in try keys(peers["rope"]) { #expect(ConfigTable.rope.decision(of: key) != nil, "\(key)") }
    for key in try keys(peers["generation"]) { #expect(GenerationFields.table.decision(of: key) != nil, "\(key)") }
  }

  /// What a family's config class has and the table refuses or knows not, the family must read itself.
  @Test func familiesReadWhatTheirClassesHave() throws {
    for family in Families.all {
      let known = try keys(peers["config"]?[family.modelType])
      for key in known {
        if case .only? = ConfigTable.table.decision(of: key), !["hidden_act", "is_encoder_decoder"].contains(key) {
          #expect(family.ownKeys[key] != nil, "\(family.modelType): \(key)")
        }
      }
      for (key, decision) in family.ownKeys where family.modelType != "mistral" || key != "layer_types" {
        // A family may refuse what it would otherwise read as others do.
        if case .only = decision { continue }
        let isKnown = known.contains(key) || Self.older.contains(key)
        #expect(isKnown, "\(family.modelType) reads \(key), which its class does not have")
      }
    }
  }

  @Test func everyKeyOfPEFTAndLlamaCppHasADecision() throws {
    for key in try keys(peers["adapter"]) { #expect(PEFTTable.table.decision(of: key) != nil, "\(key)") }
    for key in try keys(peers["adapter_ia3"]) { #expect(IA3.table.decision(of: key) != nil, "\(key)") }
    for key in try keys(peers["adapter_vera"]) { #expect(VeRA.table.decision(of: key) != nil, "\(key)") }
    for key in try keys(peers["adapter_tokens"]) { #expect(TrainedTokens.table.decision(of: key) != nil, "\(key)") }
    for key in try keys(peers["gguf"]) { #expect(GGUFTable.table.decision(of: key) != nil, "\(key)") }
    // Those of other architectures are refused by their place, unless they ask for nothing.
    for key in try keys(peers["gguf_of_other_architectures"]) {
      #expect(throws: FormatError.self, "\(key)") { try GGUFTable.table.check([key], path: "x") { _ in 7 } }
    }
  }

  @Test func unknownKeysAreSaidOrRefusedByTheirName() throws {
    let table = ConfigTable.table
    #expect(
      try table.check(["my_notes": "a", "off": false, "none": nil, "empty": []], path: "c") == [
        "c: my_notes: no program we know of reads this; ignored"
      ])
    for key in ["rope_style", "ropeStyle", "qk_norm", "logits_cap", "attention_sinks", "num_experts_per_tok"] {
      #expect(throws: FormatError.unknownField(path: "c", field: key, value: "2")) {
        try table.check(.object(JSONObject([(key, 2)])), path: "c")
      }
    }
    #expect(
      try table.check(["attention_dropout": 0.1, "hidden_dropout": 0.2], path: "c").map { $0.prefix(47) } == [
        "c: attention_dropout = 0.1, hidden_dropout = 0."
      ])
    #expect(throws: FormatError.self) { try PEFTTable.table.check(["news": 1], path: "c") }
  }

  @Test func docsAreTheTables() throws {
    let text = try String(contentsOf: root.appendingPathComponent("docs/fields.md"), encoding: .utf8)
    let tables = [
      ("config.json", ConfigTable.table), ("rope_parameters and rope_scaling", ConfigTable.rope),
      ("quantization_config of fp8", FP8Config.table),
      ("quantization_config of compressed-tensors", FP8Config.compressed),
      ("a group of compressed-tensors", FP8Config.group), ("weights of such a group", FP8Config.weights),
      ("generation_config.json", GenerationFields.table), ("GGUF metadata", GGUFTable.table),
      ("adapter_config.json", PEFTTable.table), ("adapter_config.json of (IA)³", IA3.table),
      ("adapter_config.json of adapters in Lua", Scripted.table),
      ("adapter_config.json of VeRA", VeRA.table),
      ("adapter_config.json of trained tokens", TrainedTokens.table),
    ]
    let own = Families.all.map { family in
      let keys = family.ownKeys.keys.sorted() + family.ownGGUFKeys.keys.sorted().map { "{arch}." + $0 }
      return "| \(family.modelType) | \(keys.map { "`\($0)`" }.joined(separator: ", ")) |"
    }
    let sections =
      tables.map { "## \($0)\n\n" + Self.markdown($1) }
      + ["## What families read besides\n\n| family | keys |\n|---|---|\n" + own.joined(separator: "\n") + "\n"]
    for section in sections where !text.contains(section) {
      let path = FileManager.default.temporaryDirectory.appendingPathComponent("fields.md").path
      try sections.joined(separator: "\n").write(toFile: path, atomically: true, encoding: .utf8)
      Issue.record("docs/fields.md does not have this section: \(section.prefix(60)); all of them are in \(path)")
      return
    }
  }

  private static func markdown(_ table: FieldTable) -> String {
    let rows = table.rows.map { row in
      let keys = row.keys.map { "`\($0)`" }.joined(separator: ", ")
      func values(_ list: [JSON]) -> String { list.map { "`\($0.text())`" }.joined(separator: ", ") }
      return switch row.decision {
      case .honoured: "| \(keys) | honoured | |"
      case .nullable: "| \(keys) | honoured, null too | |"
      case .harmless(let reason): "| \(keys) | passed over | \(reason) |"
      case .said(let neutral, let reason): "| \(keys) | said unless \(values(neutral)) | \(reason) |"
      case .only(let allowed, let reason): "| \(keys) | refused unless \(values(allowed)) | \(reason) |"
      }
    }
    return "| key | decision | why |\n|---|---|---|\n" + rows.joined(separator: "\n") + "\n"
  }
}
