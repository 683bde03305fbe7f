import Formats
import Models
import Tensors

/// Adapters as PEFT writes and reads them: `adapter_config.json` and `adapter_model.safetensors`
/// (PEFT 0.21, LoraConfig and save_pretrained).
public enum PEFTFiles {
  static let configName = "adapter_config.json"
  static let weightsName = "adapter_model.safetensors"
  /// PEFT wraps the model twice, so every key starts with this.
  static let keyPrefix = "base_model.model."

  /// Writes the adapters of `model` into `directory`, whole or not at all; an existing directory is replaced.
  /// - Throws: `AdapterError.nothingToSave`, `FormatError`.
  public static func save(_ model: LanguageModel, directory: String) throws {
    let target = try AtomicDirectory(path: directory)
    try write(model, into: target.stage)
    try target.commit(replacing: true)
  }

  /// Writes the two files into a directory that exists.
  public static func write(_ model: LanguageModel, into directory: String) throws {
    let adapters = model.adapters
    guard let first = adapters.first else { throw AdapterError.nothingToSave }
    // PEFT has one switch for the whole adapter.
    for adapter in adapters where adapter.rankStabilised != first.rankStabilised {
      throw AdapterError.mixedScaling(modules: [first.moduleName, adapter.moduleName])
    }
    try AtomicFile.write("\(directory)/\(configName)", configuration(model).text(.python) + "\n")
    let items = adapters.flatMap(\.parameters).map { name, tensor in
      SafetensorsWriter.Item(name: keyPrefix + name, dtype: .f32, shape: tensor.shape) { sink in
        try tensor.withHostBytes { try sink($0) }
      }
    }
    try SafetensorsWriter.write(path: "\(directory)/\(weightsName)", items)
  }

  /// The LoraConfig that describes the adapters; rank and alpha are the commonest, others go into the patterns.
  static func configuration(_ model: LanguageModel) -> JSON {
    let adapters = model.adapters
    let rank = commonest(adapters.map(\.rank))
    let alpha = commonest(adapters.map(\.alpha))
    // A key is matched as a regex at the end of the name; a full name matches only itself.
    let ranks = adapters.filter { $0.rank != rank }.map { ($0.moduleName, JSON.int($0.rank)) }
    let alphas = adapters.filter { $0.alpha != alpha }.map { ($0.moduleName, number($0.alpha)) }
    let fields: [(String, JSON)] = [
      ("peft_type", "LORA"), ("task_type", "CAUSAL_LM"), ("base_model_name_or_path", .string(model.path)),
      ("r", .int(rank)), ("lora_alpha", number(alpha)),
      ("lora_dropout", number(commonest(adapters.map(\.dropout)))),
      ("target_modules", .array(targets(model).map { .string($0) })),
      ("rank_pattern", .object(JSONObject(ranks))), ("alpha_pattern", .object(JSONObject(alphas))),
      ("use_rslora", .bool(adapters[0].rankStabilised)), ("use_dora", false), ("bias", "none"),
      ("fan_in_fan_out", false),
      ("inference_mode", true), ("init_lora_weights", true), ("modules_to_save", .null),
      ("exclude_modules", .null), ("layers_to_transform", .null), ("layers_pattern", .null), ("revision", .null),
    ]
    return .object(JSONObject(fields))
  }

  /// Last components when they select exactly the adapted modules (PEFT matches `name == t` or a dotted suffix),
  /// else full names.
  private static func targets(_ model: LanguageModel) -> [String] {
    let adapted = Set(model.adapters.map(\.moduleName))
    let roles = Set(model.modules.filter { adapted.contains($0.name) }.map(\.role))
    let selected = Set(model.modules.filter { roles.contains($0.role) }.map(\.name))
    return (selected == adapted ? roles : adapted).sorted()
  }

  private static func commonest<Value: Hashable & Comparable>(_ values: [Value]) -> Value {
    var counts: [Value: Int] = [:]
    for value in values { counts[value, default: 0] += 1 }
    // The caller has checked that there is at least one adapter; ties go to the larger value.
    return counts.max { ($0.value, $0.key) < ($1.value, $1.key) }!.key
  }

  /// Whole numbers are written as integers, as PEFT's own files have them.
  private static func number(_ value: Double) -> JSON {
    Int(exactly: value).map { value == 0 ? .number(0) : .int($0) } ?? .number(value)
  }
}
