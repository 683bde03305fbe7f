import Formats

/// A sentencepiece `tokenizer.model` (protobuf message ModelProto of sentencepiece_model.proto). Only BPE models
/// without a character map can be read exactly; others are refused.
struct SentencePieceModel {
  private enum Kind: UInt64 {
    case normal = 1, unknown, control, userDefined, unused, byte
  }
  private struct Piece {
    var text = ""
    var score: Float = 0
    var kind = Kind.normal
  }

  private let path: String
  private var pieces: [Piece] = []
  private var algorithm: UInt64 = 1  // unigram is the message's default
  private var byteFallback = false
  private var addPrefix = true
  private var collapseSpaces = true
  private var escapeSpaces = true
  private var spacesAsSuffix = false
  private var normalizerName = ""
  private var characterMapBytes = 0
  private var hasDenormalizer = false

  init(path: String) throws {
    self.path = path
    let file = try MappedFile(path: path)
    try file.withBytes { try read(ProtobufReader($0, file: path)) }
    guard !pieces.isEmpty else {
      throw TokenizerError.badProtobuf(file: path, offset: file.byteCount, problem: "no pieces")
    }
  }

  private mutating func read(_ message: ProtobufReader) throws {
    var message = message
    while let field = try message.next() {
      switch field.number {
      case 1: pieces.append(try piece(try message.message(field)))
      case 2:
        var trainer = try message.message(field)
        while let field = try trainer.next() {
          switch field.number {
          case 3: algorithm = try trainer.varint(field)
          case 24: spacesAsSuffix = try trainer.varint(field) != 0
          case 35: byteFallback = try trainer.varint(field) != 0
          default: break
          }
        }
      case 5:
        var denormalizer = try message.message(field)
        while let field = try denormalizer.next() {
          if field.number == 2, try denormalizer.bytes(field).count > 0 { hasDenormalizer = true }
        }
      case 3:
        var normalizer = try message.message(field)
        while let field = try normalizer.next() {
          switch field.number {
          case 1: normalizerName = try normalizer.string(field)
          case 2: characterMapBytes = try normalizer.bytes(field).count
          case 3: addPrefix = try normalizer.varint(field) != 0
          case 4: collapseSpaces = try normalizer.varint(field) != 0
          case 5: escapeSpaces = try normalizer.varint(field) != 0
          default: break
          }
        }
      default: break
      }
    }
  }

  private func piece(_ message: ProtobufReader) throws -> Piece {
    var message = message
    var piece = Piece()
    while let field = try message.next() {
      switch field.number {
      case 1: piece.text = try message.string(field)
      case 2: piece.score = try message.float(field)
      case 3:
        let value = try message.varint(field)
        guard let kind = Kind(rawValue: value) else {
          throw TokenizerError.badField(
            file: path, field: "pieces[\(pieces.count)].type", value: "\(value)", expected: "1 to 6")
        }
        piece.kind = kind
      default: break
      }
    }
    guard piece.text.utf8.count <= AddedToken.longest else {
      throw TokenizerError.badField(
        file: path, field: "pieces[\(pieces.count)].piece", value: "\(piece.text.utf8.count) bytes",
        expected: "at most \(AddedToken.longest)")
    }
    guard !piece.score.isNaN else {
      throw TokenizerError.badField(
        file: path, field: "pieces[\(pieces.count)].score", value: "NaN", expected: "a number")
    }
    return piece
  }

