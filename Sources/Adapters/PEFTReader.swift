import Formats
import Models
import Tensors

extension PEFTFiles {
  /// Attaches the LoRA adapters stored in a PEFT directory.
  ///
  /// Which modules carry an adapter is read from the tensors; rank comes from their shapes, alpha from `lora_alpha`
  /// and `alpha_pattern`. Settings that would change the arithmetic and are not implemented (DoRA, bias training,
  /// saved full modules) are errors, never ignored.
  /// - Parameter trainable: whether the matrices get gradients.
  /// - Returns: the number of modules that got an adapter.
  @discardableResult
  public static func load(_ directory: String, into model: LanguageModel, trainable: Bool = false) throws -> Int {
    let path = "\(directory)/\(configName)"
    guard FileSystem.exists(path) else { throw AdapterError.notAnAdapter(path: directory) }
    let settings = try Settings(path: path, try JSON.read(path: path))
    let file = try SafetensorsFile(path: "\(directory)/\(weightsName)")
    var pairs: [(module: Module, rank: Int)] = []
    for entry in file.entries {
      guard let name = moduleName(entry.name, suffix: ".lora_B.weight") else {
        if moduleName(entry.name, suffix: ".lora_A.weight") != nil { continue }
        throw AdapterError.unknownTensor(path: file.path, name: entry.name)
      }
      guard let module = model.module(name), module.kind == .linear else {
        throw AdapterError.unknownTensor(path: file.path, name: entry.name)
      }
      guard entry.shape.count == 2, entry.shape[0] == module.outFeatures, entry.shape[1] > 0 else {
        throw AdapterError.shapeMismatch(
          path: file.path, tensor: entry.name, expected: [module.outFeatures, entry.shape.last ?? 0], got: entry.shape)
      }
      pairs.append((module, entry.shape[1]))
    }
    guard !pairs.isEmpty else { throw AdapterError.missingTensor(path: file.path, name: "*.lora_B.weight") }
    for entry in file.entries where entry.name.hasSuffix(".lora_A.weight") {
      let partner = entry.name.dropLast(".lora_A.weight".count) + ".lora_B.weight"
      guard file.entry(String(partner)) != nil else {
        throw AdapterError.missingTensor(path: file.path, name: String(partner))
      }
    }
    var made: [(Module, LowRankAdapter)] = []
    for (module, rank) in pairs {
      guard module.adapter == nil else { throw AdapterError.alreadyAttached(module: module.name) }
      let prefix = keyPrefix + module.name
      let a = try read(file, prefix + ".lora_A.weight", shape: [rank, module.inFeatures], model.backend)
      let b = try read(file, prefix + ".lora_B.weight", shape: [module.outFeatures, rank], model.backend)
      a.requiresGradient = trainable
      b.requiresGradient = trainable
      made.append(
        (
          module,
          LowRankAdapter(
            moduleName: module.name, rank: rank, alpha: try settings.alpha(module.name), dropout: settings.dropout,
            rankStabilised: settings.rankStabilised, a: a, b: b)
        ))
    }
    for (module, adapter) in made { module.adapter = adapter }
    return made.count
  }

  private static func moduleName(_ key: String, suffix: String) -> String? {
    guard key.hasPrefix(keyPrefix), key.hasSuffix(suffix), key.utf8.count > keyPrefix.utf8.count + suffix.utf8.count
    else { return nil }
    return String(key.dropFirst(keyPrefix.count).dropLast(suffix.count))
  }

  private static func read(
    _ file: SafetensorsFile, _ name: String, shape: [Int], _ backend: any Backend
  ) throws -> Tensor {
    guard let entry = file.entry(name) else { throw AdapterError.missingTensor(path: file.path, name: name) }
    guard entry.shape == shape else {
      throw AdapterError.shapeMismatch(path: file.path, tensor: name, expected: shape, got: entry.shape)
    }
    guard let dtype = entry.type.dtype, dtype.isFloat else {
      throw FormatError.unsupportedType(
        path: file.path, tensor: name, type: entry.type.rawValue, supported: ["F32", "BF16", "F16"])
    }
    let stored = try Tensor(empty: shape, dtype: dtype, category: .adapters, on: backend)
    let bytes = try file.bytes(of: name)
    try withExtendedLifetime(file) { try stored.write(bytes) }
    return dtype == .f32 ? stored : try stored.converted(to: .f32, category: .adapters)
  }
}

/// The fields of adapter_config.json that matter for the arithmetic.
private struct Settings {
  let path: String
  let rank: Int
  let alpha: Double
  let dropout: Double
  let rankStabilised: Bool
  let alphaPattern: [(key: String, value: Double)]

  init(path: String, _ json: JSON) throws {
    self.path = path
    guard json["peft_type"]?.string == "LORA" else {
      throw AdapterError.unsupported(
        path: path, field: "peft_type", value: json["peft_type"]?.text() ?? "missing")
    }
    // Each of these, when set, changes what the layer computes or what else is stored.
    for field in ["use_dora", "use_qalora", "use_bdlora", "lora_bias", "fan_in_fan_out"] {
      if let value = json[field], !value.isNull, value.bool != false {
        throw AdapterError.unsupported(path: path, field: field, value: value.text())
      }
    }
    for field in ["modules_to_save", "trainable_token_indices", "layer_replication", "target_parameters"] {
      if let value = json[field], !value.isNull, value.array?.isEmpty != true {
        throw AdapterError.unsupported(path: path, field: field, value: value.text())
      }
    }
    if let bias = json["bias"]?.string, bias != "none" {
      throw AdapterError.unsupported(path: path, field: "bias", value: bias)
    }
    guard let rank = json["r"]?.int, rank > 0 else {
      throw AdapterError.badField(path: path, field: "r", expected: "a positive integer")
    }
    guard let alpha = json["lora_alpha"]?.double, alpha.isFinite else {
      throw AdapterError.badField(path: path, field: "lora_alpha", expected: "a number")
    }
    self.rank = rank
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
  func alpha(_ module: String) throws -> Double {
    alphaPattern.first { module == $0.key || module.hasSuffix("." + $0.key) }?.value ?? alpha
  }
}
