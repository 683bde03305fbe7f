import Formats

extension Rope {
  /// From config.json as transformers 5.23 reads it (`RotaryEmbeddingConfigMixin`): rope_scaling, where it says
  /// something, takes the place of rope_parameters; theta stands inside or beside; `type` is the older name of
  /// rope_type.
  ///
  /// A rope_scaling without theta makes transformers forget the theta of rope_parameters. That is an error here.
  init(_ fields: ConfigFields, maxPositions: Int, defaultTheta: Double) throws(FormatError) {
    let scaling = try Self.object("rope_scaling", fields), parameters = try Self.object("rope_parameters", fields)
    let name = scaling == nil ? "rope_parameters" : "rope_scaling"
    let used = scaling ?? parameters ?? JSONObject()
    let inside = try Self.number(used["rope_theta"], name + ".rope_theta", fields)
    let beside = try Self.number(fields.json["rope_theta"], "rope_theta", fields)
    let theta = inside ?? beside ?? defaultTheta
    if scaling != nil, let other = parameters?["rope_theta"], other.double != theta, inside == nil,
      beside == nil
    {
      throw .badField(
        path: fields.path, field: "rope_parameters.rope_theta", value: other.text(),
        expected: "the same theta in rope_scaling, which takes the place of rope_parameters")
    }
    self.init(
      theta: theta,
      scaling: try Self.scaling(ConfigFields(json: .object(used), path: fields.path), name, fields, maxPositions))
  }

  /// A member that is an object; nil for one that is absent, null or empty.
  private static func object(_ name: String, _ fields: ConfigFields) throws(FormatError) -> JSONObject? {
    guard let value = fields.json[name], !value.isNull else { return nil }
    guard let object = value.object else {
      throw .badField(path: fields.path, field: name, value: value.text(), expected: "an object")
    }
    return object.count == 0 ? nil : object
  }

  /// nil for an absent value; null is none.
  private static func number(_ value: JSON?, _ name: String, _ fields: ConfigFields) throws(FormatError) -> Double? {
    guard let value else { return nil }
    guard let number = value.double, number > 0, Float(number).isFinite, Float(number) > 0 else {
      throw .badField(path: fields.path, field: name, value: value.text(), expected: "a positive number")
    }
    return number
  }

  /// `inner` are the members of `name`, `outer` the whole config.json.
  private static func scaling(
    _ inner: ConfigFields, _ name: String, _ outer: ConfigFields, _ maxPositions: Int
  ) throws(FormatError) -> Scaling {
    let (json, path) = (inner.json, inner.path)
    func required(_ key: String) throws(FormatError) -> Double {
      guard let value = try number(json[key], "\(name).\(key)", inner) else {
        throw .badField(path: path, field: "\(name).\(key)", value: "absent", expected: "a positive number")
      }
      return value
    }
    let type = json["rope_type"] ?? json["type"] ?? "default"
    guard let typeName = type.string, ["default", "linear", "llama3"].contains(typeName) else {
      throw .unsupportedModel(
        path: path, field: "rope_type", value: type.string ?? type.text(), supported: ["default", "linear", "llama3"])
    }
    try ConfigTable.rope.check(json, path: "\(path): \(name)")
    switch typeName {
    case "linear": return .linear(factor: try required("factor"))
    case "llama3":
      let low = try required("low_freq_factor"), high = try required("high_freq_factor")
      guard high > low else {
        throw .badField(
          path: path, field: "\(name).high_freq_factor", value: "\(high)",
          expected: "more than low_freq_factor (\(low))")
      }
      // transformers lets the key beside the parameters win, as Phi-3 has it.
      let key = "original_max_position_embeddings"
      let original = outer.json[key] ?? json[key] ?? .int(maxPositions)
      guard let positions = original.int, (1...1 << 30).contains(positions) else {
        throw .badField(path: path, field: key, value: original.text(), expected: "1 to 2^30")
      }
      return .llama3(
        factor: try required("factor"), lowFrequencyFactor: low, highFrequencyFactor: high,
        originalPositions: positions)
    default:
      if let factor = json["factor"], factor.double != 1 {
        throw .badField(
          path: path, field: "\(name).factor", value: factor.text(), expected: "a rope_type that uses it, or no factor")
      }
      return .none
    }
  }
}

extension Rope {
  /// `rope_theta` and `rope_scaling` of config.json.
  func write(into json: inout JSONObject) {
    json["rope_theta"] = .number(theta)
    switch scaling {
    case .none: json["rope_scaling"] = .null
    case .linear(let factor): json["rope_scaling"] = ["rope_type": "linear", "factor": .number(factor)]
    case .llama3(let factor, let low, let high, let original):
      json["rope_scaling"] = [
        "rope_type": "llama3", "factor": .number(factor), "low_freq_factor": .number(low),
        "high_freq_factor": .number(high), "original_max_position_embeddings": .int(original),
      ]
    }
  }
}
