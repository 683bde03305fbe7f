import Formats

extension Tokenizer {
  /// The `tokenizer.*` metadata of a GGUF file, which `init(gguf:)` and llama.cpp read: byte-level BPE as model "gpt2",
  /// sentencepiece's as "llama".
  /// - Parameters:
  ///   - vocabularySize: rows of the model's embedding; ids without a token get names of their own.
  ///   - ends: tokens that end a text besides the tokenizer's EOS; two more can be told.
  /// - Returns: keys and values in the order of llama.cpp's converter.
  /// - Throws: `TokenizerError.unsupported` for a normalizer, pre-tokenizer or post-processor that no such file can
  ///   name; `.badField` for more tokens than rows.
  package func ggufMetadata(vocabularySize: Int, ends: [Int32]) throws -> [(String, GGUFValue)] {
    guard spellings.count <= vocabularySize else {
      throw TokenizerError.badField(
        file: "the tokenizer", field: "vocabulary", value: "\(spellings.count) tokens",
        expected: "at most \(vocabularySize), the rows of the embedding")
    }
    let isByteLevel = steps(description["decoder"], "decoders").contains { $0["type"]?.string == "ByteLevel" }
    var values: [(String, GGUFValue)] = [
      ("model", .string(isByteLevel ? "gpt2" : "llama")),
      ("pre", .string(isByteLevel ? try preName() : "default")),
    ]
    let kinds = try self.kinds(vocabularySize)
    values.append(("tokens", .array(kinds.map { .string($0.text) })))
    values.append(("token_type", .array(kinds.map { .signed(Int64($0.kind)) })))
    if isByteLevel {
      values.append(("merges", .array(mergeTexts.map { .string($0) })))
    } else {
      values.append(("scores", .array(try scores(vocabularySize).map { .float32($0) })))
      values.append(("add_space_prefix", .bool(try addsSpacePrefix())))
      values.append(("remove_extra_whitespaces", .bool(false)))
    }
    let (first, last) = (bos ?? postProcessor.before.first, eos ?? postProcessor.after.first)
    for (key, id) in [("bos", first), ("eos", last), ("unknown", unknown), ("padding", pad)] {
      if let id { values.append(("\(key)_token_id", .unsigned(UInt64(id)))) }
    }
    let others = ends.filter { $0 >= 0 && $0 != last }
    for (key, id) in zip(last == nil ? ["eos", "eot", "eom"] : ["eot", "eom"], others) {
      values.append(("\(key)_token_id", .unsigned(UInt64(id))))
    }
    values.append(("add_bos_token", .bool(try adds(postProcessor.before, first, "before"))))
    values.append(("add_eos_token", .bool(try adds(postProcessor.after, last, "after"))))
    var result = values.map { ("tokenizer.ggml." + $0, $1) }
    if let chatTemplate { result.append(("tokenizer.chat_template", .string(chatTemplate))) }
    if !namedChatTemplates.isEmpty {
      let names = namedChatTemplates.keys.sorted()
      result.append(("tokenizer.chat_templates", .array(names.map { .string($0) })))
      for name in names {
        result.append(("tokenizer.chat_template." + name, .string(namedChatTemplates[name] ?? "")))
      }
    }
    return result
  }

  /// What llama.cpp does otherwise with such a file, a sentence each.
  package var ggufNotices: [String] {
    steps(description["normalizer"], "normalizers").compactMap { $0["type"]?.string }
      .filter { ["NFC", "NFKC", "NFD", "NFKD"].contains($0) }
      .map { "the tokenizer brings texts to \($0); llama.cpp does not, so composed letters may get other tokens there" }
  }

  // MARK: Parts

  private func steps(_ value: JSON?, _ key: String) -> [JSON] {
    guard let value, !value.isNull else { return [] }
    guard value["type"]?.string == "Sequence" else { return [value] }
    return (value[key]?.array ?? []).flatMap { steps($0, key) }
  }

  private func unsupported(_ field: String, _ value: String, _ supported: [String]) -> TokenizerError {
    .unsupported(file: "the tokenizer", field: field, value: value, supported: supported)
  }

  private func adds(_ ids: [Int32], _ role: Int32?, _ place: String) throws -> Bool {
    guard ids.isEmpty || ids.count == 1 && ids.first == role else {
      throw unsupported("post_processor", "\(ids) \(place) a text", ["BOS before, EOS after"])
    }
    return !ids.isEmpty
  }

