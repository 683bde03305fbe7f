import Formats
import Models
import Tensors

/// VeRA in adapter_config.json (PEFT 0.21, VeraConfig).
extension VeRA {
  /// Those of the first adapter: one set has one pair of matrices.
  /// - Throws: `AdapterError.nothingToSave`; `.mixedMethods` for two pairs.
  public static func configuration(_ adapters: [(module: String, method: VeRA)]) throws -> [(String, JSON)] {
    guard let (name, first) = adapters.first else { throw AdapterError.nothingToSave }
    for (other, method) in adapters where method.projections.a !== first.projections.a {
      throw AdapterError.mixedMethods(
        modules: [name, other], names: ["vera with one pair of matrices", "vera with another"])
    }
    return [
      ("r", .int(first.projections.a.shape[0])), ("projection_prng_key", .int(first.projections.key)),
      ("save_projection", .bool(first.projections.isSaved)), ("vera_dropout", .number(first.dropout)),
      ("d_initial", .number(first.start)), ("bias", "none"), ("fan_in_fan_out", false), ("init_weights", true),
      ("layers_to_transform", .null), ("layers_pattern", .null),
    ]
  }

  /// Not without what the file holds besides.
  /// - Throws: `AdapterError.missingTensor`.
  public static func reader(_ configuration: JSON, path: String) throws -> AdapterReader {
    throw AdapterError.missingTensor(path: path, name: "base_model." + sharedNames[0])
  }

  /// With `save_projection` the matrices are those of the file, which must be there; without they are drawn again, as
  /// PEFT does with the key and the largest sizes of the modules.
  /// - Throws: `AdapterError.badField`, `.missingTensor`, `.shapeMismatch`; `FormatError`, `TensorError`.
  public static func reader(
    _ configuration: JSON, path: String, _ content: AdapterFileContent
  ) throws -> AdapterReader {
    try table.check(configuration, path: path)
    func bad(_ field: String, _ expected: String) -> AdapterError {
      .badField(path: path, field: field, expected: expected)
    }
    guard let rank = configuration["r"]?.int, (1...65536).contains(rank) else {
      throw bad("r", "an integer from 1 to 65536")
    }
    guard let isSaved = (configuration["save_projection"] ?? true).bool else {
      throw bad("save_projection", "true or false")
    }
    let dropout = try configuration["vera_dropout"]?.unlessNull.map { value in
      guard let number = value.double, number >= 0, Float(number) < 1 else {
        throw bad("vera_dropout", "a number in [0, 1)")
      }
      return number
    }
    let key = (configuration["projection_prng_key"] ?? 0).int
    let projections =
      try isSaved
      ? stored(content, rank: rank, key: key ?? 0, path: path)
      : Projections(
        rank: rank,
        key: try key.flatMap { UInt32(exactly: $0) }.map(Int.init)
          .orThrow(
            bad(
              "projection_prng_key",
              "a whole number from 0 to 2^32 - 1: the file has no vera_A and vera_B, so they can only be drawn again")),
        for: content.modules, isSaved: false, on: content.backend)
    let start = configuration["d_initial"]?.double ?? 0.1
    return { _, _ in VeRA(projections, dropout: dropout ?? 0, start: start) }
  }

  private static func stored(
    _ content: AdapterFileContent, rank: Int, key: Int, path: String
  ) throws -> Projections {
    let found = try sharedNames.map { name in
      try content.shared(name).orThrow(AdapterError.missingTensor(path: path, name: "base_model." + name))
    }
    let (width, height) = (content.modules.map(\.inFeatures).max() ?? 1, content.modules.map(\.outFeatures).max() ?? 1)
    let (a, b) = (found[0], found[1])
    for (name, tensor, axis, least) in [("vera_A", a, 0, width), ("vera_B", b, 1, height)] {
      guard tensor.rank == 2, tensor.shape[axis] == rank, tensor.shape[1 - axis] >= least else {
        throw AdapterError.shapeMismatch(
          path: path, tensor: "base_model." + name, expected: axis == 0 ? [rank, least] : [least, rank],
          got: tensor.shape)
      }
    }
    return Projections(a: a, b: b, key: key, isSaved: true)
  }

  /// The keys of adapter_config.json for VeRA: those of PEFT 0.21.2 (PeftConfig and VeraConfig).
  package static let table = FieldTable(
    PEFTTable.common + [
      FieldTable.Row(["r", "projection_prng_key", "save_projection"], .honoured),
      FieldTable.Row(["vera_dropout", "layers_to_transform", "layers_pattern"], .nullable),
      FieldTable.Row(["bias"], .only([.null, "none", "all", "vera_only"], "no other words are known")),
      FieldTable.Row(["d_initial", "init_weights"], .harmless("how the vectors start; the file has them")),
    ], unknown: .refused)
}

extension Optional {
  /// The value, or the error where there is none.
  func orThrow(_ error: @autoclosure () -> some Error) throws -> Wrapped {
    guard let self else { throw error() }
    return self
  }
}
