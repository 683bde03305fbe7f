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

  /// The rank of a module comes from its tensors, alpha from `lora_alpha` and `alpha_pattern`. Settings that would
  /// change the arithmetic and are not implemented (DoRA, bias training) are errors, never ignored.
  /// - Throws: `AdapterError.unsupported`, `AdapterError.badField`. The reader that is returned throws nothing.
  public static func reader(_ configuration: JSON, path: String) throws -> AdapterReader {
    let settings = try Settings(path: path, configuration)
    return { module, shapes in
      let rank = shapes[nameOfB]?.last ?? shapes[nameOfA]?.first ?? 1
      return LoRA(
        rank: max(1, rank), alpha: settings.alpha(module.name), dropout: settings.dropout,
        rankStabilised: settings.rankStabilised)
    }
  }
}

/// The fields of adapter_config.json that matter for the arithmetic.
private struct Settings {
  let alpha: Double
  let dropout: Double
  let rankStabilised: Bool
  let alphaPattern: [(key: String, value: Double)]

  init(path: String, _ json: JSON) throws {
    // Each of these, when set, changes what the layer computes or what else is stored.
    for field in ["use_dora", "use_qalora", "use_bdlora", "lora_bias", "fan_in_fan_out"] {
      if let value = json[field], !value.isNull, value.bool != false {
        throw AdapterError.unsupported(path: path, field: field, value: value.text())
      }
    }
    for field in ["trainable_token_indices", "layer_replication", "target_parameters"] {
      if let value = json[field], !value.isNull, value.array?.isEmpty != true {
        throw AdapterError.unsupported(path: path, field: field, value: value.text())
      }
    }
    if let bias = json["bias"]?.string, bias != "none" {
      throw AdapterError.unsupported(path: path, field: "bias", value: bias)
    }
    guard json["r"]?.int ?? 0 > 0 else {
      throw AdapterError.badField(path: path, field: "r", expected: "a positive integer")
    }
    guard let alpha = json["lora_alpha"]?.double, alpha.isFinite else {
      throw AdapterError.badField(path: path, field: "lora_alpha", expected: "a number")
    }
    self.alpha = alpha
    self.dropout = json["lora_dropout"]?.double ?? 0
    guard dropout >= 0, dropout < 1 else {
      throw AdapterError.badField(path: path, field: "lora_dropout", expected: "a number in [0, 1)")
    }
    self.rankStabilised = json["use_rslora"]?.bool ?? false
    var patterns: [(String, Double)] = []
    for (key, value) in json["alpha_pattern"]?.object ?? JSONObject() {
      guard let number = value.double, number.isFinite else {
        throw AdapterError.badField(path: path, field: "alpha_pattern.\(key)", expected: "a number")
      }
      // PEFT takes keys as regular expressions; names and dotted suffixes are what its writers produce.
      if key.contains(where: { "^$*+?()[]{}|\\".contains($0) }) {
        throw AdapterError.unsupported(path: path, field: "alpha_pattern", value: key)
      }
      patterns.append((key, number))
    }
    self.alphaPattern = patterns
  }

  /// First matching pattern wins, as in PEFT.
  func alpha(_ module: String) -> Double {
    alphaPattern.first { module == $0.key || module.hasSuffix("." + $0.key) }?.value ?? alpha
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
