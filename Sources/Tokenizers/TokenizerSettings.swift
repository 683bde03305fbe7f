import Formats

/// What stands beside the tokenizer proper: the roles of tokens, tokens added later and the chat template.
struct TokenizerSettings: Sendable {
  var bos: String?
  var eos: String?
  var pad: String?
  var unknown: String?
  var chatTemplate: String?
  /// Templates beside the default one, by name, such as `tool_use`.
  var namedTemplates: [String: String] = [:]
  /// Special tokens spelled in a text stay text.
  var splitsSpecialTokens = false
  /// tokenizer_config.json as it was read, so that saving keeps what is not understood here.
  var config: JSON?
  /// Tokens that added_tokens_decoder or added_tokens.json adds, by ascending id, and where each is declared.
  var declared: [(token: AddedToken, file: String, field: String)] = []
  /// Every named special token, of a role or not, and where it is named.
  var named: [(content: String, file: String, field: String)] = []
  /// Named tokens that are given with their flags.
  private var flags: [UTF8Key: AddedToken] = [:]

  static let roles = ["bos_token", "eos_token", "pad_token", "unk_token"]

  init() {}

  /// Reads tokenizer_config.json, special_tokens_map.json, added_tokens.json and chat_template.jinja of a directory with
  /// the precedence of transformers 5.23: where tokenizer_config.json has added_tokens_decoder, the two files beside it
  /// are not read; else special_tokens_map.json goes over it.
  init(directory: String) throws {
    let path = directory + "/tokenizer_config.json"
    if FileSystem.exists(path) {
      let json = try JSON.read(path: path)
      config = json
      let fields = Fields(file: path, place: "", json: json)
      try TokenizerKeys.config.check(fields)
      try name(fields)
      splitsSpecialTokens = try fields.bool("split_special_tokens", default: false)
      if let table = try fields.optional("added_tokens_decoder") { try declare(table) }
    }
    if config?["added_tokens_decoder"]?.object == nil { try readOlderFiles(directory) }
    try readTemplates(directory)
  }

  /// The chat templates of a directory, of `config` and of files of their own.
  mutating func readTemplates(_ directory: String) throws {
    chatTemplate = config?["chat_template"]?.string
    for entry in config?["chat_template"]?.array ?? [] {
      if let name = entry["name"]?.string { namedTemplates[name] = entry["template"]?.string }
    }
    try readTemplateFiles(directory)
    // Of several named templates the default one serves conversations.
    if let template = namedTemplates.removeValue(forKey: "default") { chatTemplate = template }
  }

  /// chat_template.jinja and additional_chat_templates/NAME.jinja stand for all that tokenizer_config.json holds.
  private mutating func readTemplateFiles(_ directory: String) throws {
    var found: [String: String] = [:]
    func read(_ path: String, _ name: String) throws {
      found[name] = try MappedFile(path: path).withBytes { String(decoding: $0, as: UTF8.self) }
    }
    let template = directory + "/chat_template.jinja"
    if FileSystem.exists(template) { try read(template, "default") }
    let folder = directory + "/additional_chat_templates"
    if FileSystem.isDirectory(folder) {
      for name in try FileSystem.list(folder) where name.hasSuffix(".jinja") {
        try read("\(folder)/\(name)", String(name.dropLast(".jinja".utf8.count)))
      }
    }
    if !found.isEmpty { (chatTemplate, namedTemplates) = (nil, found) }
  }

  /// The texts of the special tokens that files name, by role: `bos_token`, `image_token`.
  var specialTexts: [String: String] {
    var texts = [String: String]()
    for (content, _, field) in named where field.hasSuffix("_token") {
      texts[String(field.split(separator: ".").last ?? "")] = content
    }
    for (role, token) in zip(TokenizerSettings.roles, [bos, eos, pad, unknown]) { texts[role] = token }
    return texts
  }

  private mutating func readOlderFiles(_ directory: String) throws {
    let map = directory + "/special_tokens_map.json"
    if FileSystem.exists(map) {
      let fields = Fields(file: map, place: "", json: try JSON.read(path: map))
      try TokenizerKeys.config.check(fields)
      try name(fields)
    }
    let added = directory + "/added_tokens.json"
    guard FileSystem.exists(added) else { return }
    guard let table = try JSON.read(path: added).object else {
      throw TokenizerError.badField(file: added, field: "the file", value: "no object", expected: "an object of ids")
    }
    for (content, value) in table {
      let isSpecial = named.contains { UTF8Key($0.content) == UTF8Key(content) }
      let id = try ModelReader.checked(value, added, "\"\(content)\"")
      declared.append(
        (AddedToken(id: id, content: content, special: isSpecial, normalized: !isSpecial), added, content))
    }
    declared.sort { $0.token.id < $1.token.id }
  }

