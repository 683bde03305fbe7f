import Formats
import Foundation
import Testing

@testable import Tokenizers

/// Writes a GGUF file that holds metadata only.
private struct GGUFWriter {
  private var bytes: [UInt8] = []
  private var count = 0

  mutating func put<T: FixedWidthInteger>(_ value: T) { withUnsafeBytes(of: value.littleEndian) { bytes += $0 } }
  private mutating func put(_ text: String) {
    put(UInt64(text.utf8.count))
    bytes += text.utf8
  }
  private mutating func key(_ name: String, _ type: UInt32, of parent: String = "tokenizer.ggml.") {
    count += 1
    put(parent + name)
    put(type)
  }
  mutating func string(_ name: String, _ value: String) {
    key(name, 8)
    put(value)
  }
  mutating func unsigned(_ name: String, _ value: Int, of parent: String = "tokenizer.ggml.") {
    key(name, 4, of: parent)
    put(UInt32(value))
  }
  mutating func bool(_ name: String, _ value: Bool) {
    key(name, 7)
    put(UInt8(value ? 1 : 0))
  }
  private mutating func array(_ name: String, _ type: UInt32, _ count: Int) {
    key(name, 9)
    put(type)
    put(UInt64(count))
  }
  mutating func strings(_ name: String, _ values: [String]) {
    array(name, 8, values.count)
    for value in values { put(value) }
  }
  mutating func integers(_ name: String, _ values: [Int]) {
    array(name, 5, values.count)
    for value in values { put(Int32(value)) }
  }
  mutating func floats(_ name: String, _ values: [Float]) {
    array(name, 6, values.count)
    for value in values { put(value.bitPattern) }
  }

  func tokenizer() throws -> Tokenizer {
    var header = GGUFWriter()
    header.bytes += "GGUF".utf8
    header.put(UInt32(3))
    header.put(UInt64(0))
    header.put(UInt64(count))
    return try withFolder { folder in
      try AtomicFile.write(folder + "/x.gguf", header.bytes + bytes)
      return try Tokenizer(gguf: try GGUFFile(path: folder + "/x.gguf"))
    }
  }
}

@Suite struct GGUFTests {
  /// The vocabulary of a tokenizer.json fixture as GGUF metadata.
  private static func byteLevel(_ name: String, pre: String) throws -> GGUFWriter {
    let json = try JSON.read(path: Golden.folder + name + ".json")
    let source = try fixture(name)
    let special = Set(json["added_tokens"]!.array!.map { $0["id"]!.int! })
    var writer = GGUFWriter()
    writer.string("model", "gpt2")
    writer.string("pre", pre)
    writer.strings("tokens", (0..<source.vocabularySize).map { source.token(Int32($0))! })
    writer.integers("token_type", (0..<source.vocabularySize).map { special.contains($0) ? 3 : 1 })
    writer.strings("merges", json["model"]!["merges"]!.array!.map { "\($0[0]!.string!) \($0[1]!.string!)" })
    writer.unsigned("bos_token_id", 0)
    return writer
  }

  @Test(arguments: [("digits", "smollm"), ("llama3", "llama-bpe")])
  func byteLevelVocabulariesMatchTheirTokenizerFiles(name: String, pre: String) throws {
    let tokenizer = try GGUFTests.byteLevel(name, pre: pre).tokenizer()
    for difference in try Golden(name).differences(tokenizer) { Issue.record("\(pre): \(difference)") }
    #expect(tokenizer.bos == 0 && tokenizer.eos == nil)
  }

  @Test(arguments: ["gpt-2", "default", "qwen2"])
  func otherWordPatternsRoundTrip(pre: String) throws {
    let tokenizer = try GGUFTests.byteLevel("digits", pre: pre).tokenizer()
    for test in try Golden("gpt2").cases {
      let ids = try tokenizer.encode(test.text)
      // Qwen normalizes to NFC; equal strings are those of equal NFC.
      #expect(try tokenizer.decode(ids) == test.text)
    }
  }

