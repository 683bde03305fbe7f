import Formats

/// A rotary position embedding (Su et al. 2021): its base and how positions are stretched beyond the pretraining
/// length (`rope_type` of transformers).
///
/// Pair i of a head of width d turns by position * f_i, with f_i = theta^(-2i / d) before scaling.
public struct Rope: Sendable, Hashable {
  /// What becomes of the frequencies f_i.
  public enum Scaling: Sendable, Hashable {
    /// They stay.
    case none
    /// f_i / factor.
    case linear(factor: Double)
    /// Wavelengths 2 pi / f_i below originalPositions / highFrequencyFactor stay, those above originalPositions /
    /// lowFrequencyFactor get f_i / factor, and those between a blend of the two.
    case llama3(factor: Double, lowFrequencyFactor: Double, highFrequencyFactor: Double, originalPositions: Int)
  }

  /// Base of the frequencies; positive.
  public var theta: Double
  /// How positions are stretched.
  public var scaling: Scaling

  /// The numbers are not checked here; from files they are.
  public init(theta: Double = 10000, scaling: Scaling = .none) {
    self.theta = theta
    self.scaling = scaling
  }
}

extension Rope {
  /// From config.json; transformers 5 keeps theta with the parameters of scaling.
  init(_ fields: ConfigFields, defaultTheta: Double) throws(FormatError) {
    let parameters = fields.json["rope_parameters"] ?? .null
    let topTheta = try fields.double("rope_theta")
    let theta = try fields.double("rope_theta", in: parameters) ?? topTheta ?? defaultTheta
    let scaling = parameters["rope_type"] != nil ? parameters : fields.json["rope_scaling"] ?? .null
    self.init(theta: theta, scaling: try Self.scaling(scaling, fields))
  }

  private static func scaling(_ json: JSON, _ fields: ConfigFields) throws(FormatError) -> Scaling {
    if json.isNull { return .none }
    let type = (json["rope_type"] ?? json["type"])?.string ?? "absent"
    func number(_ name: String) throws(FormatError) -> Double {
      guard let value = try fields.double(name, in: json), value > 0, value.isFinite else {
        throw .badField(
          path: fields.path, field: "rope_scaling.\(name)", value: json[name]?.text() ?? "absent",
          expected: "a positive number")
      }
      return value
    }
    switch type {
    case "default": return .none
    case "linear": return .linear(factor: try number("factor"))
    case "llama3":
      let low = try number("low_freq_factor"), high = try number("high_freq_factor")
      guard high > low else {
        throw .badField(
          path: fields.path, field: "rope_scaling.high_freq_factor", value: "\(high)",
          expected: "more than low_freq_factor (\(low))")
      }
      guard let original = json["original_max_position_embeddings"]?.int, original > 0 else {
        throw .badField(
          path: fields.path, field: "rope_scaling.original_max_position_embeddings",
          value: json["original_max_position_embeddings"]?.text() ?? "absent", expected: "a positive integer")
      }
      return .llama3(
        factor: try number("factor"), lowFrequencyFactor: low, highFrequencyFactor: high, originalPositions: original)
    default:
      throw .unsupportedModel(
        path: fields.path, field: "rope_type", value: type, supported: ["default", "linear", "llama3"])
    }
  }

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