  /// - Parameter settings: roles from tokenizer_config.json; the usual names fill the gaps.
  /// - Returns: the same tokenizer as a tokenizer.json describes it.
  /// - Throws: `TokenizerError.unsupported` for another algorithm than BPE, a character map, or spaces as suffix.
  func spec(settings: TokenizerSettings) throws -> TokenizerSpec {
    guard algorithm == 2 else {
      let names: [UInt64: String] = [1: "unigram", 3: "word", 4: "char"]
      throw TokenizerError.unsupported(
        file: path, field: "trainer_spec.model_type", value: names[algorithm] ?? "\(algorithm)", supported: ["bpe"])
    }
    guard characterMapBytes == 0 else {
      throw TokenizerError.unsupported(
        file: path, field: "normalizer_spec.name", value: normalizerName, supported: ["identity"])
    }
    guard !hasDenormalizer else {
      throw TokenizerError.unsupported(
        file: path, field: "denormalizer_spec.precompiled_charsmap", value: "of some bytes", supported: ["none"])
    }
    guard escapeSpaces, !spacesAsSuffix else {
      throw TokenizerError.unsupported(
        file: path,
        field: escapeSpaces ? "trainer_spec.treat_whitespace_as_suffix" : "normalizer_spec.escape_whitespaces",
        value: escapeSpaces ? "true" : "false", supported: [escapeSpaces ? "false" : "true"])
    }
    let tokens = pieces.map(\.text)
    let unknown = pieces.first { $0.kind == .unknown }?.text
    var added: [AddedToken] = []
    for (id, piece) in pieces.enumerated() {
      switch piece.kind {
      case .control, .unknown: added.append(AddedToken(id: Int32(id), content: piece.text))
      case .userDefined: added.append(AddedToken(id: Int32(id), content: piece.text, special: false))
      case .normal, .unused, .byte: break
      }
    }
    var spec = TokenizerSpec(
      tokens: tokens, merges: [], added: added,
      options: [
        ("unk_token", unknown.map { .string($0) } ?? .null), ("fuse_unk", true), ("byte_fallback", .bool(byteFallback)),
        ("ignore_merges", false),
      ], settings: settings)
    spec.useSentencePiece(
      scores: pieces.map(\.score), mergeable: pieces.map { $0.kind == .normal || $0.kind == .userDefined },
      prefix: try prefix(settings), collapseSpaces: collapseSpaces)
    let control = { (name: String) in pieces.first { $0.kind == .control && $0.text == name }?.text }
    spec.settings.bos = settings.bos ?? control("<s>")
    spec.settings.eos = settings.eos ?? control("</s>")
    spec.settings.unknown = settings.unknown ?? unknown
    // Llama begins every text with BOS unless its config says otherwise.
    let (addsBOS, addsEOS) = (try flag("add_bos_token", settings), try flag("add_eos_token", settings))
    if addsBOS ?? (spec.settings.bos != nil) { spec.before = [try token(spec.settings.bos, "add_bos_token")] }
    if addsEOS ?? false { spec.after = [try token(spec.settings.eos, "add_eos_token")] }
    return spec
  }

  /// Where a mark is put before the text. A tokenizer_config.json decides as in transformers 5.23; a file alone is read
  /// as sentencepiece reads it.
  private func prefix(_ settings: TokenizerSettings) throws -> TokenizerSpec.PrefixMark {
    guard settings.config != nil else { return addPrefix ? .sentencePiece : .none }
    let name = settings.config?["tokenizer_class"]?.string ?? "LlamaTokenizer"
    let legacy = try flag("legacy", settings), wanted = try flag("add_prefix_space", settings)
    // Classes without these flags take what the model says.
    if !name.contains("Llama"), legacy == nil, wanted == nil { return addPrefix ? .sentencePiece : .none }
    guard wanted ?? addPrefix else { return .none }
    return legacy ?? false ? .everyPart : .textStart
  }

  private func flag(_ key: String, _ settings: TokenizerSettings) throws -> Bool? {
    guard let value = settings.config?[key], !value.isNull else { return nil }
    guard let flag = value.bool else { throw wrong(key, value.text(), "true, false or null") }
    return flag
  }

  private func token(_ name: String?, _ key: String) throws -> String {
    guard let name else { throw wrong(key, "true", "false, since there is no such token") }
    return name
  }

  private func wrong(_ key: String, _ value: String, _ expected: String) -> TokenizerError {
    .badField(file: settingsPath, field: key, value: value, expected: expected)
  }

  private var settingsPath: String { path.replacing(FileName.sentencePiece, with: FileName.tokenizerConfig) }
}
