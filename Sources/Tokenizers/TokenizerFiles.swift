import Formats

extension Tokenizer {
  /// The tokenizer of a model directory: tokenizer.json, else tokenizer.model; nil when it has neither.
  /// - Throws: as `init(directory:)`.
  public static func find(directory: String) throws -> Tokenizer? {
    guard
      FileSystem.exists(directory + "/" + FileName.tokenizer)
        || FileSystem.exists(directory + "/" + FileName.sentencePiece)
    else {
      return nil
    }
    return try Tokenizer(directory: directory)
  }

  /// Jinja source of the default chat template that lies in a directory, which need not hold a tokenizer; nil without
  /// one.
  /// - Throws: `TokenizerError.badField`; `FormatError.json`, `FormatError.system`, `FormatError.duplicate`.
  package static func chatTemplate(directory: String) throws -> String? {
    var settings = TokenizerSettings()
    let path = directory + "/" + FileName.tokenizerConfig
    if FileSystem.exists(path) { settings.config = try TokenizerSettings.object(path).json }
    try settings.readTemplates(directory)
    return settings.chatTemplate
  }

  /// Whether both were made from the same description and settings.
  package func isSame(as other: Tokenizer) -> Bool {
    let (a, b) = (settings, other.settings)
    return description == other.description && a.config == b.config && a.chatTemplate == b.chatTemplate
      && a.namedTemplates == b.namedTemplates
      && [a.bos, a.eos, a.pad, a.unknown] == [b.bos, b.eos, b.pad, b.unknown]
  }

  /// Reads tokenizer.json (else tokenizer.model), and beside it tokenizer_config.json, special_tokens_map.json,
  /// added_tokens.json and chat_template.jinja.
  /// - Throws: `TokenizerError.noTokenizer`; `TokenizerError.unsupported`, `badField`, `missingField`, `badProtobuf`,
  ///   `tooDeep`, `grows` or `regexSyntax` naming the file; `FormatError.json`, `FormatError.system`,
  ///   `FormatError.duplicate`.
  public convenience init(directory: String) throws {
    let settings = try TokenizerSettings(directory: directory)
    let path = directory + "/" + FileName.tokenizer
    if FileSystem.exists(path) {
      let description = try JSON.read(path: path)
      try settings.checkPrefixSpace(of: description, file: directory + "/" + FileName.tokenizerConfig)
      try self.init(description: description, settings: settings, file: path)
      return
    }
    let model = directory + "/" + FileName.sentencePiece
    guard FileSystem.exists(model) else { throw TokenizerError.noTokenizer(directory: directory) }
    let pieces = try SentencePieceModel(path: model)
    try self.init(spec: try pieces.spec(settings: settings), file: model)
  }

  /// Writes tokenizer.json and tokenizer_config.json into a directory, which is made where absent. Each file appears
  /// whole or not at all.
  /// - Throws: `FormatError.system`.
  public func save(directory: String) throws {
    try FileSystem.makeDirectory(directory)
    try AtomicFile.write(directory + "/" + FileName.tokenizer, description.text(.compact))
    var config = settings.config?.object ?? JSONObject()
    if settings.config == nil {
      config["tokenizer_class"] = "PreTrainedTokenizerFast"
      config["clean_up_tokenization_spaces"] = false
    }
    let roles = [
      ("bos_token", settings.bos), ("eos_token", settings.eos), ("pad_token", settings.pad),
      ("unk_token", settings.unknown),
    ]
    for (key, token) in roles { config[key] = token.map { .string($0) } }
    config["chat_template"] = templates
    try AtomicFile.write(directory + "/" + FileName.tokenizerConfig, JSON.object(config).text(.pythonUnsorted) + "\n")
  }
}

extension Tokenizer {
  /// One template as a text, several as a list of names and texts.
  private var templates: JSON? {
    if settings.namedTemplates.isEmpty { return settings.chatTemplate.map { .string($0) } }
    var all = settings.namedTemplates
    all["default"] = settings.chatTemplate
    return .array(
      all.sorted { $0.key < $1.key }.map {
        .object(JSONObject([("name", .string($0.key)), ("template", .string($0.value))]))
      })
  }
}

extension TokenizerSettings {
  /// transformers' GPT-2 and Qwen2 classes take the flag of tokenizer_config.json, all others that of tokenizer.json.
  fileprivate func checkPrefixSpace(of description: JSON, file: String) throws {
    guard let wanted = config?["add_prefix_space"]?.bool, let name = config?["tokenizer_class"]?.string,
      name.hasPrefix("GPT2Tokenizer") || name.hasPrefix("Qwen2Tokenizer")
    else { return }
    let whole = description["pre_tokenizer"]
    let steps = whole?["pretokenizers"]?.array ?? whole.map { [$0] } ?? []
    for step in steps where step["type"] == "ByteLevel" && step["add_prefix_space"]?.bool != wanted {
      throw TokenizerError.badField(
        file: file, field: "add_prefix_space", value: "\(wanted)", expected: "\(!wanted), as tokenizer.json has it")
    }
  }
}
