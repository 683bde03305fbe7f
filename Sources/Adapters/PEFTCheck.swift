import Models
import Tensors

extension PEFTFiles {
  /// Reads back what `save` wrote and compares the tensors and the logits of a few tokens with the model's own, bit for
  /// bit: they are stored in f32, so nothing may be lost. Where the start changed the base, the sums round otherwise:
  /// there the difference may be a thousandth of the logits' deviation, or a quarter where the residual is rounded to
  /// 16 bits. Experts may be read back in another form (`PEFTExperts`), and a sum with more zeros rounds otherwise:
  /// there the matrices alone are compared, see `agree`.
  /// A header-only model has nothing to compare, and of one in stages the tensors are.
  /// - Parameters:
  ///   - directory: holds the files.
  ///   - model: has the adapters that were written; they are off for a moment.
  ///   - path: named in the error in the place of `directory`.
  /// - Throws: `AdapterError.readsBackDifferently`, or what reading the files throws.
  public static func check(_ directory: String, against model: LanguageModel, path: String? = nil) throws {
    guard model.isLoaded else { return }
    let probe = model.probe
    let (own, definition) = (model.modules.map(\.adapter), model.scripted)
    // The layers of stages cannot be computed here, but all adapters are there.
    guard model.stage == nil else {
      let read = try model.withOtherAdapters {
        try load(directory, into: model, definition: definition)
        return model.modules.map(\.adapter)
      }
      let culprit = try zip(model.modules, zip(read, own)).first { try !agree($1.0, $1.1) }
      guard let culprit else { return }
      throw AdapterError.readsBackDifferently(path: path ?? directory, module: culprit.0.name, difference: 0)
    }
    let (expected, ownParts) = (try model.logits(probe).floats(), model.modules.map(\.trained))
    let read = try model.withOtherAdapters {
      try load(directory, into: model, definition: definition)
      return (
        logits: try model.logits(probe).floats(), adapters: model.modules.map(\.adapter),
        parts: model.modules.map(\.trained)
      )
    }
    let pairs = zip(expected, read.logits).filter { $0.bitPattern != $1.bitPattern }
    let differences = pairs.map { Double(abs($0 - $1)) }
    let difference = differences.contains { $0.isNaN } ? .infinity : differences.max() ?? 0
    var isReformed = false
    let culprit = try model.modules.indices.first { index in
      guard try isSame(read.parts[index], ownParts[index]) else { return true }
      if try isSame(read.adapters[index], own[index]) { return false }
      isReformed = true
      return try own[index]?.baseChange == nil && !agree(read.adapters[index], own[index])
    }
    // A token reaches few experts, so logits alone do not tell of all matrices.
    let isOther = difference > tolerance(own, expected) && (!isReformed || own.contains { $0?.baseChange != nil })
    guard culprit != nil || isOther else { return }
    throw AdapterError.readsBackDifferently(
      path: path ?? directory, module: culprit.map { model.modules[$0].name } ?? "none", difference: difference)
  }

  private static func tolerance(_ adapters: [Adapter?], _ logits: [Float]) -> Double {
    let residuals = adapters.compactMap { $0?.baseChange?.residual?.dtype }
    guard !residuals.isEmpty else { return 0 }
    let mean = logits.reduce(0) { $0 + Double($1) } / Double(logits.count)
    let variance = logits.reduce(0) { $0 + (Double($1) - mean) * (Double($1) - mean) } / Double(logits.count)
    return variance.squareRoot() * (residuals.allSatisfy { $0 == .f32 } ? 1e-3 : 0.25)
  }

  /// Whether two adapters compute the same but for the order in which sums are rounded: the same bits, or, for LoRA,
  /// the same rows of A with the same columns of B, zero columns apart. Columns are compared with their scaling, within
  /// four times half a unit of the last place: one for the product of B with what is left of the scaling, one for each
  /// of the two scalings in f32, one to spare.
  private static func agree(_ a: Adapter?, _ b: Adapter?) throws -> Bool {
    if try isSame(a, b) { return true }
    guard let x = try terms(a), let y = try terms(b), x.count == y.count else { return false }
    return zip(x, y).allSatisfy { mine, other in
      mine.row.elementsEqual(other.row)
        && zip(mine.column, other.column).allSatisfy {
          abs($0 - $1) <= 4 * 0x1p-24 * max(abs($0), abs($1)) + Double(Float.leastNonzeroMagnitude)
        }
    }
  }

  /// The rows of A with the columns of scaling * B that are not zero; nil for another method than LoRA of an unchanged
  /// base.
  private static func terms(_ adapter: Adapter?) throws -> [(row: ArraySlice<Float>, column: [Double])]? {
    guard let adapter else { return [] }
    guard let method = adapter.method as? LoRA, adapter.baseChange == nil else { return nil }
    let (a, b, rank) = (try adapter.tensors[0].floats(), try adapter.tensors[1].floats(), method.rank)
    let (width, height) = (a.count / rank, b.count / rank)
    return (0..<rank).compactMap { index in
      let column = (0..<height).map { Double(b[$0 * rank + index]) * method.scaling }
      return column.allSatisfy { $0 == 0 } ? nil : (a[index * width..<(index + 1) * width], column)
    }
  }

  private static func isSame(_ a: Adapter?, _ b: Adapter?) throws -> Bool {
    guard let a, let b else { return a == nil && b == nil }
    guard a.lowRank?.scaling == b.lowRank?.scaling,
      (a.method as? EmbeddingLoRA)?.isTied == (b.method as? EmbeddingLoRA)?.isTied
    else { return false }
    return try isSame(a.tensors, b.tensors)
  }

  private static func isSame(_ a: TrainedParts?, _ b: TrainedParts?) throws -> Bool {
    try isSame([a?.weight, a?.bias].compactMap { $0 }, [b?.weight, b?.bias].compactMap { $0 })
  }

  private static func isSame(_ a: [Tensor], _ b: [Tensor]) throws -> Bool {
    guard a.map(\.shape) == b.map(\.shape) else { return false }
    return try zip(a, b).allSatisfy { mine, other in
      try mine.withHostBytes { x in try other.withHostBytes { y in x.elementsEqual(y) } }
    }
  }
}
