import Formats
import Tokenizers

/// A Hugging Face folder as it is written: config.json, the weights, and what lies beside them.
public enum ModelFolder {
  /// Most bytes of tensors in one file of a saved model, as in transformers.
  public static let shardByteCount = 5_000_000_000

  private static let tokenizerFiles: Set<String> = [
    FileName.tokenizer, FileName.tokenizerConfig, FileName.specialTokens, FileName.addedTokens, FileName.sentencePiece,
    "spiece.model", "sentencepiece.bpe.model", "vocab.json", "merges.txt", "vocab.txt", FileName.chatTemplate,
    "chat_template.json",
  ]

  /// Whether a file of a folder belongs to the tokenizer and its chat templates.
  package static func isOfTokenizer(_ name: String) -> Bool {
    tokenizerFiles.contains(name) || name.hasPrefix(FileName.templateFolder + "/") && name.hasSuffix(".jinja")
  }

  private static func isOfWeights(_ name: String) -> Bool {
    name == FileName.weights || name.wholeMatch(of: /model-\d{5,}-of-\d{5,}\.safetensors/) != nil
  }

  /// What transformers writes beside config and weights. A model is served with these files, so they go along
  /// unchanged.
  private static func companions(of location: ModelLocation?) throws -> [String] {
    guard case .directory(let folder) = location else { return [] }
    return try FileSystem.list(folder, with: [FileName.templateFolder]).filter {
      isOfTokenizer($0) || $0 == FileName.generationConfig
    }
  }

  /// The files that a saved model replaces, and those that would be taken for its own: other weights, an adapter, and a
  /// tokenizer or generation settings where the model has none to put in their place.
  static func format(of location: ModelLocation?, _ tokenizer: Tokenizer?) throws -> FolderFormat {
    let carried = try companions(of: location)
    let hasTokenizer = tokenizer != nil || carried.contains(where: isOfTokenizer)
    let hasGeneration = carried.contains(FileName.generationConfig)
    return FolderFormat(
      key: FileName.config, kindField: "model_type", folders: [FileName.templateFolder],
      owns: { name in
        name == FileName.config || name == FileName.weightIndex || isOfWeights(name)
          || name == FileName.generationConfig && hasGeneration || isOfTokenizer(name) && hasTokenizer
      },
      conflicts: { name in
        if name.hasPrefix(FileName.adapterConfig) || name.hasPrefix("adapter_model.") { return true }
        if name == FileName.generationConfig && !hasGeneration || isOfTokenizer(name) && !hasTokenizer { return true }
        return name.hasSuffix(".safetensors") && !isOfWeights(name) || name.hasPrefix("pytorch_model")
      })
  }

  /// Puts tokenizer and generation settings into a folder: the files of the folder that the model came from, else made
  /// from the tokenizer in memory, also where that is not the folder's.
  static func writeCompanions(
    of location: ModelLocation?, _ tokenizer: Tokenizer?, generation: Bool = true, into stage: String
  ) throws {
    if case .directory(let folder) = location {
      for name in try companions(of: location) where generation || isOfTokenizer(name) {
        try FileSystem.makeDirectory(FileSystem.directoryName("\(stage)/\(name)"))
        try FileSystem.copy("\(folder)/\(name)", to: "\(stage)/\(name)")
      }
    }
    guard let tokenizer else { return }
    if let copied = try? Tokenizer.find(directory: stage), copied.isSame(as: tokenizer) { return }
    for name in tokenizerFiles.union([FileName.templateFolder]) { try FileSystem.remove("\(stage)/\(name)") }
    try tokenizer.save(directory: stage)
  }

  /// Puts a model's tokenizer with its chat templates into a folder; nothing where the model has none.
  /// - Throws: `FormatError`, `TokenizerError`.
  package static func writeTokenizer(of model: LanguageModel, into folder: String) throws {
    // What the model was read from may be gone; the tokenizer is in memory.
    let location = model.origin.isRandom ? nil : try? ModelLocation(model.path, allowsKnownNames: true)
    try writeCompanions(of: location, model.tokenizer, generation: false, into: folder)
  }

  /// Puts a chat template in the place of those that the tokenizer in a folder has; tokenizer_config.json names it too,
  /// for readers that know no file of its own.
  /// - Throws: `FormatError`.
  package static func write(chatTemplate: String, into folder: String) throws {
    try FileSystem.remove("\(folder)/\(FileName.templateFolder)")
    try AtomicFile.write("\(folder)/\(FileName.chatTemplate)", chatTemplate)
    let path = "\(folder)/\(FileName.tokenizerConfig)"
    guard FileSystem.exists(path), var config = try JSON.read(path: path).object else { return }
    config["chat_template"] = .string(chatTemplate)
    try AtomicFile.write(path, JSON.object(config).text(.pythonUnsorted) + "\n")
  }

  /// Reads the configuration back as loading does; it must describe the model that was saved, whatever is said of
  /// stored types.
  static func check(_ stage: String, describes spec: DecoderSpec, path: String) throws {
    var (saved, own) = (try ModelLocation.directory(stage).spec(), spec)
    (saved.storedType, own.storedType) = (nil, nil)
    (saved.quantizationConfig, own.quantizationConfig) = (nil, nil)
    guard saved == own else {
      throw FormatError.readsBackDifferently(path: "\(path)/\(FileName.config)", what: "the configuration")
    }
  }
}
