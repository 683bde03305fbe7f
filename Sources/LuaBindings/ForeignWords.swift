import LuaRuntime

/// Words of other programs (PEFT, transformers, Python) in the place of a name: the library knows what to write instead
/// (stdlib/qlora/suggest.lua), and errors of native functions ask it.
package enum ForeignWords {
  /// What to write instead of a word that stands in the place of a name.
  ///
  /// - Parameters:
  ///   - word: the word.
  ///   - known: the names that are possible there.
  ///   - state: whose library is asked.
  /// - Returns: the remedy with the sign that joins it to a message; nil for a word that nobody knows.
  package static func remedy(for word: String, among known: [String] = [], in state: LuaState) -> String? {
    let library = state.globals["package"].asTable?["loaded"].asTable?["qlora.suggest"].asTable
    guard let ask = library?["foreign"].asFunction else { return nil }
    let names = state.list(known.map { .string($0) })
    return try? ask.call([.string(word), .table(names)]).first?.asString
  }

  /// The message of an error about an unknown option or field whose name is such a word; nil for any other.
  static func words(for error: any Error, in state: LuaState) -> String? {
    guard let error = error as? BindingError, let unknown = error.unknown else { return nil }
    return remedy(for: unknown.name, among: unknown.known, in: state).map { unknown.head + $0 }
  }
}
