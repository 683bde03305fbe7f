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
  /// A token with the id that a file gives it, and where.
  typealias Declared = (token: AddedToken, file: String, field: String)
  /// Tokens that added_tokens_decoder or added_tokens.json adds, by ascending id.
  var declared: [Declared] = []
  /// Every named special token, of a role or not, and where it is named.
  var named: [(content: String, file: String, field: String)] = []
  /// Named tokens that are given with their flags.
  private var flags: [UTF8Key: AddedToken] = [:]

  static let roles = ["bos_token", "eos_token", "pad_token", "unk_token"]

  init() {}

  /// Reads tokenizer_config.json, special_tokens_map.json, added_tokens.json and chat_template.jinja of a directory
  /// with the precedence of transformers 5.23: where tokenizer_config.json has added_tokens_decoder, the two files
  /// beside it are not read; else special_tokens_map.json goes over it.
  init(directory: String) throws {
    let path = directory + "/" + FileName.tokenizerConfig
    if FileSystem.exists(path) {
      let fields = try TokenizerSettings.object(path)
      config = fields.json
      try TokenizerKeys.config.check(fields)
      for key in ["add_bos_token", "add_eos_token", "legacy", "add_prefix_space"] {
        _ = try fields.bool(key, default: false)
      }
      _ = try fields.optionalString("tokenizer_class")
      try name(fields)
      splitsSpecialTokens = try fields.bool("split_special_tokens", default: false)
      if let table = try fields.optional("added_tokens_decoder") { try declare(table) }
    }
    if config?["added_tokens_decoder"]?.object == nil { try readOlderFiles(directory) }
    try readTemplates(directory)
  }

  /// A file that must hold an object.
  static func object(_ path: String) throws -> Fields {
    let json = try JSON.read(path: path)
    guard json.object != nil else {
      throw TokenizerError.badField(
        file: path, field: "the file", value: Fields.shorten(json), expected: "an object")
    }
    return Fields(file: path, place: "", json: json)
  }

  /// The chat templates of a directory, of `config` and of files of their own.
  mutating func readTemplates(_ directory: String) throws {
    if let config {
      try readTemplates(Fields(file: directory + "/" + FileName.tokenizerConfig, place: "", json: config))
    }
    try readTemplateFiles(directory)
    // Of several named templates the default one serves conversations.
    if let template = namedTemplates.removeValue(forKey: "default") { chatTemplate = template }
  }

  /// One template, a list of names and templates, or an object of templates.
  private mutating func readTemplates(_ fields: Fields) throws {
    func put(_ name: String, _ template: String) throws {
      guard namedTemplates.updateValue(template, forKey: name) == nil else {
        throw FormatError.duplicate(path: fields.file, name: "chat_template \(name)")
      }
    }
    switch fields.json["chat_template"] ?? .null {
    case .null: break
    case .string(let text): chatTemplate = text
    case .array:
      for entry in try fields.list("chat_template") { try put(try entry.string("name"), try entry.string("template")) }
    case .object(let object):
      let table = Fields(file: fields.file, place: "chat_template", json: .object(object))
      for (name, _) in object { try put(name, try table.string(name)) }
    default: throw fields.bad("chat_template", "a template, or named templates")
    }
  }

  /// chat_template.jinja and additional_chat_templates/NAME.jinja stand for all that tokenizer_config.json holds.
  private mutating func readTemplateFiles(_ directory: String) throws {
    var found: [String: String] = [:]
    func read(_ path: String, _ name: String) throws {
      guard let text = try MappedFile(path: path).withBytes({ String(validating: $0, as: UTF8.self) }) else {
        throw TokenizerError.badField(file: path, field: "the file", value: "bytes", expected: "text in UTF-8")
      }
      found[name] = text
    }
    let template = directory + "/" + FileName.chatTemplate
    if FileSystem.exists(template) { try read(template, "default") }
    let folder = directory + "/" + FileName.templateFolder
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
    let map = directory + "/" + FileName.specialTokens
    if FileSystem.exists(map) {
      let fields = try TokenizerSettings.object(map)
      try TokenizerKeys.config.check(fields)
      try name(fields)
    }
    let added = directory + "/" + FileName.addedTokens
    guard FileSystem.exists(added) else { return }
    for (content, value) in try TokenizerSettings.object(added).json.object ?? JSONObject() {
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
      switch (key, value) {
      case ("add_bos_token", _), ("add_eos_token", _): break
      case (_, .null): if TokenizerSettings.roles.contains(key) { setRole(key, nil) }
      case (_, .string) where key.hasSuffix("_token"), (_, .object) where key.hasSuffix("_token"):
        setRole(key, try name(value, fields, key))
      case ("additional_special_tokens", .array(let list)), ("extra_special_tokens", .array(let list)):
        for (i, value) in list.enumerated() { _ = try name(value, fields, "\(key)[\(i)]") }
      case ("model_specific_special_tokens", .object(let object)), ("extra_special_tokens", .object(let object)):
        for (inner, value) in object { _ = try name(value, fields, "\(key).\(inner)") }
      case ("additional_special_tokens", _), ("extra_special_tokens", _), ("model_specific_special_tokens", _):
        throw fields.bad(key, "a list of tokens or an object of named ones")
      default:
        // Programs put in keys of their own; those that name a token are listed.
        guard key.hasSuffix("_token"), TokenizerKeys.config.keys.contains(where: { $0.name == key }) else { break }
        throw fields.bad(key, "a token, or an object with its content")
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
  ///   - own: those of the tokenizer.json.
  ///   - vocabulary: ids of the model's tokens.
  /// - Returns: all added tokens, those of the tokenizer.json first.
  /// - Throws: `badField` for another id than the tokenizers library gives the token, which takes no file's word for
  ///   it: the one in the vocabulary, or the first after all tokens so far. Also for a named token that is in no
  ///   vocabulary.
  func completed(_ own: [Declared], vocabulary: [UTF8Key: Int32]) throws -> [AddedToken] {
    var tokens: [AddedToken] = []
    var next = Int32(vocabulary.count)
    var places: [UTF8Key: Int] = [:]
    func put(_ token: AddedToken) {
      if let at = places[UTF8Key(token.content)] { tokens[at] = token; return }
      places[UTF8Key(token.content)] = tokens.count
      tokens.append(token)
    }
    func known(_ content: String) -> Int32? {
      places[UTF8Key(content)].map { tokens[$0].id } ?? vocabulary[UTF8Key(content)]
    }
    func check(_ token: AddedToken, _ file: String, _ field: String) throws {
      let expected = known(token.content) ?? next
      guard token.id == expected else {
        throw TokenizerError.badField(
          file: file, field: field, value: "id \(token.id) of \(JSON.string(token.content).text())",
          expected: "\(expected), \(known(token.content) == nil ? "the first free id" : "its id in the vocabulary")")
      }
      next = max(next, token.id + 1)
    }
    for (token, file, field) in own {
      try check(token, file, field)
      if places[UTF8Key(token.content)] == nil { put(token) }
    }
    let names = Set(named.map { UTF8Key($0.content) })
    for (token, file, field) in declared {
      var token = token
      token.special = token.special || names.contains(UTF8Key(token.content))
      try check(token, file, field)
      put(token)
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
