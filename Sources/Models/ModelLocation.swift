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
    } else if FileSystem.exists(path) {
      throw ModelError.unrecognisedPath(path: path)
    } else if HubName.looksLikeModel(path) {
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

  func spec() throws -> DecoderSpec { try specAndNotices().spec }

  /// The spec with the end tokens of generation_config.json too, and what is to be said about the files it is from.
  func specAndNotices() throws -> (spec: DecoderSpec, said: [String]) {
    switch self {
    case .directory(let path):
      var (spec, said) = try DecoderSpec.readWithNotices(path: path)
      let generation = try GenerationFields.read(folder: path)
      for id in generation.endTokens where !spec.eosTokenIDs.contains(id) { spec.eosTokenIDs.append(id) }
      try spec.validate(path: path + "/" + FileName.generationConfig)
      return (spec, said + generation.said + Self.adapterBeside(path))
    case .configuration(let path): return try DecoderSpec.readWithNotices(path: path)
    case .gguf(let file):
      let spec = try DecoderSpec(gguf: file)
      guard let family = Families.named(spec.modelType), let architecture = family.ggufArchitecture else {
        return (spec, [])
      }
      return (spec, try GGUFFields(file: file, architecture: architecture).check(family))
    case .known(let name):
      guard let spec = try DecoderSpec.known(name: name) else { throw ModelError.unrecognisedPath(path: name) }
      return (spec, [])
    }
  }

  /// transformers adds an adapter that lies beside the weights to them.
  private static func adapterBeside(_ folder: String) -> [String] {
    let name = FileName.adapterConfig
    guard FileSystem.exists("\(folder)/\(name)") else { return [] }
    return [
      "\(folder): an adapter lies beside the weights (\(name)); the base alone is read, unless this folder is named as "
        + "the adapter too"
    ]
  }

  func weights() throws -> LoadedSource {
    switch self {
    case .directory(let path):
      let file = "\(path)/\(FileName.config)"
      let config = FileSystem.exists(file) ? try JSON.read(path: file) : .null
      let type = config["model_type"]?.string
      let part = Families.multimodal(type), family = part?.family ?? type.flatMap(Families.named)
      let names = family.map { part == nil ? $0.outerNames : MultimodalFamily.names($0.outerNames) }
      let quantization =
        config["quantization_config"]?.unlessNull ?? config["text_config"]?["quantization_config"]?.unlessNull
      return LoadedSource(
        try WeightSource(
          path: path, layout: Families.layout,
          renaming: { tensor in
            guard let name = part == nil ? tensor : part?.whole.rename(tensor) else { return nil }
            return names?.whole(name) ?? name
          }, fp8: try FP8Config.scales(quantization, path: file), stacks: family?.tensorStacks ?? TensorStacks()))
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
  /// All tensors that have a Hugging Face name, and those of a GGUF file that have none.
  var names: [String] { source.tensors.map(\.name) }
  var strangers: [String] { source.strangers }
  /// Tensors of other parts than the model.
  var passedOver: [String] { source.passedOver }
  /// What is to be said about the files.
  var said: [String] { source.said }
  /// Whether weights are stored in fp8.
  var hasFP8: Bool { source.hasFP8 }
  func expect(_ name: String, shape: [Int]) throws { _ = try source.expect(name, shape: shape) }
  func rawBytes(_ name: String) throws -> (bytes: UnsafeRawBufferPointer, dtype: DType)? { try source.rawBytes(name) }

  /// The stored form of a matrix in a block format; nil for other tensors.
  func blocks(_ name: String) throws -> StoredBlocks? { try source.blocks(name) }

  /// The block format in which a tensor is stored; nil where it is in none.
  func blockFormat(_ name: String) throws -> GGMLType? { try source.blockFormat(name) }

  /// The float dtype in which a tensor is stored; nil where it has none.
  func floatType(_ name: String) throws -> DType? { try source.floatType(name) }

  /// Whether two tensors of one shape hold the same numbers, read by blocks of rows.
  func isSame(_ one: String, _ other: String) throws -> Bool {
    let (rows, length) = (try source.tensor(one).rowCount, try source.tensor(one).rowLength)
    let block = max(1, (1 << 16) / max(1, length))
    var values = [Float](repeating: 0, count: block * length), others = values
    for start in stride(from: 0, to: rows, by: block) {
      let part = start..<min(start + block, rows)
      try source.read(one, rows: part, into: &values)
      try source.read(other, rows: part, into: &others)
      if zip(values, others).prefix(part.count * length).contains(where: { $0 != $1 }) { return false }
    }
    return true
  }

  /// Bytes of a tensor as it is stored.
  func byteCount(_ name: String) -> Int { (try? source.tensor(name).byteCount) ?? 0 }

  /// All rows as f32.
  func read(_ name: String, into target: UnsafeMutablePointer<Float>) throws {
    let tensor = try source.tensor(name)
    try source.read(name, rows: 0..<tensor.rowCount, into: target)
  }

  /// Some rows as f32.
  func read(_ name: String, rows: Range<Int>, into target: UnsafeMutablePointer<Float>) throws {
    try source.read(name, rows: rows, into: target)
  }

  /// Lets all pages go: also those that the kernel mapped around what was read. Views bring theirs in again.
  func releaseAll() { source.releaseAll() }

  /// Lets the pages of a tensor go that has been copied.
  func release(_ name: String) { try? source.advise(.dontNeed, name) }
}
