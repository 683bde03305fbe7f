import Formats

extension Rope {
  /// From config.json as transformers 5.23 reads it (`RotaryEmbeddingConfigMixin`): rope_scaling, where it says
  /// something, takes the place of rope_parameters; theta stands inside or beside; `type` is the older name of
  /// rope_type. In a family with a rope of its own for sliding layers, rope_parameters holds one object for each type
  /// of layer, and rope_scaling adds to that of full attention, whose rope this is.
  ///
  /// A rope_scaling without theta makes transformers forget the theta of rope_parameters. That is an error here.
  init(_ fields: ConfigFields, _ family: any DecoderFamily.Type, maxPositions: Int) throws(FormatError) {
    let scaling = try Self.object("rope_scaling", fields.json, fields), usual = family.defaults.ropeTheta
    let beside = try Self.number(fields.json["rope_theta"], "rope_theta", fields)
    if family.slidingRope != nil {
      var used = try Self.layerTypes(fields)["full_attention"] ?? JSONObject()
      for key in scaling?.keys ?? [] { used[key] = scaling?[key] }
      let name = scaling == nil ? "rope_parameters.full_attention" : "rope_scaling"
      let reading = RopeReading(used, name, fields, family, maxPositions, isNested: true)
      self = try reading.rope(theta: beside ?? usual)
      return
    }
    let parameters = try Self.object("rope_parameters", fields.json, fields)
    let name = scaling == nil ? "rope_parameters" : "rope_scaling"
    let reading = RopeReading(
      scaling ?? parameters ?? JSONObject(), name, fields, family, maxPositions, isNested: false)
    self = try reading.rope(theta: beside ?? usual)
    if scaling != nil, let other = parameters?["rope_theta"], other.double != theta, beside == nil,
      scaling?["rope_theta"] == nil
    {
      throw .badField(
        path: fields.path, field: "rope_parameters.rope_theta", value: other.text(),
        expected: "the same theta in rope_scaling, which takes the place of rope_parameters")
    }
  }

  /// The rope of layers with a window, where the family has one of their own; it is scaled only where rope_parameters
  /// says so of these layers.
  static func sliding(
    _ fields: ConfigFields, _ family: any DecoderFamily.Type, maxPositions: Int
  ) throws(FormatError) -> Rope? {
    guard let usual = family.slidingRope else { return nil }
    let own = try layerTypes(fields)["sliding_attention"] ?? JSONObject()
    var beside: Double?
    if let key = usual.thetaKey { beside = try number(fields.json[key], key, fields) }
    // transformers 4 takes such a theta for all layers, transformers 5 for those with full attention.
    if usual.thetaKey == nil, own["rope_theta"] == nil, let other = fields.json["rope_theta"],
      other.double != usual.theta
    {
      throw .badField(
        path: fields.path, field: "rope_theta", value: other.text(),
        expected: "a theta in rope_parameters.sliding_attention too: versions of transformers differ without it")
    }
    let name = "rope_parameters.sliding_attention"
    return try RopeReading(own, name, fields, family, maxPositions, isNested: true).rope(theta: beside ?? usual.theta)
  }

  /// rope_parameters by type of layer.
  private static func layerTypes(_ fields: ConfigFields) throws(FormatError) -> [String: JSONObject] {
    guard let parameters = try object("rope_parameters", fields.json, fields) else { return [:] }
    var found: [String: JSONObject] = [:]
    for key in parameters.keys {
      guard ["full_attention", "sliding_attention"].contains(key) else {
        throw .unknownField(
          path: fields.path, field: "rope_parameters.\(key)", value: parameters[key]?.text() ?? "null")
      }
      found[key] = try object(key, .object(parameters), fields)
    }
    return found
  }

  /// A member that is an object; nil for one that is absent, null or empty.
  private static func object(
    _ name: String, _ json: JSON, _ fields: ConfigFields
  ) throws(FormatError) -> JSONObject? {
    guard let value = json[name], !value.isNull else { return nil }
    guard let object = value.object else {
      throw .badField(path: fields.path, field: name, value: value.text(), expected: "an object")
    }
    return object.count == 0 ? nil : object
  }

  /// nil for an absent value; null is none.
  static func number(
    _ value: JSON?, _ name: String, _ fields: ConfigFields
  ) throws(FormatError) -> Double? {
    guard let value else { return nil }
    guard let number = value.double, DecoderSpec.factors.range.contains(number) else {
      throw .badField(path: fields.path, field: name, value: value.text(), expected: DecoderSpec.factors.words)
    }
    return number
  }
}

/// One object of rope parameters.
private struct RopeReading {
  let json: JSONObject
  /// What the object is called in errors.
  let name: String
  /// The whole config.json.
  let fields: ConfigFields
  let family: any DecoderFamily.Type
  let maxPositions: Int
  /// Whether it is for one type of layer.
  let isNested: Bool

  init(
    _ json: JSONObject, _ name: String, _ fields: ConfigFields, _ family: any DecoderFamily.Type, _ maxPositions: Int,
    isNested: Bool
  ) {
    (self.json, self.name, self.fields, self.family) = (json, name, fields, family)
    (self.maxPositions, self.isNested) = (maxPositions, isNested)
  }

