import Models
import Tensors

extension PEFTFiles {
  /// Reads back what `save` wrote and compares the logits of a few tokens with the model's own, bit for bit: the tensors
  /// are stored in f32, so nothing may be lost. A header-only model has nothing to compare.
  /// - Parameters:
  ///   - directory: holds the files.
  ///   - model: has the adapters that were written; they are off for a moment.
  ///   - path: named in the error in the place of `directory`.
  /// - Throws: `AdapterError.readsBackDifferently`, or what reading the files throws.
  public static func check(_ directory: String, against model: LanguageModel, path: String? = nil) throws {
    guard model.isLoaded else { return }
    let probe = model.probe
    let own = model.modules.map(\.adapters.first)
    let expected = try model.logits(probe).floats()
    let read = try model.withOtherAdapters {
      try load(directory, into: model)
      return (logits: try model.logits(probe).floats(), adapters: model.modules.map(\.adapters.first))
    }
    let pairs = zip(expected, read.logits).filter { $0.bitPattern != $1.bitPattern }
    guard !pairs.isEmpty else { return }
    let culprit = try zip(model.modules, zip(read.adapters, own)).first { try !isSame($1.0, $1.1) }
    throw AdapterError.readsBackDifferently(
      path: path ?? directory, module: culprit?.0.name ?? "none",
      difference: pairs.reduce(0) { max($0, Double(abs($1.0 - $1.1))) })
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
