import Formats
import Tensors
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
        guard allowsKnownNames, Families.published(path) != nil else { throw error }
        self = .known(path)
      }
    } else if allowsKnownNames, Families.published(path) != nil {
      self = .known(path)
    } else {
      throw ModelError.unrecognisedPath(path: path)
    }
  }

  func spec() throws -> DecoderSpec {
    switch self {
    case .directory(let path): return try DecoderSpec.read(path: path)
    case .configuration(let path): return try DecoderSpec.read(path: path)
    case .gguf(let file): return try DecoderSpec(gguf: file)
    case .known(let name):
      guard let spec = try DecoderSpec.known(name: name) else { throw ModelError.unrecognisedPath(path: name) }
      return spec
    }
  }

  func weights() throws -> LoadedSource {
    switch self {
    case .directory(let path): return LoadedSource(try WeightSource(path: path, layout: Families.layout))
    case .gguf(let file): return LoadedSource(try WeightSource(gguf: file, layout: Families.layout))
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

/// An open checkpoint, and the object that keeps its mapping alive for views of its bytes.
struct LoadedSource {
  private let source: WeightSource
  let owner: Keeper

  final class Keeper: Sendable {
    let source: WeightSource
    init(_ source: WeightSource) { self.source = source }
  }

  init(_ source: WeightSource) {
    self.source = source
    owner = Keeper(source)
  }

  var path: String { source.path }
  func contains(_ name: String) -> Bool { source.contains(name) }
  func expect(_ name: String, shape: [Int]) throws { _ = try source.expect(name, shape: shape) }
  func rawBytes(_ name: String) throws -> (bytes: UnsafeRawBufferPointer, dtype: DType)? { try source.rawBytes(name) }

  /// Bytes of a tensor as it is stored.
  func byteCount(_ name: String) -> Int { (try? source.tensor(name).byteCount) ?? 0 }

  /// All rows as f32.
  func read(_ name: String, into target: UnsafeMutablePointer<Float>) throws {
    let tensor = try source.tensor(name)
    try source.read(name, rows: 0..<tensor.rowCount, into: target)
  }

  /// Lets all pages go: also those that the kernel mapped around what was read. Views bring theirs in again.
  func releaseAll() { source.releaseAll() }

  /// Lets the pages of a tensor go that has been copied.
  func release(_ name: String) { try? source.advise(.dontNeed, name) }
}
