import Models
import Tensors

/// Low-rank adapters of one rank and one scaling that compute what those of a model compute, for readers that know one
/// of both: A and B are filled up with zeros to the largest rank, and B is multiplied by its scaling over the common
/// one.
struct FoldedAdapters {
  struct Entry {
    let module: Module
    /// f32 [rank, in]
    let a: [Float]
    /// f32 [out, rank]
    let b: [Float]
  }

  let rank: Int
  /// Of the branch of every entry, alpha / rank.
  let scaling: Double
  let entries: [Entry]
  /// Names of the modules whose rank or scaling was another.
  let changed: [String]

  /// - Throws: `AdapterError.nothingToSave`, `.severalInUse`; `.notLowRank` for a method that is no branch of two
  ///   matrices, and for a module of which weight or bias are trained as a whole.
  init(_ model: LanguageModel) throws {
    guard model.namesInUse.count < 2 else { throw AdapterError.severalInUse(names: model.namesInUse) }
    if let module = model.modules.first(where: { $0.trained != nil }), let parts = module.trained {
      throw AdapterError.notLowRank(
        module: module.name,
        what: parts.trainsWeight ? "a weight trained as a whole (modules_to_save)" : "a trained bias (bias)")
    }
    let adapted = model.modules.filter { $0.adapter != nil }
    let branches = try adapted.map { module -> (module: Module, branch: LowRank, scaling: Double) in
      guard let adapter = try module.adapter.map({ try LoRA.ofOriginalBase($0, model) }), let branch = adapter.lowRank
      else {
        throw AdapterError.notLowRank(module: module.name, what: Self.words(module.adapter))
      }
      return (module, branch, (adapter.method as? LoRA)?.scaling ?? Double(branch.scaling))
    }
    guard let first = branches.first else { throw AdapterError.nothingToSave }
    let (rank, scaling) = (branches.map { $0.branch.a.shape[0] }.max() ?? 1, first.scaling)
    var changed: [String] = []
    entries = try branches.map { module, branch, own in
      let (inner, columns, rows) = (branch.a.shape[0], branch.a.shape[1], branch.b.shape[0])
      let factor = own == scaling ? 1 : Float(own / scaling)
      if inner != rank || factor != 1 { changed.append(module.name) }
      let a = try branch.a.floats() + [Float](repeating: 0, count: (rank - inner) * columns)
      let values = try branch.b.floats()
      var b = [Float](repeating: 0, count: rows * rank)
      for row in 0..<rows {
        for column in 0..<inner { b[row * rank + column] = values[row * inner + column] * factor }
      }
      return Entry(module: module, a: a, b: b)
    }
    (self.rank, self.scaling, self.changed) = (rank, scaling, changed)
  }

  private static func words(_ adapter: Adapter?) -> String {
    switch adapter?.method {
    case is EmbeddingLoRA: "LoRA on the embedding"
    case is TrainedTokens: "trained tokens"
    default: "an adapter of the kind \(adapter?.kind ?? "none")"
    }
  }
}
