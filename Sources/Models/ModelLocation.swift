import Formats
import Tokenizers

/// Where a model lies and of what kind it is.
enum ModelLocation {
  case directory(String)
  case gguf(GGUFFile)
  case configuration(String)
  case known(String)

  /// - Throws: `ModelError.unrecognisedPath`, `FormatError.notCached`.
  init(_ path: String, allowsKnownNames: Bool) throws {
    if FileSystem.isDirectory(path) {
      self = .directory(path)
    } else if path.hasSuffix(".gguf") {
      self = .gguf(try GGUFFile(path: path))
    } else if path.hasSuffix(".json"), FileSystem.exists(path), allowsKnownNames {
      self = .configuration(path)
    } else if path.split(separator: "/").count == 2, !path.hasPrefix("."), !path.hasPrefix("/"), !path.hasSuffix("/") {
      do {
        self = .directory(try HubCache.resolve(path))
      } catch {
        guard allowsKnownNames, ModelConfig.known(name: path) != nil else { throw error }
        self = .known(path)
      }
    } else if allowsKnownNames, ModelConfig.known(name: path) != nil {
      self = .known(path)
    } else {
      throw ModelError.unrecognisedPath(path: path)
    }
  }

  func config() throws -> ModelConfig {
    switch self {
    case .directory(let path): return try ModelConfig(directory: path)
    case .configuration(let path): return try ModelConfig(path: path)
    case .gguf(let file): return try ModelConfig(gguf: file)
    case .known(let name):
      guard let config = ModelConfig.known(name: name) else { throw ModelError.unrecognisedPath(path: name) }
      return config
    }
  }

  func weights(_ config: ModelConfig) throws -> any WeightSource {
    switch self {
    case .directory(let path): return CheckpointSource(try Checkpoint(directory: path))
    case .gguf(let file): return try GGUFSource(file, config: config)
    case .configuration(let path), .known(let path): throw ModelError.unrecognisedPath(path: path)
    }
  }

  func tokenizer() throws -> Tokenizer? {
    switch self {
    case .directory(let path): return try Tokenizer.find(directory: path)
    case .gguf(let file): return try Tokenizer(gguf: file)
    case .configuration, .known: return nil
    }
  }
}