  /// llama.cpp's name of the pre-tokenizer.
  private func preName() throws -> String {
    let own = steps(description["pre_tokenizer"], "pretokenizers").map(GGUFPreTokenizer.significant)
    let ignoresMerges = description["model"]?["ignore_merges"]?.bool ?? false
    let normalizers = steps(description["normalizer"], "normalizers").compactMap { $0["type"]?.string }
    guard normalizers.allSatisfy({ $0 == "NFC" }) else {
      throw unsupported("normalizer", "\(normalizers)", ["none", "NFC"])
    }
    let fitting = GGUFPreTokenizer.all.filter {
      $0.ignoresMerges == ignoresMerges && $0.steps.map(GGUFPreTokenizer.significant) == own
    }
    guard let found = fitting.first(where: { $0.isComposed == !normalizers.isEmpty }) ?? fitting.first else {
      throw unsupported(
        "pre_tokenizer", (description["pre_tokenizer"] ?? .null).text(), GGUFPreTokenizer.all.map(\.name))
    }
    return found.name
  }

  /// Whether a mark stands before a text.
  private func addsSpacePrefix() throws -> Bool {
    let normalizers = steps(description["normalizer"], "normalizers")
    let known: Set = ["Prepend", "Replace"]
    if let stranger = normalizers.compactMap({ $0["type"]?.string }).first(where: { !known.contains($0) }) {
      throw unsupported("normalizer", stranger, known.sorted())
    }
    let steps = steps(description["pre_tokenizer"], "pretokenizers")
    let isMarked = normalizers.contains { $0["content"]?.string == "\u{2581}" }
    // A split at spaces finds none where marks stand for them.
    if let stranger = steps.first(where: { $0["type"]?.string != "Metaspace" && !(isMarked && isSpaceSplit($0)) }) {
      throw unsupported("pre_tokenizer", stranger.text(), GGUFPreTokenizer.all.map(\.name) + ["Metaspace"])
    }
    guard isMarked || !steps.isEmpty else { throw unsupported("pre_tokenizer", "none", ["Metaspace"]) }
    let schemes = steps.compactMap { step in
      step["type"]?.string == "Metaspace" ? step["prepend_scheme"]?.string ?? "always" : nil
    }
    return normalizers.contains { $0["type"]?.string == "Prepend" } || schemes.contains { $0 != "never" }
  }

  private func isSpaceSplit(_ step: JSON) -> Bool {
    step["type"]?.string == "Split" && step["pattern"]?["String"]?.string == " "
  }

  private var mergeTexts: [String] {
    (description["model"]?["merges"]?.array ?? []).map { entry in
      entry.string ?? "\(entry[0]?.string ?? "") \(entry[1]?.string ?? "")"
    }
  }

  /// The text of each token and its number in `tokenizer.ggml.token_type`.
  private func kinds(_ count: Int) throws -> [(text: String, kind: Int)] {
    typealias Kind = GGUFVocabulary.Kind
    let isBytes = description["model"]?["byte_fallback"]?.bool ?? false
    var kinds = (0..<count).map { id -> (text: String, kind: Int) in
      guard let text = token(Int32(id)) else { return ("[PAD\(id)]", Kind.unused) }
      if isBytes, text.utf8.count == 6, Decoder.byteToken(Array(text.utf8)) != nil { return (text, Kind.byte) }
      return (text, Kind.normal)
    }
    for entry in description["added_tokens"]?.array ?? [] {
      guard let id = entry["id"]?.int, kinds.indices.contains(id), let text = entry["content"]?.string else { continue }
      let isSpecial = entry["special"]?.bool ?? false
      // llama.cpp looks for these in the text itself, in which spaces are no marks.
      kinds[id] = isSpecial ? (text, Kind.control) : (text.replacing("\u{2581}", with: " "), Kind.userDefined)
    }
    if let id = unknown.map({ Int($0) }), description["model"]?["unk_token"]?.string != nil {
      kinds[id].kind = Kind.unknown
    }
    return kinds
  }

  /// Scores of sentencepiece from ranks: a token scores better that is made by an earlier merge. Merges of one token
  /// have to stand together, as they do where they were made from scores.
  private func scores(_ count: Int) throws -> [Float] {
    var scores = [Float](repeating: -Float(1 << 22), count: count)
    var last: Int32 = -1
    var next = 0
    for text in mergeTexts {
      let joined = text.utf8.split(separator: 0x20, omittingEmptySubsequences: false).map { String(Substring($0)) }
        .joined()
      guard let id = id(of: joined), Int(id) < count else { continue }
      guard id != last else { continue }
      guard scores[Int(id)] == -Float(1 << 22) else {
        throw unsupported("merges", "\"\(text)\" after merges of other tokens", ["merges of one token together"])
      }
      scores[Int(id)] = -Float(next)
      (last, next) = (id, next + 1)
    }
    return scores
  }
}
