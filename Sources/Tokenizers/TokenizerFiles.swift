import Formats

/// What stands beside the tokenizer proper: the roles of tokens and the chat template.
struct TokenizerSettings: Sendable {
  var bos: String?
  var eos: String?
  var pad: String?
  var unknown: String?
  var chatTemplate: String?
  /// tokenizer_config.json as it was read, so that saving keeps what is not understood here.
  var config: JSON?
}

extension Tokenizer {
  /// The tokenizer of a model directory: tokenizer.json, else tokenizer.model; nil when it has neither.
  /// - Throws: as `init(directory:)`.
  public static func find(directory: String) throws -> Tokenizer? {
    guard FileSystem.exists(directory + "/tokenizer.json") || FileSystem.exists(directory + "/tokenizer.model") else {
      return nil
    }
    return try Tokenizer(directory: directory)
  }

  /// Reads tokenizer.json (else tokenizer.model), tokenizer_config.json, special_tokens_map.json and
  /// chat_template.jinja.
  /// - Throws: `TokenizerError.noTokenizer`; `TokenizerError.unsupported`, `badField`, `missingField`, `badProtobuf` or
  ///   `regexSyntax` naming the file; `FormatError.json`, `FormatError.system`, `FormatError.duplicate`.
  public convenience init(directory: String) throws {
    let settings = try TokenizerSettings(directory: directory)
    let path = directory + "/tokenizer.json"
    if FileSystem.exists(path) {
      try self.init(description: try JSON.read(path: path), settings: settings, file: path)
      return
    }
    let model = directory + "/tokenizer.model"
    guard FileSystem.exists(model) else { throw TokenizerError.noTokenizer(directory: directory) }
    let pieces = try SentencePieceModel(path: model)
    try self.init(spec: try pieces.spec(settings: settings), file: model)
  }

  /// Writes tokenizer.json and tokenizer_config.json into a directory, which is made where absent. Each file appears whole or not at all.
  /// - Throws: `FormatError.system`.
  public func save(directory: String) throws {
    try FileSystem.makeDirectory(directory)
    try AtomicFile.write(directory + "/tokenizer.json", description.text(.compact))
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
    config["chat_template"] = settings.chatTemplate.map { .string($0) }
    try AtomicFile.write(directory + "/tokenizer_config.json", JSON.object(config).text(.pythonUnsorted) + "\n")
  }
}

extension TokenizerSettings {
  init(directory: String) throws {
    let map = directory + "/special_tokens_map.json"
    if FileSystem.exists(map) { roles(try JSON.read(path: map)) }
    let path = directory + "/tokenizer_config.json"
    if FileSystem.exists(path) {
      let json = try JSON.read(path: path)
      config = json
      roles(json)
      chatTemplate = json["chat_template"]?.string
      // Several named templates: the default one serves conversations.
      for entry in json["chat_template"]?.array ?? [] where entry["name"]?.string == "default" {
        chatTemplate = entry["template"]?.string
      }
    }
    let template = directory + "/chat_template.jinja"
    if FileSystem.exists(template) {
      let file = try MappedFile(path: template)
      chatTemplate = file.withBytes { String(decoding: $0, as: UTF8.self) }
    }
  }

  private mutating func roles(_ json: JSON) {
    func token(_ key: String) -> String? { json[key]?.string ?? json[key]?["content"]?.string }
    bos = token("bos_token") ?? bos
    eos = token("eos_token") ?? eos
    pad = token("pad_token") ?? pad
    unknown = token("unk_token") ?? unknown
  }
}
