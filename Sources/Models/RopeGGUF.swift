import Formats
import Glibc

extension Rope {
  /// Tensors of GGUF files that belong to no module but to the rope.
  static let ggufTensors: Set<String> = ["rope_freqs.weight", factorTensors.short, factorTensors.long]
  static let factorTensors = (short: "rope_factors_short.weight", long: "rope_factors_long.weight")

  /// From GGUF metadata as llama.cpp reads it: the rope of layers with full attention.
  init(
    _ fields: GGUFFields, _ family: any DecoderFamily.Type, headDimension: Int, maxPositions: Int
  ) throws(FormatError) {
    let gguf = fields.file
    self.init(theta: try fields.double("rope.freq_base") ?? 10000)
    guard DecoderSpec.factors.range.contains(theta) else {
      throw .badField(
        path: gguf.path, field: "rope.freq_base", value: "\(theta)", expected: DecoderSpec.factors.words)
    }
    let turning = try fields.integer("rope.dimension_count") ?? headDimension
    guard turning == headDimension || family.rotatesPartOfHeads && (1..<headDimension).contains(turning) else {
      throw .unsupportedModel(
        path: gguf.path, field: "rope.dimension_count", value: "\(turning)", supported: ["\(headDimension)"])
    }
    setWidth(turning, headDimension: headDimension)
    // A factor without a type is one of linear scaling; with type `none` it is not used; 0 is no factor.
    let type = try fields.string("rope.scaling.type") ?? "linear"
    guard ["none", "linear", "yarn", "longrope"].contains(type) else {
      throw .unsupportedModel(
        path: gguf.path, field: "rope.scaling.type", value: type, supported: ["none", "linear", "yarn", "longrope"])
    }
    let named = try fields.double("rope.scaling.factor"), older = try fields.double("rope.scale_linear")
    let factor = try Self.positive(named ?? older, "rope.scaling.factor", fields) ?? 1
    let attention = try Self.positive(try fields.double("rope.scaling.attn_factor"), "rope.scaling.attn_factor", fields)
    let given = try fields.integer("rope.scaling.original_context_length") ?? 0
    guard (0...1 << 30).contains(given) else {
      throw .badField(
        path: gguf.path, field: "rope.scaling.original_context_length", value: "\(given)", expected: "1 to 2^30")
    }
    let original = given == 0 ? maxPositions : given
    let tensors = [Self.factorTensors.short, Self.factorTensors.long].filter(gguf.contains)
    if !tensors.isEmpty || type == "longrope" {
      guard factor == 1 || type == "none", type != "yarn" else {
        throw .unsupportedModel(
          path: gguf.path, field: "rope.scaling.type", value: "\(type) beside \(tensors)", supported: ["longrope"])
      }
      scaling = .longrope(
        LongRoPE(
          shortFactors: try factors(Self.factorTensors.short, gguf, headDimension),
          longFactors: try factors(Self.factorTensors.long, gguf, headDimension), attentionFactor: attention ?? 1,
          originalPositions: original))
    } else if type == "yarn" {
      scaling = .yarn(try Self.yarn(factor, attention ?? 1, original, fields))
    } else {
      guard attention ?? 1 == 1 else {
        throw .unsupportedModel(
          path: gguf.path, field: "rope.scaling.attn_factor", value: "\(attention ?? 1)", supported: ["1"])
      }
      scaling = factor == 1 || type == "none" ? .none : .linear(factor: factor)
    }
    guard gguf.contains("rope_freqs.weight") else { return }
    let divisors = divided(by: try factors("rope_freqs.weight", gguf, headDimension), maxPositions: maxPositions)
    guard scaling == .none || divisors == .none else {
      throw .unsupportedModel(
        path: gguf.path, field: "rope_freqs.weight", value: "beside \(type) scaling", supported: ["one of both"])
    }
    if divisors != .none { scaling = divisors }
  }

