import Formats

extension Tokenizer {
  /// The tokenizer in a GGUF file's metadata: kinds "gpt2" (byte-level BPE) and "llama" (sentencepiece BPE).
  package convenience init(gguf: GGUFFile) throws {
    let reader = try GGUFVocabulary(gguf)
    let spec: TokenizerSpec
    switch reader.kind {
    case "gpt2": spec = try reader.byteLevel()
    case "llama": spec = try reader.sentencePiece()
    default: throw reader.unsupported("model", reader.kind, ["gpt2", "llama"])
    }
    try self.init(spec: spec, file: gguf.path)
  }
}

/// The `tokenizer.*` metadata of a GGUF file.
struct GGUFVocabulary {
  let kind: String
  private let file: GGUFFile
  private let tokens: [String]
  private let types: [Int]

  /// Values of `tokenizer.ggml.token_type`.
  enum Kind {
    static let normal = 1, unknown = 2, control = 3, userDefined = 4, unused = 5, byte = 6
  }

  init(_ file: GGUFFile) throws {
    self.file = file
    guard let kind = try GGUFVocabulary.text(file, "tokenizer.ggml.model") else {
      throw TokenizerError.missingField(file: file.path, field: "tokenizer.ggml.model")
    }
    self.kind = kind
    tokens = try GGUFVocabulary.array(file, "tokens") { $0.string }
    let types = try file.metadata["tokenizer.ggml.token_type"].map { _ in
      try GGUFVocabulary.array(file, "token_type") { $0.int }
    }
    self.types = types ?? [Int](repeating: Kind.normal, count: tokens.count)
    guard self.types.count == tokens.count else {
      throw TokenizerError.badField(
        file: file.path, field: "tokenizer.ggml.token_type", value: "\(self.types.count) values",
        expected: "one for each of the \(tokens.count) tokens")
    }
  }

  private static func array<T>(_ file: GGUFFile, _ key: String, _ convert: (GGUFValue) -> T?) throws -> [T] {
    let field = "tokenizer.ggml.\(key)"
    guard let values = file.metadata[field] else { throw TokenizerError.missingField(file: file.path, field: field) }
    guard let elements = values.array else {
      throw TokenizerError.badField(file: file.path, field: field, value: "\(values)", expected: "an array")
    }
    return try elements.map { element in
      guard let value = convert(element) else {
        throw TokenizerError.badField(file: file.path, field: field, value: "\(element)", expected: "\(T.self) values")
      }
      return value
    }
  }

  /// nil when absent.
  private static func text(_ file: GGUFFile, _ field: String) throws -> String? {
    guard let value = file.metadata[field] else { return nil }
    guard let text = value.string else {
      throw TokenizerError.badField(
        file: file.path, field: field, value: Fields.shorten(value.json), expected: "a string")
    }
    return text
  }

  func unsupported(_ key: String, _ value: String, _ supported: [String]) -> TokenizerError {
    .unsupported(file: file.path, field: "tokenizer.ggml.\(key)", value: value, supported: supported)
  }

  private func flag(_ key: String, default fallback: Bool) throws -> Bool {
    guard let value = file.metadata["tokenizer.ggml.\(key)"] else { return fallback }
    guard let flag = value.bool else {
      throw TokenizerError.badField(
        file: file.path, field: "tokenizer.ggml.\(key)", value: value.json.text(), expected: "true or false")
    }
    return flag
  }

  private func role(_ key: String) throws -> String? {
    let field = "tokenizer.ggml.\(key)_token_id"
    guard let value = file.metadata[field] else { return nil }
    guard let id = value.int, tokens.indices.contains(id) else {
      throw TokenizerError.badField(
        file: file.path, field: field, value: value.json.text(), expected: "an id below \(tokens.count)")
    }
    return tokens[id]
  }

  /// - Throws: `TokenizerError.unsupported` for a key that changes ids in a way that is not built here.
  private func refuse() throws {
    if let map = file.metadata["tokenizer.ggml.precompiled_charsmap"], map.array?.isEmpty != true {
      throw unsupported("precompiled_charsmap", "a character map", ["none"])
    }
    if kind == "gpt2", try flag("add_space_prefix", default: false) {
      throw unsupported("add_space_prefix", "true for model gpt2", ["false"])
    }
  }

