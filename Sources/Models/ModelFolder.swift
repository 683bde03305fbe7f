import Formats
import Tokenizers

/// A Hugging Face folder as it is written: config.json, the weights, and what lies beside them.
enum ModelFolder {
  static let configName = "config.json"
  static let weightsName = "model.safetensors"
  static let indexName = "model.safetensors.index.json"

  /// What transformers writes beside config and weights. A model is served with these files, so they go along
  /// unchanged.
  static let companions: Set<String> = tokenizerFiles.union(["generation_config.json"])

  private static let tokenizerFiles: Set<String> = [
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
    "spiece.model", "sentencepiece.bpe.model", "vocab.json", "merges.txt", "vocab.txt", "chat_template.jinja",
    "chat_template.json",
  ]

  /// The files that a saved model replaces, and those that would be taken for its weights or an adapter of it.
  static let format = FolderFormat(
    key: configName,
    interrupted: [
      "model_type":
        "INTERRUPTED: a save into this folder did not end. Save again; the new files are in .saving.qlora-tmp-* here"
    ],
    owns: { name in
      name == configName || name == weightsName || name == indexName || companions.contains(name)
        || name.wholeMatch(of: /model-\d{5,}-of-\d{5,}\.safetensors/) != nil
    },
    conflicts: { name in
      if name.hasPrefix("adapter_config.json") || name.hasPrefix("adapter_model.") { return true }
      let isOurs = name == weightsName || name.wholeMatch(of: /model-\d{5,}-of-\d{5,}\.safetensors/) != nil
      return name.hasSuffix(".safetensors") && !isOurs || name.hasPrefix("pytorch_model")
    })

  /// Puts tokenizer and generation settings into a folder: the files of the folder that the model came from, else made
  /// from the tokenizer in memory, also where that is not the folder's.
  static func writeCompanions(of location: ModelLocation?, _ tokenizer: Tokenizer?, into stage: String) throws {
    if case .directory(let folder) = location {
      for name in try FileSystem.list(folder) where companions.contains(name) {
        try FileSystem.copy("\(folder)/\(name)", to: "\(stage)/\(name)")
      }
    }
    guard let tokenizer else { return }
    if let copied = try? Tokenizer.find(directory: stage), copied.isSame(as: tokenizer) { return }
    for name in tokenizerFiles { try FileSystem.remove("\(stage)/\(name)") }
    try tokenizer.save(directory: stage)
  }

  /// Reads the configuration back as loading does; it must describe the model that was saved, whatever is said of stored
  /// types.
  static func check(_ stage: String, describes spec: DecoderSpec, path: String) throws {
    var (saved, own) = (try ModelLocation.directory(stage).spec(), spec)
    (saved.storedType, own.storedType) = (nil, nil)
    (saved.quantizationConfig, own.quantizationConfig) = (nil, nil)
    guard saved == own else {
      throw FormatError.readsBackDifferently(path: "\(path)/\(configName)", what: "the configuration")
    }
  }
}