  /// The rope of layers with a window, where the family has one of their own: llama.cpp does not scale it.
  static func sliding(
    _ fields: GGUFFields, _ family: any DecoderFamily.Type, full: Rope
  ) throws(FormatError) -> Rope? {
    guard let usual = family.slidingRope else { return nil }
    let name = "rope.freq_base_swa"
    let given = try positive(try fields.double(name), name, fields)
    return Rope(theta: given ?? (usual.thetaKey == nil ? full.theta : usual.theta))
  }

  /// 0 is no number, as in llama.cpp.
  private static func positive(
    _ value: Double?, _ name: String, _ fields: GGUFFields
  ) throws(FormatError) -> Double? {
    guard let value, value != 0 else { return nil }
    guard DecoderSpec.factors.range.contains(value) else {
      throw .badField(path: fields.file.path, field: name, value: "\(value)", expected: DecoderSpec.factors.words)
    }
    return value
  }

  /// The keys are those that the converter writes from config.json. llama.cpp's own files say what it has not read by
  /// ext_factor -1; the others then hold defaults.
  private static func yarn(
    _ factor: Double, _ attention: Double, _ original: Int, _ fields: GGUFFields
  ) throws(FormatError) -> YaRN {
    func read(_ key: String) throws(FormatError) -> Double? {
      try positive(try fields.double("rope.scaling.yarn_" + key), "rope.scaling.yarn_" + key, fields)
    }
    let ext = try fields.double("rope.scaling.yarn_ext_factor") ?? 1
    guard ext == 1 || ext == -1 else {
      throw .unsupportedModel(
        path: fields.file.path, field: "rope.scaling.yarn_ext_factor", value: "\(ext)", supported: ["1"])
    }
    var usual = YaRN.attentionFactor(factor)
    if let all = try read("log_multiplier") { usual /= YaRN.attentionFactor(factor, all) }
    let own = try read("attn_factor")
    return YaRN(
      factor: factor, attentionFactor: (ext == 1 ? own ?? usual : usual) * attention,
      betaFast: try read("beta_fast") ?? 32, betaSlow: try read("beta_slow") ?? 1, originalPositions: original)
  }

  private func factors(_ name: String, _ gguf: GGUFFile, _ headDimension: Int) throws(FormatError) -> [Double] {
    let count = width(headDimension: headDimension) / 2
    let tensor = try gguf.tensor(name)
    guard tensor.shape == [count] else {
      throw .shape(path: gguf.path, tensor: name, expected: [count], actual: tensor.shape)
    }
    var values = [Float](repeating: 0, count: count)
    try gguf.dequantize(name, rows: 0..<1, into: &values)
    for (index, value) in values.enumerated() where !(value > 0 && value.isFinite) {
      throw .badField(path: gguf.path, field: "\(name)[\(index)]", value: "\(value)", expected: "a positive number")
    }
    return values.map { Double("\($0)") ?? Double($0) }
  }

  /// llama.cpp replaces the parameters of llama3 scaling by their divisors per frequency. The published models use low
  /// 1, high 4 and 8192 positions, and the largest divisor is the factor. Divisors that do not follow from these are
  /// those of LongRoPE with the same list for all lengths.
  func divided(by divisors: [Double], maxPositions: Int) -> Scaling {
    let factor = divisors.max() ?? 1, positions = 8192.0
    guard factor != 1 || divisors.contains(where: { $0 != 1 }) else { return .none }
    let isLlama3 = divisors.enumerated().allSatisfy { index, divisor in
      let wavelength = 2 * Double.pi * pow(theta, Double(index) / Double(divisors.count))
      var expected = 1.0
      if wavelength > positions {
        expected = factor
      } else if wavelength >= positions / 4 {
        let smooth = (positions / wavelength - 1) / 3
        expected = 1 / ((1 - smooth) / factor + smooth)
      }
      return abs(divisor - expected) <= 1e-3 * expected
    }
    guard !isLlama3 else {
      return .llama3(factor: factor, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalPositions: Int(positions))
    }
    return .longrope(
      LongRoPE(
        shortFactors: divisors, longFactors: divisors, attentionFactor: 1, originalPositions: maxPositions))
  }
}