  private func namedTemplates() throws -> [String: String] {
    let list = "tokenizer.chat_templates"
    guard let value = file.metadata[list] else { return [:] }
    var templates: [String: String] = [:]
    for name in value.array?.map(\.string) ?? [nil] {
      guard let name else {
        throw TokenizerError.badField(
          file: file.path, field: list, value: Fields.shorten(value.json), expected: "a list of names")
      }
      let field = "tokenizer.chat_template.\(name)"
      guard let template = try GGUFVocabulary.text(file, field) else {
        throw TokenizerError.missingField(file: file.path, field: field)
      }
      templates[name] = template
    }
    return templates
  }

  private func base(addBOS: Bool, options: [(String, JSON)]) throws -> TokenizerSpec {
    try refuse()
    var settings = TokenizerSettings()
    settings.bos = try role("bos")
    settings.eos = try role("eos")
    settings.pad = try role("padding")
    settings.unknown = try role("unknown")
    settings.chatTemplate = try GGUFVocabulary.text(file, "tokenizer.chat_template")
    settings.namedTemplates = try namedTemplates()
    var added: [AddedToken] = []
    for (id, type) in types.enumerated() {
      switch type {
      case Kind.control, Kind.unknown: added.append(AddedToken(id: Int32(id), content: tokens[id]))
      case Kind.userDefined: added.append(AddedToken(id: Int32(id), content: tokens[id], special: false))
      default: break
      }
    }
    var spec = TokenizerSpec(tokens: tokens, merges: [], added: added, options: options, settings: settings)
    if try flag("add_bos_token", default: addBOS) {
      guard let bos = settings.bos else {
        throw TokenizerError.missingField(file: file.path, field: "tokenizer.ggml.bos_token_id")
      }
      spec.before = [bos]
    }
    if try flag("add_eos_token", default: false) {
      guard let eos = settings.eos else {
        throw TokenizerError.missingField(file: file.path, field: "tokenizer.ggml.eos_token_id")
      }
      spec.after = [eos]
    }
    return spec
  }

  func byteLevel() throws -> TokenizerSpec {
    let pre = try GGUFVocabulary.text(file, "tokenizer.ggml.pre") ?? "default"
    guard let known = GGUFPreTokenizer.all.first(where: { $0.names.contains(pre) }) else {
      throw unsupported("pre", pre, GGUFPreTokenizer.all.flatMap(\.names))
    }
    var spec = try base(
      addBOS: known.addsBOS,
      options: [
        ("unk_token", nil), ("fuse_unk", false), ("byte_fallback", false),
        ("ignore_merges", .bool(known.ignoresMerges)),
      ])
    if known.isComposed { spec.normalizer = ["type": "NFC"] }
    spec.preTokenizer =
      known.steps.count == 1 ? known.steps[0] : TokenizerSpec.sequence("pretokenizers", known.steps)
    spec.decoder = TokenizerSpec.byteLevel
    let merges = try GGUFVocabulary.array(file, "merges") { $0.string }
    spec.merges = try merges.enumerated().map { i, text in
      let parts = text.utf8.split(separator: 0x20, omittingEmptySubsequences: false)
      guard parts.count == 2 else {
        throw TokenizerError.badField(
          file: file.path, field: "tokenizer.ggml.merges[\(i)]", value: text, expected: "two tokens")
      }
      return (String(Substring(parts[0])), String(Substring(parts[1])))
    }
    return spec
  }

  func sentencePiece() throws -> TokenizerSpec {
    let scores = try GGUFVocabulary.array(file, "scores") { $0.double.map { Float($0) } }
    guard scores.count == tokens.count else {
      throw TokenizerError.badField(
        file: file.path, field: "tokenizer.ggml.scores", value: "\(scores.count) values",
        expected: "one for each of the \(tokens.count) tokens")
    }
    let unknown = try role("unknown") ?? types.firstIndex(of: Kind.unknown).map { tokens[$0] }
    var spec = try base(
      addBOS: true,
      options: [
        ("unk_token", unknown.map { .string($0) } ?? .null), ("fuse_unk", true),
        ("byte_fallback", .bool(types.contains(Kind.byte))), ("ignore_merges", false),
      ])
    spec.useSentencePiece(
      scores: scores, mergeable: types.map { $0 == Kind.normal || $0 == Kind.userDefined },
      prefix: try flag("add_space_prefix", default: true) ? .sentencePiece : .none,
      collapseSpaces: try flag("remove_extra_whitespaces", default: false))
    return spec
  }
}
