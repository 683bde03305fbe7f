import Models
import Tensors

extension PEFTFiles {
  /// Reads back what `save` wrote and compares the logits of a few tokens with the model's own, bit for bit: the tensors
  /// are stored in f32, so nothing may be lost. Where the start changed the base, the sums round otherwise: there the
  /// difference may be a thousandth of the logits' deviation, or a quarter where the residual is rounded to 16 bits.
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
      let culprit = try zip(model.modules, zip(read, own)).first { try !isSame($1.0, $1.1) }
      guard let culprit else { return }
      throw AdapterError.readsBackDifferently(path: path ?? directory, module: culprit.0.name, difference: 0)
    }
    let expected = try model.logits(probe).floats()
    let read = try model.withOtherAdapters {
      try load(directory, into: model, definition: definition)
      return (logits: try model.logits(probe).floats(), adapters: model.modules.map(\.adapter))
    }
    let pairs = zip(expected, read.logits).filter { $0.bitPattern != $1.bitPattern }
    let differences = pairs.map { Double(abs($0 - $1)) }
    let difference = differences.contains { $0.isNaN } ? .infinity : differences.max() ?? 0
    guard difference > tolerance(own, expected) else { return }
    let culprit = try zip(model.modules, zip(read.adapters, own)).first { try !isSame($1.0, $1.1) }
    throw AdapterError.readsBackDifferently(
      path: path ?? directory, module: culprit?.0.name ?? "none",
      difference: difference)
  }

  private static func tolerance(_ adapters: [Adapter?], _ logits: [Float]) -> Double {
    let residuals = adapters.compactMap { $0?.baseChange?.residual?.dtype }
    guard !residuals.isEmpty else { return 0 }
    let mean = logits.reduce(0) { $0 + Double($1) } / Double(logits.count)
    let variance = logits.reduce(0) { $0 + (Double($1) - mean) * (Double($1) - mean) } / Double(logits.count)
    return variance.squareRoot() * (residuals.allSatisfy { $0 == .f32 } ? 1e-3 : 0.25)
  }

  private static func isSame(_ a: Adapter?, _ b: Adapter?) throws -> Bool {
    guard let a, let b else { return a == nil && b == nil }
    guard a.lowRank?.scaling == b.lowRank?.scaling, a.tensors.map(\.shape) == b.tensors.map(\.shape) else {
      return false
    }
    return try zip(a.tensors, b.tensors).allSatisfy { mine, other in
      try mine.withHostBytes { x in try other.withHostBytes { y in x.elementsEqual(y) } }
    }
  }
}
