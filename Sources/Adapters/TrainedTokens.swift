import Autograd
import Formats
import Models
import Tensors

/// Rows of the embedding that are trained, and others that are not: PEFT's `trainable_token_indices`. The trained rows
/// [tokens, width] take the places of the base's, also where the embedding is the output matrix too.
public struct TrainedTokens: EmbeddingMethod {
  /// PEFT's name of the method where a file has nothing else.
  public static let peftType = "TRAINABLE_TOKENS"
  static let nameAlone = "trainable_tokens_delta"
  static let nameBeside = "token_adapter." + nameAlone

  /// The trained rows, each once.
  public var tokens: [Int32]
  /// Whether a file has nothing else, which has another name for them then.
  public var isAlone: Bool
  /// Multiplies the learning rate.
  public var learningRateFactor: Double

  /// Trains these rows.
  public init(_ tokens: [Int32], isAlone: Bool = false, learningRateFactor: Double = 1) {
    self.tokens = tokens
    self.isAlone = isAlone
    self.learningRateFactor = learningRateFactor
  }

  /// How many rows.
  public var settings: [(name: String, value: JSON)] {
    [("tokens", .int(tokens.count)), ("first", .int(Int(tokens.first ?? 0)))]
  }

  /// Always.
  public var reachesOutput: Bool { true }

  /// Checks the tokens.
  /// - Throws: `AdapterError.badNumber` for one that is no row or named twice, `.badStart` for a module that is no
  ///   embedding, `.nothingSelected` for none.
  public func check(_ module: Module) throws {
    guard module.kind == .embedding else {
      throw AdapterError.badStart(module: module.name, name: "tokens", reason: "it is no embedding")
    }
    guard !tokens.isEmpty else { throw AdapterError.nothingSelected }
    var seen: Set<Int32> = []
    for token in tokens where token < 0 || Int(token) >= module.outFeatures || !seen.insert(token).inserted {
      throw AdapterError.badNumber(
        module: module.name, name: "token", value: Double(token),
        expected: "each of 0 to \(module.outFeatures - 1) at most once")
    }
  }

  /// The rows [tokens, width].
  public func parameters(of module: Module) -> [AdapterParameter] {
    [
      AdapterParameter(
        isAlone ? TrainedTokens.nameAlone : TrainedTokens.nameBeside, [tokens.count, module.inFeatures],
        learningRateFactor: learningRateFactor)
    ]
  }

  /// To the rows of the base.
  /// - Throws: `ModelError.notLoaded`; `TensorError` when the device fails.
  public func initialize(_ tensors: [Tensor], of module: Module, seed: UInt64) throws {
    try tensors[0].backend.copy(try original(of: module, on: tensors[0].backend), into: tensors[0])
  }

  private func original(of module: Module, on backend: any Backend) throws -> Tensor {
    guard let table = module.linearWeight else { throw ModelError.notLoaded(module: module.name) }
    return try GradientMode.disabled {
      try embedding(table, ids: try Tensor(ids: tokens, on: backend), dtype: .f32)
    }
  }

  /// The rows with the trained ones in the places of theirs.
  /// - Throws: what its operations throw, such as `TensorError.outOfMemory`.
  public func embed(_ tensors: [Tensor], ids: [Int32], rows: Tensor, of module: Module) throws -> Tensor {
    let places = Dictionary(uniqueKeysWithValues: tokens.enumerated().map { ($1, Int32($0)) })
    // Also where none of them is there, so that they have a gradient, of zero.
    let own = try embedding(
      tensors[0], ids: try Tensor(ids: ids.map { places[$0] ?? 0 }, on: rows.backend), dtype: .f32)
    let chosen = ids.map { places[$0] == nil ? Float(0) : 1 }
    let trained = try Tensor(chosen, shape: [ids.count, 1], on: rows.backend)
    let frozen = try Tensor(chosen.map { 1 - $0 }, shape: [ids.count, 1], on: rows.backend)
    return try binary(.add, try binary(.multiply, rows, frozen), try binary(.multiply, own, trained))
  }

  /// How far the rows are from those of the base, to the columns of their tokens.
  /// - Throws: what its operations throw, such as `TensorError.outOfMemory`.
  public func outputBranch(_ tensors: [Tensor], of module: Module, _ context: ForwardContext) throws -> LowRank {
    let backend = tensors[0].backend
    var places = [Float](repeating: 0, count: module.outFeatures * tokens.count)
    for (column, token) in tokens.enumerated() { places[Int(token) * tokens.count + column] = 1 }
    return LowRank(
      a: try binary(.subtract, tensors[0], try original(of: module, on: backend)),
      b: try Tensor(places, shape: [module.outFeatures, tokens.count], on: backend), scaling: 1)
  }

  /// Puts the rows into the weight.
  /// - Throws: what the device reports.
  public func merge(_ tensors: [Tensor], weight: Tensor, bias: Tensor?) throws {
    for (row, token) in tokens.enumerated() {
      try weight.backend.copy(
        try tensors[0].narrowed(0, row..<row + 1), into: try weight.narrowed(0, Int(token)..<Int(token) + 1))
    }
  }

  /// A pass over the rows; with a tied output matrix its product is counted too, as the module is not asked which it
  /// is.
  public func work(of module: Module) -> AdapterWork {
    AdapterWork(
      products: 2 * Double(tokens.count) * Double(module.inFeatures + module.outFeatures),
      passed: 4 * Double(module.inFeatures))
  }

  /// The tokens of the one embedding.
  public static func configuration(_ adapters: [(module: String, method: TrainedTokens)]) -> [(String, JSON)] {
    let tokens = adapters.first?.method.tokens ?? []
    return [("token_indices", .array(tokens.map { .int(Int($0)) })), ("init_weights", true)]
  }

  /// Of a file that has nothing else.
  /// - Throws: `AdapterError.badField`, `FormatError`.
  public static func reader(_ configuration: JSON, path: String) throws -> AdapterReader {
    try table.check(configuration, path: path)
    let tokens = try list(configuration["token_indices"], "token_indices", path: path)
    return { module, _ in try checked(TrainedTokens(tokens, isAlone: true), module, "token_indices", path: path) }
  }

  static func list(_ value: JSON?, _ field: String, path: String) throws -> [Int32] {
    let numbers = value?.array?.compactMap { $0.int.flatMap { Int32(exactly: $0) } } ?? []
    guard !numbers.isEmpty, numbers.count == value?.array?.count else {
      throw AdapterError.badField(path: path, field: field, expected: "a list of token ids")
    }
    return numbers
  }

  /// What a file names must be tokens of the model.
  static func checked(
    _ method: TrainedTokens, _ module: Module, _ field: String, path: String
  ) throws -> TrainedTokens {
    guard module.kind == .embedding else {
      throw AdapterError.unsupported(
        path: path, field: field, value: "tokens of \(module.name) instead of the embedding")
    }
    do { try method.check(module) } catch AdapterError.badNumber {
      throw AdapterError.badField(
        path: path, field: field, expected: "ids from 0 to \(module.outFeatures - 1), each once")
    }
    return method
  }

  /// The keys of adapter_config.json for trained tokens alone: those of PEFT 0.21.2 (PeftConfig and
  /// TrainableTokensConfig).
  package static let table = FieldTable(
    PEFTTable.common + [
      FieldTable.Row(["token_indices"], .honoured),
      FieldTable.Row(["init_weights"], .harmless("how the rows start; the file has them")),
    ], unknown: .refused)
}
