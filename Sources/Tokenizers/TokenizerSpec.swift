import Formats

/// A tokenizer described as a tokenizer.json, from another kind of file.
struct TokenizerSpec {
  var tokens: [String]
  var merges: [(left: String, right: String)]
  /// Rank of each merge where it is not its position.
  var ranks: [Int32]?
  var added: [AddedToken]
  var options: [(String, JSON)]
  var normalizer: JSON = .null
  var preTokenizer: JSON = .null
  var decoder: JSON = .null
  /// Spellings put before and after every text.
  var before: [String] = []
  var after: [String] = []
  var settings = TokenizerSettings()

  static let byteLevel: JSON = [
    "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
  ]

  /// Splits off every match of a pattern.
  static func split(_ pattern: String) -> JSON {
    ["type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated", "invert": false]
  }

  static func sequence(_ key: String, _ steps: [JSON]) -> JSON {
    .object(JSONObject([("type", "Sequence"), (key, .array(steps))]))
  }

  func description(file: String) throws -> JSON {
    var ids: [UTF8Key: Int] = [:]
    var vocabulary: [(String, JSON)] = []
    for (id, token) in tokens.enumerated() {
      guard ids.updateValue(id, forKey: UTF8Key(token)) == nil else {
        throw FormatError.duplicate(path: file, name: token)
      }
      vocabulary.append((token, .int(id)))
    }
    var model: [(String, JSON)] = [("type", "BPE"), ("dropout", nil)]
    model += options
    model.append(("vocab", .object(JSONObject(vocabulary))))
    model.append(("merges", .array(merges.map { .array([.string($0.left), .string($0.right)]) })))
    return .object(
      JSONObject([
        ("version", "1.0"), ("truncation", nil), ("padding", nil),
        ("added_tokens", .array(added.map(\.json))),
        ("normalizer", normalizer), ("pre_tokenizer", preTokenizer),
        ("post_processor", try template(ids, file: file)), ("decoder", decoder),
        ("model", .object(JSONObject(model))),
      ]))
  }

  private func template(_ ids: [UTF8Key: Int], file: String) throws -> JSON {
    if before.isEmpty && after.isEmpty { return .null }
    let special = { (token: String) -> JSON in ["SpecialToken": ["id": .string(token), "type_id": 0]] }
    var definitions = JSONObject()
    for token in before + after {
      guard let id = ids[UTF8Key(token)] else { throw TokenizerError.missingField(file: file, field: token) }
      definitions[token] = ["id": .string(token), "ids": [.int(id)], "tokens": [.string(token)]]
    }
    let single = before.map(special) + [["Sequence": ["id": "A", "type_id": 0]]] + after.map(special)
    let second = before.map(special) + [["Sequence": ["id": "B", "type_id": 1]]] + after.map(special)
    return [
      "type": "TemplateProcessing", "single": .array(single), "pair": .array(single + second),
      "special_tokens": .object(definitions),
    ]
  }
}

extension Tokenizer {
  convenience init(spec: TokenizerSpec, file: String) throws {
    try self.init(
      description: try spec.description(file: file), settings: spec.settings, file: file, ranks: spec.ranks)
  }
}

/// Merges of a sentencepiece vocabulary, which scores pieces instead of listing merges: every way to make a piece
/// of two others, better scores first. All ways to make one piece rank equally, as in sentencepiece.
struct ScoredMerges {
  private(set) var merges: [(left: String, right: String)] = []
  private(set) var ranks: [Int32] = []

  /// The three lists go by token id; `mergeable` says whether a piece is ordinary, and no control token or byte.
  init(tokens: [String], scores: [Float], mergeable: [Bool]) {
    var ids: [UTF8Key: Int] = [:]
    for (id, token) in tokens.enumerated() where mergeable[id] { ids[UTF8Key(token)] = id }
    struct Way {
      let left: Int
      let right: Int
      let score: Float
      let lengths: (Int, Int)
    }
    var ways: [Way] = []
    for (id, token) in tokens.enumerated() where mergeable[id] {
      let scalars = token.unicodeScalars
      var at = scalars.startIndex
      for length in 1..<max(scalars.count, 1) {
        at = scalars.index(after: at)
        guard let left = ids[UTF8Key(String(scalars[..<at]))], let right = ids[UTF8Key(String(scalars[at...]))] else {
          continue
        }
        ways.append(Way(left: left, right: right, score: scores[id], lengths: (length, scalars.count - length)))
      }
    }
    // The order of transformers' conversion; ids last, so that the order is total.
    ways.sort { a, b in
      if a.score != b.score { return a.score > b.score }
      if a.lengths != b.lengths { return a.lengths > b.lengths }
      return (a.left, a.right) < (b.left, b.right)
    }
    var score: Float?
    for (i, way) in ways.enumerated() {
      merges.append((tokens[way.left], tokens[way.right]))
      ranks.append(way.score == score ? ranks[i - 1] : Int32(i))
      score = way.score
    }
  }
}
