import Formats

/// Reads the `model` and `added_tokens` of a tokenizer.json.
struct ModelReader {
  let model: BPE
  let spellings: [String?]

  /// Larger ids than this would only serve to exhaust the memory.
  private static let largestID = 1 << 23

  init(_ fields: Fields, ranks: [Int32]?) throws {
    // Files older than tokenizers 0.9 do not name the type.
    if fields.json["type"] != nil, try fields.string("type") != "BPE" { throw fields.unsupported("type", ["BPE"]) }
    try fields.allow(TokenizerKeys.model)
    guard let table = fields.json["vocab"]?.object else { throw fields.bad("vocab", "an object of ids") }
    var vocabulary: [UTF8Key: Int32] = [:]
    vocabulary.reserveCapacity(table.count)
    var spellings: [String?] = []
    for (token, value) in table {
      let id = try ModelReader.checked(value, fields.file, "model.vocab[\(JSON.string(token).text())]")
      vocabulary[UTF8Key(token)] = id
      while spellings.count <= Int(id) { spellings.append(nil) }
      spellings[Int(id)] = token
    }
    var options = BPE.Options()
    options.fuseUnknown = try fields.bool("fuse_unk", default: false)
    options.byteFallback = try fields.bool("byte_fallback", default: false)
    options.ignoreMerges = try fields.bool("ignore_merges", default: false)
    if let unknown = try fields.optionalString("unk_token") {
      guard let id = vocabulary[UTF8Key(unknown)] else { throw fields.bad("unk_token", "a token of the vocabulary") }
      options.unknown = id
    }
    let merges = try ModelReader.merges(fields, vocabulary, ranks)
    model = BPE(vocabulary: vocabulary, merges: merges, options: options)
    self.spellings = spellings
  }

  static func checked(_ value: JSON?, _ file: String, _ field: String) throws -> Int32 {
    guard let id = value?.int, id >= 0, id <= largestID else {
      throw TokenizerError.badField(
        file: file, field: field, value: value?.text() ?? "absent", expected: "an id of 0 to \(largestID)")
    }
    return Int32(id)
  }

  private static func merges(
    _ fields: Fields, _ vocabulary: [UTF8Key: Int32], _ ranks: [Int32]?
  ) throws -> [UInt64: BPE.Merge] {
    let list = try fields.array("merges")
    var merges: [UInt64: BPE.Merge] = [:]
    merges.reserveCapacity(list.count)
    for (i, entry) in list.enumerated() {
      var left = "", right = ""
      if let text = entry.string {
        let parts = text.utf8.split(separator: 0x20, maxSplits: 2, omittingEmptySubsequences: false)
        if parts.count == 2 { (left, right) = (String(Substring(parts[0])), String(Substring(parts[1]))) }
      } else if entry.array?.count == 2 {
        (left, right) = (entry[0]?.string ?? "", entry[1]?.string ?? "")
      }
      guard let a = vocabulary[UTF8Key(left)], let b = vocabulary[UTF8Key(right)],
        let joined = vocabulary[UTF8Key(left + right)]
      else {
        throw TokenizerError.badField(
          file: fields.file, field: "model.merges[\(i)]", value: entry.text(),
          expected: "two tokens that make a third of the vocabulary")
      }
      merges[BPE.pair(a, b)] = BPE.Merge(rank: ranks?[i] ?? Int32(i), id: joined)
    }
    return merges
  }

  /// The added tokens in the order of the file. Empty ones are dropped, as the tokenizers library drops them.
  static func addedTokens(_ fields: Fields) throws -> [TokenizerSettings.Declared] {
    guard let list = fields.json["added_tokens"], !list.isNull else { return [] }
    return try fields.list("added_tokens").compactMap { token in
      let id = try checked(token.json["id"], fields.file, token.name("id"))
      let added = try AddedToken(token, id: id, normalizedByDefault: true)
      return added.content.isEmpty ? nil : (added, fields.file, token.place)
    }
  }
}

extension AddedToken {
  /// Most bytes of a token: searching a text looks that far from every place.
  static let longest = 1024

  /// An absent `normalized` means `normalizedByDefault`, or the opposite of `special` where that is nil.
  init(_ fields: Fields, id: Int32, normalizedByDefault: Bool? = nil) throws {
    try fields.allow(TokenizerKeys.addedToken)
    let special = try fields.bool("special", default: false)
    self.init(
      id: id, content: try fields.string("content"), special: special,
      normalized: try fields.bool("normalized", default: normalizedByDefault ?? !special),
      singleWord: try fields.bool("single_word", default: false),
      leftStrip: try fields.bool("lstrip", default: false), rightStrip: try fields.bool("rstrip", default: false))
    guard content.utf8.count <= AddedToken.longest else {
      throw TokenizerError.badField(
        file: fields.file, field: fields.name("content"), value: "\(content.utf8.count) bytes",
        expected: "at most \(AddedToken.longest)")
    }
  }

  /// As tokenizer.json spells it.
  var json: JSON {
    [
      "id": .int(Int(id)), "content": .string(content), "single_word": .bool(singleWord), "lstrip": .bool(leftStrip),
      "rstrip": .bool(rightStrip), "normalized": .bool(normalized), "special": .bool(special),
    ]
  }
}
