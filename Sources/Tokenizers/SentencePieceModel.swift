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
      addPrefix: addPrefix, collapseSpaces: collapseSpaces)
    let control = { (name: String) in pieces.first { $0.kind == .control && $0.text == name }?.text }
    spec.settings.bos = settings.bos ?? control("<s>")
    spec.settings.eos = settings.eos ?? control("</s>")
    spec.settings.unknown = settings.unknown ?? unknown
    // transformers' Llama tokenizer begins every text with BOS unless its config says otherwise.
    if settings.config?["add_bos_token"]?.bool ?? true, let bos = spec.settings.bos { spec.before = [bos] }
    if settings.config?["add_eos_token"]?.bool ?? false, let eos = spec.settings.eos { spec.after = [eos] }
    return spec
  }
}