  private mutating func declare(_ table: Fields) throws {
    for (id, value) in table.json.object ?? JSONObject() {
      let fields = Fields(file: table.file, place: table.name(id), json: value)
      guard let number = Int(id) else {
        throw TokenizerError.badField(file: table.file, field: table.place, value: id, expected: "ids as keys")
      }
      let token = try AddedToken(fields, id: try ModelReader.checked(.int(number), fields.file, fields.place))
      declared.append((token, table.file, fields.place))
    }
    declared.sort { $0.token.id < $1.token.id }
  }

  /// Takes the special tokens that a file names; a later file goes over an earlier one.
  private mutating func name(_ fields: Fields) throws {
    for (key, value) in fields.json.object ?? JSONObject() {
      switch value {
      case .null where TokenizerSettings.roles.contains(key): setRole(key, nil)
      case .string, .object:
        if key.hasSuffix("_token") {
          setRole(key, try name(value, fields, key))
        } else if ["model_specific_special_tokens", "extra_special_tokens"].contains(key), let object = value.object {
          for (inner, value) in object { _ = try name(value, fields, "\(key).\(inner)") }
        }
      case .array(let list) where ["additional_special_tokens", "extra_special_tokens"].contains(key):
        for (i, value) in list.enumerated() { _ = try name(value, fields, "\(key)[\(i)]") }
      default: break
      }
    }
  }

  private mutating func name(_ value: JSON, _ fields: Fields, _ field: String) throws -> String {
    guard let content = value.string ?? value["content"]?.string else {
      throw TokenizerError.badField(
        file: fields.file, field: field, value: Fields.shorten(value),
        expected: "a token, or an object with its content")
    }
    if value.object != nil {
      let place = Fields(file: fields.file, place: field, json: value)
      flags[UTF8Key(content)] = try AddedToken(place, id: 0)
    }
    named.removeAll { $0.field == field }
    named.append((content, fields.file, field))
    return content
  }

  private mutating func setRole(_ key: String, _ token: String?) {
    switch key {
    case "bos_token": bos = token
    case "eos_token": eos = token
    case "pad_token": pad = token
    case "unk_token": unknown = token
    default: break
    }
    if token == nil { named.removeAll { $0.field == key } }
  }

  /// The added tokens of a tokenizer.json with those that stand beside it: what is declared with an id, and every named
  /// special token, which is found in texts.
  /// - Parameters:
  ///   - tokens: those of the tokenizer.json.
  ///   - vocabulary: ids of the model's tokens.
  ///   - next: the id that a new token gets.
  /// - Returns: all added tokens, those of the tokenizer.json first.
  /// - Throws: `badField` for an id that is taken or leaves a gap, and for a named token that is in no vocabulary.
  func completed(_ tokens: [AddedToken], vocabulary: [UTF8Key: Int32], next: Int32) throws -> [AddedToken] {
    var tokens = tokens, next = next
    var places: [UTF8Key: Int] = [:]
    for (i, token) in tokens.enumerated() { places[UTF8Key(token.content)] = i }
    func put(_ token: AddedToken) {
      if let at = places[UTF8Key(token.content)] { tokens[at] = token; return }
      places[UTF8Key(token.content)] = tokens.count
      tokens.append(token)
    }
    func known(_ content: String) -> Int32? {
      places[UTF8Key(content)].map { tokens[$0].id } ?? vocabulary[UTF8Key(content)]
    }
    let names = Set(named.map { UTF8Key($0.content) })
    for (token, file, field) in declared {
      var token = token
      token.special = token.special || names.contains(UTF8Key(token.content))
      let expected = known(token.content) ?? next
      guard token.id == expected else {
        throw TokenizerError.badField(
          file: file, field: field, value: "id \(token.id)",
          expected: known(token.content) == nil ? "\(next), the first free id" : "\(expected), its id in the vocabulary"
        )
      }
      put(token)
      next = max(next, token.id + 1)
    }
    for (content, file, field) in named where places[UTF8Key(content)] == nil {
      guard let id = known(content) else {
        throw TokenizerError.badField(
          file: file, field: field, value: JSON.string(content).text(), expected: "a token of the vocabulary")
      }
      var token = flags[UTF8Key(content)] ?? AddedToken(id: id, content: content)
      token.id = id
      token.special = true
      put(token)
    }
    return tokens
  }
}
