import Models
import Tensors

extension PEFTFiles {
  /// Reads back what `save` wrote and compares the logits of a few tokens with the model's own, bit for bit: the matrices
  /// are stored in f32, so nothing may be lost. A header-only model has nothing to compare.
  /// - Throws: `AdapterError.readsBackDifferently`, or what reading the files throws.
  public static func check(_ directory: String, against model: LanguageModel) throws {
    guard model.isLoaded else { return }
    let vocabulary = model.config.vocabularySize
    let probe = (0..<8).map { Int32($0 * (vocabulary - 1) / 7) }
    let own = model.modules.map(\.adapter)
    let expected = try model.logits(probe).floats()
    model.removeAdapters()
    defer { for (module, adapter) in zip(model.modules, own) { module.adapter = adapter } }
    try load(directory, into: model)
    let got = try model.logits(probe).floats()
    let pairs = zip(expected, got).filter { $0.bitPattern != $1.bitPattern }
    guard !pairs.isEmpty else { return }
    let culprit = try zip(model.modules, own).first { module, adapter in try !isSame(module.adapter, adapter) }
    throw AdapterError.readsBackDifferently(
      path: directory, module: culprit?.0.name ?? "none",
      difference: pairs.reduce(0) { max($0, Double(abs($1.0 - $1.1))) })
  }

  private static func isSame(_ a: LowRankAdapter?, _ b: LowRankAdapter?) throws -> Bool {
    guard let a, let b else { return a == nil && b == nil }
    guard a.scaling == b.scaling, a.rank == b.rank else { return false }
    return try zip(a.parameters, b.parameters).allSatisfy { mine, other in
      try mine.tensor.withHostBytes { x in try other.tensor.withHostBytes { y in x.elementsEqual(y) } }
    }
  }
}
