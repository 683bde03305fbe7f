import Formats
import Models

extension LoRA {
  /// Rank and alpha of a module come from `r` and `lora_alpha`, or from the first key of `rank_pattern` and
  /// `alpha_pattern` that matches its name. With `use_dora` the methods are `DoRA`. Settings that would change the
  /// arithmetic and are not implemented are errors, never ignored; see `PEFTTable`.
  /// - Throws: `AdapterError.badField`, `FormatError`. The reader that is returned throws nothing but `badField`.
  public static func reader(_ configuration: JSON, path: String) throws -> AdapterReader {
    try PEFTTable.table.check(configuration, path: path)
    let (_, hasMagnitude, method) = try settings(configuration, path: path)
    let embedding = try PEFTEmbedding(configuration, path: path)
    return { module, shapes in
      let low = try method(PEFTNames.all(module))
      if module.kind == .embedding {
        return try embedding.method(of: module, shapes, low, hasMagnitude: hasMagnitude)
      }
      guard shapes[TrainedTokens.nameBeside] == nil else {
        throw AdapterError.unsupported(
          path: path, field: "trainable_token_indices",
          value: "tokens of \(module.name) instead of the embedding")
      }
      return hasMagnitude ? DoRA(low) : low
    }
  }

  /// The rank where no pattern matches, whether there are lengths too (`use_dora`), and the settings by the names of a
  /// module or a parameter.
  static func settings(
    _ configuration: JSON, path: String
  ) throws -> (rank: Int, hasMagnitude: Bool, method: ([String]) throws -> LoRA) {
    let settings = try Settings(path: path, configuration)
    return (
      settings.rank, settings.hasMagnitude,
      { names in
        LoRA(
          rank: try settings.rank(names), alpha: try settings.alpha(names), dropout: settings.dropout,
          rankStabilised: settings.rankStabilised)
      }
    )
  }
}

/// The fields of adapter_config.json that matter for the arithmetic.
private struct Settings {
  let rank: Int
  private let alpha: Double
  let dropout: Double
  let rankStabilised: Bool
  let hasMagnitude: Bool
  private let ranks: [(pattern: Pattern, value: Int)]
  private let alphas: [(pattern: Pattern, value: Double)]

  init(path: String, _ json: JSON) throws {
    func bad(_ field: String, _ expected: String) -> AdapterError {
      .badField(path: path, field: field, expected: expected)
    }
    func wholeRank(_ value: JSON?, _ field: String) throws -> Int {
      guard let rank = value?.int, (1...65536).contains(rank) else { throw bad(field, "an integer from 1 to 65536") }
      return rank
    }
    func finite(_ value: JSON?, _ field: String) throws -> Double {
      guard let number = value?.double, Float(number).isFinite else { throw bad(field, "a finite number") }
      return number
    }
    func patterns<T>(_ field: String, _ read: (JSON?, String) throws -> T) throws -> [(pattern: Pattern, value: T)] {
      guard let value = json[field], !value.isNull else { return [] }
      guard let members = value.object else { throw bad(field, "an object of modules") }
      return try members.map { key, value in
        // PEFT: re.match(rf"(.*\.)?({key})$", name)
        (try Pattern(#"(.*\.)?("# + key + ")$", field: field, path: path), try read(value, "\(field).\(key)"))
      }
    }
    rank = try wholeRank(json["r"], "r")
    alpha = try finite(json["lora_alpha"], "lora_alpha")
    dropout = try json["lora_dropout"]?.unlessNull.map { try finite($0, "lora_dropout") } ?? 0
    guard dropout >= 0, Float(dropout) < 1 else { throw bad("lora_dropout", "a number in [0, 1)") }
    func flag(_ field: String) throws -> Bool {
      guard let value = (json[field]?.unlessNull ?? false).bool else { throw bad(field, "true or false") }
      return value
    }
    rankStabilised = try flag("use_rslora")
    hasMagnitude = try flag("use_dora")
    ranks = try patterns("rank_pattern", wholeRank)
    alphas = try patterns("alpha_pattern", finite)
  }

  /// First matching pattern wins, as in PEFT.
  func rank(_ names: [String]) throws -> Int {
    try ranks.first { row in try names.contains { try row.pattern.prefix(of: $0) != nil } }?.value ?? rank
  }

  func alpha(_ names: [String]) throws -> Double {
    try alphas.first { row in try names.contains { try row.pattern.prefix(of: $0) != nil } }?.value ?? alpha
  }
}
