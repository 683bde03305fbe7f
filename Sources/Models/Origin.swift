/// Where a model comes from.
public enum Origin: Sendable, Equatable {
  /// A directory, a GGUF file, a config.json, a hub name or the name of a published model.
  case file(String)
  /// Weights were drawn here; no file holds them. The name is for texts alone.
  case random(name: String)

  /// The path or name, for texts.
  public var name: String {
    switch self {
    case .file(let path): path
    case .random(let name): name
    }
  }

  /// Whether no file holds the weights.
  var isRandom: Bool {
    if case .random = self { true } else { false }
  }
}
