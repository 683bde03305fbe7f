import Formats
import Models

/// LoRA in adapter_config.json (PEFT 0.21, LoraConfig).
extension LoRA {
  /// Rank and alpha are the commonest, others go into the patterns. Dropout is the commonest; other values of it are
  /// not kept.
  /// - Throws: `AdapterError.nothingToSave`, `AdapterError.mixedScaling`.
  public static func configuration(_ adapters: [(module: String, method: LoRA)]) throws -> [(String, JSON)] {
    guard let (firstModule, first) = adapters.first else { throw AdapterError.nothingToSave }
    // PEFT has one switch for the whole adapter.
    for (module, method) in adapters where method.rankStabilised != first.rankStabilised {
      throw AdapterError.mixedScaling(modules: [firstModule, module])
    }
    let rank = commonest(adapters.map(\.method.rank), or: first.rank)
    let alpha = commonest(adapters.map(\.method.alpha), or: first.alpha)
    let dropout = commonest(adapters.map(\.method.dropout), or: first.dropout)
    // A key is matched as a regex at the end of the name; a full name matches only itself.
    let ranks = adapters.filter { $0.method.rank != rank }.map { ($0.module, JSON.int($0.method.rank)) }
    let alphas = adapters.filter { $0.method.alpha != alpha }.map { ($0.module, number($0.method.alpha)) }
    return [
      ("r", .int(rank)), ("lora_alpha", number(alpha)), ("lora_dropout", number(dropout)),
      ("rank_pattern", .object(JSONObject(ranks))), ("alpha_pattern", .object(JSONObject(alphas))),
      ("use_rslora", .bool(first.rankStabilised)), ("use_dora", false), ("bias", "none"),
      ("fan_in_fan_out", false), ("init_lora_weights", true), ("layers_to_transform", .null),
      ("layers_pattern", .null),
    ]
  }
}

/// The value that comes most often; ties go to the larger one.
private func commonest<Value: Hashable & Comparable>(_ values: [Value], or none: Value) -> Value {
  var counts: [Value: Int] = [:]
  for value in values { counts[value, default: 0] += 1 }
  return counts.max { ($0.value, $0.key) < ($1.value, $1.key) }?.key ?? none
}

/// Whole numbers are written as integers, as PEFT's own files have them.
private func number(_ value: Double) -> JSON {
  Int(exactly: value).map { value == 0 ? .number(0) : .int($0) } ?? .number(value)
}
