import Formats
import Models

/// Modules that transformers 5 calls otherwise than the checkpoints do, which are read by their own names here. PEFT
/// names adapters by the modules of transformers: files are written with its names, and read with either.
enum PEFTNames {
  /// A whole name, or its end behind a layer. Of experts there are no modules any more; see `PEFTExperts`.
  private static let renamed = [
    (own: "embed_out", theirs: "lm_head"), (own: ".block_sparse_moe.gate", theirs: ".mlp.gate"),
  ]

  /// What transformers 5 calls a module.
  static func theirs(_ own: String) -> String {
    replace(own, renamed.map { ($0.own, $0.theirs) }) ?? own
  }

  /// All names by which a file may mean a module, that of transformers 5 first.
  static func all(_ module: Module) -> [String] {
    let theirs = theirs(module.name)
    return theirs == module.name ? [theirs] : [theirs, module.name]
  }

  /// The module that a file calls so.
  static func module(_ name: String, in model: LanguageModel) -> Module? {
    model.module(name) ?? replace(name, renamed.map { ($0.theirs, $0.own) }).flatMap { model.module($0) }
  }

  private static func replace(_ name: String, _ pairs: [(from: String, to: String)]) -> String? {
    for (from, to) in pairs where name == from || from.hasPrefix(".") && name.hasSuffix(from) {
      return name.dropLast(from.count) + to
    }
    return nil
  }
}
