import Formats

/// What becomes of the keys of the files that make a tokenizer: the one truth of the readers, of
/// docs/fields-tokenizer.md and of the test that compares with the peers' lists.
package struct TokenizerKeys: Sendable {
  /// What a reader does with a key.
  package enum Decision: Sendable {
    /// It acts as its source says.
    case honoured
    /// It changes no id and no text here.
    case harmless
    /// Only these values are accepted; others are an error that names the key.
    case only([JSON])
    /// It is an error that names the key, whatever the value.
    case refused
  }
  package struct Key: Sendable {
    package let name: String
    package let decision: Decision
    package let note: String

    init(_ name: String, _ decision: Decision = .honoured, _ note: String = "") {
      self.name = name
      self.decision = decision
      self.note = note
    }
  }

  /// The file, or the part of one.
  package let place: String
  package let keys: [Key]
  /// Whether a key that is not listed is an error. Settings of transformers are open: programs put in what they like.
  package var isClosed = true

  init(_ place: String, _ keys: [Key], isClosed: Bool = true) {
    self.place = place
    self.keys = keys
    self.isClosed = isClosed
  }

  /// - Throws: `TokenizerError.unsupported` for a key or a value that cannot be honoured.
  func check(_ fields: Fields) throws {
    guard let object = fields.json.object else { return }
    for (name, value) in object {
      guard let key = keys.first(where: { $0.name == name }) else {
        if !isClosed { continue }
        throw TokenizerError.unsupported(
          file: fields.file, field: fields.name(name), value: Fields.shorten(value), supported: keys.map(\.name))
      }
      switch key.decision {
      case .honoured, .harmless: break
      case .refused: throw fields.unsupported(name, ["files without it"])
      case .only(let values) where !values.contains(value): throw fields.unsupported(name, values.map { $0.text() })
      case .only: break
      }
    }
  }

  /// The kinds of components of a tokenizer.json: those that are read, and the others of tokenizers 0.23, which are
  /// refused by name.
  package static let kinds: [(part: String, read: [String], refused: [String])] = [
    ("model", ["BPE"], ["Unigram", "WordLevel", "WordPiece"]),
    (
      "normalizer", Normalizer.supported,
      ["BertNormalizer", "ByteLevel", "NFKC", "NFKD", "Nmt", "Precompiled", "StripAccents"]
    ),
    (
      "pre_tokenizer", PreTokenizer.supported,
      ["BertPreTokenizer", "CharDelimiterSplit", "FixedLength", "UnicodeScripts"]
    ),
    ("post_processor", PostProcessor.supported, ["BertProcessing", "RobertaProcessing"]),
    ("decoder", Decoder.supported, ["BPEDecoder", "CTC", "WordPiece"]),
  ]

  /// The tables of docs/fields-tokenizer.md.
  package static var markdown: String {
    var out = "## Kinds of components in tokenizer.json\n\n| part | read | refused by name |\n|---|---|---|\n"
    for (part, read, refused) in kinds {
      out += "| \(part) | \(read.joined(separator: ", ")) | \(refused.joined(separator: ", ")) |\n"
    }
    for table in all {
      out += "\n## \(table.place)\n\n| key | decision | |\n|---|---|---|\n"
      for key in table.keys { out += "| \(key.name) | \(key.decision.words) | \(key.note) |\n" }
      out += table.isClosed ? "\nAny other key is an error.\n" : "\nAny other key changes nothing.\n"
    }
    return out
  }
}

extension TokenizerKeys.Decision {
  /// In words, for a table.
  package var words: String {
    switch self {
    case .honoured: "honoured"
    case .harmless: "harmless"
    case .only(let values): "only \(values.map { $0.text() }.joined(separator: " or ")); else refused"
    case .refused: "refused"
    }
  }
}
