import Formats

extension Rope {
  /// Checks what depends on the width of a head; `path` is named in the error.
  func validate(headDimension: Int, path: String) throws(FormatError) {
    // The width of a part that is no part may be no integer.
    let width = partialFactor > 0 && partialFactor <= 1 ? width(headDimension: headDimension) : 0
    guard width > 0, width % 2 == 0 else {
      throw .badField(
        path: path, field: "partial_rotary_factor", value: "\(partialFactor)",
        expected: "above 0, at most 1, and an even number of the \(headDimension) elements of a head")
    }
    if case .yarn = scaling, theta <= 1 {
      throw .badField(path: path, field: "rope_theta", value: "\(theta)", expected: "more than 1 with yarn")
    }
    if case .dynamic = scaling, width < 4 {
      throw .badField(path: path, field: "rope_type", value: "dynamic", expected: "at least 4 elements that turn")
    }
    if case .longrope(let long) = scaling {
      for (name, factors) in [("short", long.shortFactors), ("long", long.longFactors)]
      where factors.count != width / 2 {
        throw .badField(
          path: path, field: "rope_scaling.\(name)_factor", value: "\(factors.count) numbers",
          expected: "\(width / 2), one for each pair")
      }
    }
    guard attentionScale > 0, attentionScale.isFinite else {
      throw .badField(
        path: path, field: "rope_scaling.attention_factor", value: "\(attentionScale)", expected: "a positive number")
    }
  }

  /// The members of rope_scaling; nil for none.
  private var parameters: JSONObject? {
    switch scaling {
    case .none: return nil
    case .linear(let factor): return JSONObject([("rope_type", "linear"), ("factor", .number(factor))])
    case .dynamic(let factor, _): return JSONObject([("rope_type", "dynamic"), ("factor", .number(factor))])
    case .yarn(let yarn):
      return JSONObject([
        ("rope_type", "yarn"), ("factor", .number(yarn.factor)), ("attention_factor", .number(yarn.attentionFactor)),
        ("beta_fast", .number(yarn.betaFast)), ("beta_slow", .number(yarn.betaSlow)),
        ("original_max_position_embeddings", .int(yarn.originalPositions)), ("truncate", .bool(yarn.truncates)),
      ])
    case .longrope(let long):
      return JSONObject([
        ("rope_type", "longrope"), ("short_factor", .array(long.shortFactors.map { .number($0) })),
        ("long_factor", .array(long.longFactors.map { .number($0) })),
        ("attention_factor", .number(long.attentionFactor)),
        ("original_max_position_embeddings", .int(long.originalPositions)),
      ])
    case .llama3(let factor, let low, let high, let original):
      return JSONObject([
        ("rope_type", "llama3"), ("factor", .number(factor)), ("low_freq_factor", .number(low)),
        ("high_freq_factor", .number(high)), ("original_max_position_embeddings", .int(original)),
      ])
    }
  }

  /// `rope_theta`, `rope_scaling` and what stands beside them in config.json.
  fileprivate func write(into json: inout JSONObject, _ family: (any DecoderFamily.Type)?) {
    json["rope_theta"] = .number(theta)
    json["rope_scaling"] = parameters.map { .object($0) } ?? .null
    // Also a whole head, where the family turns a part unless told.
    if partialFactor != 1 || family?.defaults.partialRotaryFactor != 1 {
      json["partial_rotary_factor"] = .number(partialFactor)
    }
    // Where this stands beside the parameters, some config classes look nowhere else.
    if case .longrope(let long) = scaling { json["original_max_position_embeddings"] = .int(long.originalPositions) }
  }

  /// As transformers 5 has it inside rope_parameters.
  fileprivate var layerTypeParameters: JSON {
    var json = parameters ?? JSONObject([("rope_type", "default")])
    json["rope_theta"] = .number(theta)
    return .object(json)
  }
}

extension DecoderSpec {
  /// The ropes in config.json: as transformers 4 reads them, and by type of layer where transformers 5 has it so.
  func writeRopes(into json: inout JSONObject) {
    let family = Families.named(modelType)
    rope.write(into: &json, family)
    guard let own = family?.slidingRope else { return }
    let sliding = layers.first { $0.window != nil }.flatMap { rope(of: $0) } ?? rope
    if let key = own.thetaKey { json[key] = .number(sliding.theta) }
    json["rope_parameters"] = [
      "full_attention": rope.layerTypeParameters, "sliding_attention": sliding.layerTypeParameters,
    ]
  }
}