  @Test func unknownWordPatternsAreErrors() throws {
    let writer = try GGUFTests.byteLevel("digits", pre: "novel")
    let error = #expect(throws: TokenizerError.self) { try writer.tokenizer() }
    #expect(
      "\(try #require(error))".hasSuffix(
        "tokenizer.ggml.pre novel is not supported; supported: gpt-2, olmo, smollm, refact, starcoder, command-r, "
          + "llama-bpe, llama3, llama-v3, falcon3, dbrx, smaug-bpe, qwen2, deepseek-r1-qwen, qwen35, gpt-4o, tekken, "
          + "default"))
  }

  /// The patterns of the families' tokenizer.json, which are compared with the library under their own names.
  @Test(arguments: [
    ("llama-bpe", "llama 3"), ("smaug-bpe", "llama 3"), ("deepseek-r1-qwen", "qwen 2"), ("qwen35", "qwen 3.5"),
    ("gpt-4o", "o200k"), ("tekken", "tekken"),
  ])
  func wordPatternsAreThoseOfTheFamilies(pre: String, family: String) throws {
    let golden = try JSON.read(path: Golden.folder + "regex.golden.json")
    let known = try #require(GGUFPreTokenizer.all.first { $0.names.contains(pre) })
    #expect(known.steps[0]["pattern"]?["Regex"] == golden["families"]?[family])
  }

  @Test func namesOfOneWordPatternReadTheSame() throws {
    for known in GGUFPreTokenizer.all {
      let own = try GGUFTests.byteLevel("llama3", pre: known.name).tokenizer()
      for alias in known.aliases {
        let other = try GGUFTests.byteLevel("llama3", pre: alias).tokenizer()
        #expect(other.description == own.description, "\(alias)")
      }
      let begins = try own.encode("a").first == 0
      #expect(begins == ["llama-bpe", "tekken"].contains(known.name), "\(known.name)")
    }
  }

  @Test func textsOfOtherTypesAreErrors() throws {
    for (field, put) in [
      ("pre", { $0.unsigned("pre", 3) }), ("pre", { $0.bool("pre", true) }), ("pre", { $0.floats("pre", [0.5]) }),
      ("pre", { $0.strings("pre", ["gpt-2"]) }), ("model", { $0.unsigned("model", 3) }),
    ] as [(String, (inout GGUFWriter) -> Void)] {
      var writer = GGUFWriter()
      if field != "model" { writer.string("model", "gpt2") }
      put(&writer)
      writer.strings("tokens", ["a"])
      writer.strings("merges", [])
      let error = #expect(throws: TokenizerError.self) { try writer.tokenizer() }
      #expect("\(try #require(error))".contains("tokenizer.ggml.\(field) is "), "\(String(describing: error))")
    }
    for (field, put) in [
      ("chat_template", { $0.unsigned("chat_template", 3, of: "tokenizer.") }),
      ("chat_templates", { $0.unsigned("chat_templates", 3, of: "tokenizer.") }),
    ] as [(String, (inout GGUFWriter) -> Void)] {
      var writer = try GGUFTests.byteLevel("digits", pre: "smollm")
      put(&writer)
      let error = #expect(throws: TokenizerError.self) { try writer.tokenizer() }
      #expect("\(try #require(error))".contains("tokenizer.\(field) is 3, expected"), "\(String(describing: error))")
    }
  }

  private static func scored(_ name: String) throws -> (GGUFWriter, Golden) {
    let path = Golden.folder + name + ".model"
    let tokens = try SentencePieceModel(path: path).spec(settings: TokenizerSettings()).tokens
    var writer = GGUFWriter()
    writer.string("model", "llama")
    writer.strings("tokens", tokens)
    // Sentencepiece numbers pieces of pairs in the order of their scores.
    writer.floats("scores", tokens.indices.map { -Float($0) })
    writer.integers(
      "token_type",
      tokens.enumerated().map { id, token in
        id == 0 ? 2 : id < 3 ? 3 : token == "<mask>" ? 4 : token.hasPrefix("<0x") ? 6 : 1
      })
    writer.unsigned("bos_token_id", 1)
    writer.unsigned("eos_token_id", 2)
    writer.unsigned("unknown_token_id", 0)
    return (writer, try Golden(name))
  }

  @Test func scoredVocabulariesMatchSentencepiece() throws {
    let (writer, golden) = try GGUFTests.scored("spm")
    let tokenizer = try writer.tokenizer()
    for difference in try golden.differences(tokenizer) { Issue.record("\(difference)") }
    #expect(try tokenizer.encode("a").first == 1)
    #expect(tokenizer.eos == 2 && tokenizer.unknown == 0)
  }

  @Test func flagsOfScoredVocabulariesCount() throws {
    var (writer, golden) = try GGUFTests.scored("spm_plain")
    writer.bool("remove_extra_whitespaces", true)
    for difference in try golden.differences(try writer.tokenizer()) { Issue.record("\(difference)") }
    writer.bool("add_space_prefix", false)
    writer.bool("add_bos_token", false)
    writer.bool("add_eos_token", true)
    let tokenizer = try writer.tokenizer()
    let ids = try tokenizer.encode("the")
    #expect(ids.last == 2 && ids.first != 1)
    #expect(try tokenizer.decode(ids, skipSpecial: true) == "the")
    #expect(tokenizer.token(ids[0])?.hasPrefix("\u{2581}") == false)
  }

  @Test func keysThatCannotBeHonouredAreNamed() throws {
    var (scored, _) = try GGUFTests.scored("spm")
    scored.integers("precompiled_charsmap", [1, 2])
    let map = #expect(throws: TokenizerError.self) { try scored.tokenizer() }
    #expect("\(try #require(map))".contains("tokenizer.ggml.precompiled_charsmap a character map is not supported"))
    var plain = try GGUFTests.byteLevel("digits", pre: "smollm")
    plain.bool("add_space_prefix", true)
    let prefix = #expect(throws: TokenizerError.self) { try plain.tokenizer() }
    #expect("\(try #require(prefix))".contains("tokenizer.ggml.add_space_prefix true for model gpt2 is not supported"))
  }

  @Test func listsOfOtherLengthsAndIdsOutsideAreErrors() throws {
    var (writer, _) = try GGUFTests.scored("spm")
    writer.unsigned("padding_token_id", 1 << 20)
    let outside = #expect(throws: TokenizerError.self) { try writer.tokenizer() }
    #expect("\(try #require(outside))".contains("tokenizer.ggml.padding_token_id is 1048576, expected an id below"))
    var short = GGUFWriter()
    short.string("model", "llama")
    short.strings("tokens", ["a", "b"])
    short.floats("scores", [0])
    #expect(throws: TokenizerError.self) { try short.tokenizer() }
    var foreign = GGUFWriter()
    foreign.string("model", "bert")
    foreign.strings("tokens", [])
    #expect(throws: TokenizerError.self) { try foreign.tokenizer() }
    #expect(throws: TokenizerError.self) { try GGUFWriter().tokenizer() }
  }
}