  /// `theta` is that of a rope whose parameters name none.
  func rope(theta: Double) throws(FormatError) -> Rope {
    let type = json["rope_type"] ?? json["type"] ?? "default"
    let types = ["default", "linear", "dynamic", "yarn", "longrope", "llama3"]
    guard let given = type.string, types.contains(family.ropeTypeNames[given] ?? given) else {
      throw .unsupportedModel(
        path: fields.path, field: "rope_type", value: type.string ?? type.text(), supported: types)
    }
    var own = family.ownRopeKeys
    if family.rotatesPartOfHeads { own["partial_rotary_factor"] = .nullable }
    try ConfigTable.rope.check(.object(json), path: "\(fields.path): \(name)", own: own)
    var rope = Rope(
      theta: try positive("rope_theta") ?? theta, scaling: try scaling(family.ropeTypeNames[given] ?? given))
    if family.rotatesPartOfHeads {
      let key = "partial_rotary_factor"
      let inside = try optional(key)
      let beside = try Rope.number(fields.json[key].flatMap { $0.isNull ? nil : $0 }, key, fields)
      rope.partialFactor = inside ?? beside ?? family.defaults.partialRotaryFactor
    }
    return rope
  }

  private func positive(_ key: String) throws(FormatError) -> Double? {
    try Rope.number(json[key], "\(name).\(key)", fields)
  }

  private func required(_ key: String) throws(FormatError) -> Double {
    guard let value = try positive(key) else {
      throw .badField(path: fields.path, field: "\(name).\(key)", value: "absent", expected: DecoderSpec.factors.words)
    }
    return value
  }

  /// null is no value.
  private func optional(_ key: String) throws(FormatError) -> Double? {
    json[key]?.isNull ?? true ? nil : try positive(key)
  }

  /// null and 0 are no value, as in Python's `or`.
  private func nonZero(_ key: String) throws(FormatError) -> Double? {
    json[key]?.double == 0 ? nil : try optional(key)
  }

  private func scaling(_ type: String) throws(FormatError) -> Rope.Scaling {
    switch type {
    case "linear": return .linear(factor: try required("factor"))
    case "dynamic": return try dynamic()
    case "yarn": return .yarn(try yarn())
    case "longrope": return .longrope(try longrope())
    case "llama3":
      let low = try required("low_freq_factor"), high = try required("high_freq_factor")
      guard high > low else {
        throw .badField(
          path: fields.path, field: "\(name).high_freq_factor", value: "\(high)",
          expected: "more than low_freq_factor (\(low))")
      }
      return .llama3(
        factor: try required("factor"), lowFrequencyFactor: low, highFrequencyFactor: high,
        originalPositions: try originalPositions())
    default:
      if let factor = json["factor"], factor.double != 1, !factor.isNull {
        throw .badField(
          path: fields.path, field: "\(name).factor", value: factor.text(),
          expected: "a rope_type that uses it, or no factor")
      }
      return .none
    }
  }

  /// transformers lets the key beside the parameters win, as Phi-3 has it; not where they are for one type of layer.
  private func originalPositions() throws(FormatError) -> Int {
    let key = "original_max_position_embeddings"
    let beside = isNested ? nil : fields.json[key] ?? family.defaults.originalPositions.map { .int($0) }
    let original = beside ?? json[key] ?? .int(maxPositions)
    guard let positions = original.int, (1...1 << 30).contains(positions) else {
      throw .badField(path: fields.path, field: key, value: original.text(), expected: "1 to 2^30")
    }
    return positions
  }

  private func dynamic() throws(FormatError) -> Rope.Scaling {
    let key = "original_max_position_embeddings"
    if let other = json[key], !other.isNull, other.int != maxPositions {
      throw .badField(
        path: fields.path, field: "\(name).\(key)", value: other.text(),
        expected: "max_position_embeddings (\(maxPositions)): dynamic scaling begins there")
    }
    return .dynamic(factor: try required("factor"), originalPositions: maxPositions)
  }

  private func yarn() throws(FormatError) -> Rope.YaRN {
    let original = try originalPositions()
    let factor = try optional("factor") ?? Double(maxPositions) / Double(original)
    var attention = Rope.YaRN.attentionFactor(factor)
    if let m = try nonZero("mscale"), let all = try nonZero("mscale_all_dim") {
      attention = Rope.YaRN.attentionFactor(factor, m) / Rope.YaRN.attentionFactor(factor, all)
    }
    let given = json["truncate"] ?? true
    guard let truncates = given.bool, truncates || !isNested else {
      throw .badField(
        path: fields.path, field: "\(name).truncate", value: given.text(),
        expected: isNested ? "true: transformers truncates in parameters by type of layer" : "true or false")
    }
    let fast = try nonZero("beta_fast") ?? 32, slow = try nonZero("beta_slow") ?? 1
    guard fast >= slow else {
      throw .badField(
        path: fields.path, field: "\(name).beta_fast", value: "\(fast)", expected: "at least beta_slow (\(slow))")
    }
    return Rope.YaRN(
      factor: factor, attentionFactor: try optional("attention_factor") ?? attention, betaFast: fast, betaSlow: slow,
      originalPositions: original, truncates: truncates)
  }

  private func longrope() throws(FormatError) -> Rope.LongRoPE {
    let original = try originalPositions()
    let factor = try optional("factor") ?? Double(maxPositions) / Double(original)
    let attention = factor <= 1 ? 1 : (1 + naturalLogarithm(factor) / naturalLogarithm(Double(original))).squareRoot()
    return Rope.LongRoPE(
      shortFactors: try factors("short_factor"), longFactors: try factors("long_factor"),
      attentionFactor: try optional("attention_factor") ?? attention, originalPositions: original)
  }

  private func factors(_ key: String) throws(FormatError) -> [Double] {
    var found: [Double] = []
    for value in json[key]?.array ?? [] { found.append(try Rope.number(value, "\(name).\(key)", fields) ?? 1) }
    guard !found.isEmpty else {
      throw .badField(
        path: fields.path, field: "\(name).\(key)", value: json[key]?.text() ?? "absent", expected: "a list of numbers")
    }
    return found
  }
}
