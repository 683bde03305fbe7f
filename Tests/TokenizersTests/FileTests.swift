import Formats
import Foundation
import Testing

@testable import Tokenizers

@Suite struct FileTests {
  @Test func emptyFoldersHaveNoTokenizer() throws {
    try withFolder { folder in
      let found = try Tokenizer.find(directory: folder)
      #expect(found == nil)
      #expect(throws: TokenizerError.noTokenizer(directory: folder)) { try Tokenizer(directory: folder) }
    }
  }

  @Test func rolesAndTemplatesComeFromTheFilesBeside() throws {
    try withFolder { folder in
      try FileManager.default.copyItem(atPath: Golden.folder + "llama3.json", toPath: folder + "/tokenizer.json")
      try AtomicFile.write(folder + "/special_tokens_map.json", #"{"pad_token":"<|eos|>","eos_token":"<|eos|>"}"#)
      try AtomicFile.write(
        folder + "/tokenizer_config.json",
        #"{"bos_token":{"content":"<|bos|>"},"eos_token":"<|bos|>","model_max_length":77,"#
          + #""chat_template":[{"name":"tools","template":"T"},{"name":"default","template":"D"}]}"#)
      let tokenizer = try #require(try Tokenizer.find(directory: folder))
      #expect(tokenizer.bos == 0 && tokenizer.eos == 1 && tokenizer.pad == 1 && tokenizer.unknown == nil)
      #expect(tokenizer.chatTemplate == "D")
      try AtomicFile.write(folder + "/chat_template.jinja", "J\n")
      #expect(try Tokenizer(directory: folder).chatTemplate == "J\n")
      try tokenizer.save(directory: folder + "/a/b")
      let saved = try Tokenizer(directory: folder + "/a/b")
      #expect(saved.chatTemplate == "D" && saved.bos == 0 && saved.pad == 1)
      #expect(try JSON.read(path: folder + "/a/b/tokenizer_config.json")["model_max_length"] == 77)
      for difference in try Golden("llama3").differences(saved) { Issue.record("\(difference)") }
    }
  }

  @Test(arguments: [
    ("model", "type", "Unigram", "model.type"), ("pre_tokenizer", "type", "UnicodeScripts", "pre_tokenizer.type"),
    ("decoder", "type", "WordPiece", "decoder.type"), ("post_processor", "type", "X", "post_processor.type"),
  ])
  func unknownComponentsAreNamed(part: String, key: String, value: String, field: String) throws {
    var root = try #require(try JSON.read(path: Golden.folder + "llama3.json").object)
    var object = try #require(root[part]?.object)
    object[key] = .string(value)
    root[part] = .object(object)
    let error = try #require(throws: TokenizerError.self) {
      try Tokenizer(description: .object(root), settings: TokenizerSettings(), file: "f")
    }
    guard case .unsupported("f", field, "\"\(value)\"", _) = error else {
      Issue.record("\(error)")
      return
    }
  }

  @Test func normalizersWithoutTablesAreRefused() throws {
    var root = try #require(try JSON.read(path: Golden.folder + "llama3.json").object)
    root["normalizer"] = ["type": "NFKC"]
    let error = #expect(throws: TokenizerError.self) {
      try Tokenizer(description: .object(root), settings: TokenizerSettings(), file: "f")
    }
    #expect("\(try #require(error))".contains("normalizer.type \"NFKC\" is not supported; supported: NFC, NFD"))
  }

  @Test func unigramModelsAreRefused() throws {
    try withFolder { folder in
      // One piece "a", and a trainer without a model type, which means unigram.
      try Data([0x0A, 0x03, 0x0A, 0x01, 0x61]).write(to: URL(fileURLWithPath: folder + "/tokenizer.model"))
      #expect(
        throws: TokenizerError.unsupported(
          file: folder + "/tokenizer.model", field: "trainer_spec.model_type", value: "unigram", supported: ["bpe"])
      ) { try Tokenizer(directory: folder) }
    }
  }

  @Test func textThatIsNotUTF8IsAnError() throws {
    try withFolder { folder in
      let path = folder + "/tokenizer.model"
      // One piece of the byte FF.
      try Data([0x0A, 0x03, 0x0A, 0x01, 0xFF]).write(to: URL(fileURLWithPath: path))
      let error = #expect(throws: TokenizerError.self) { try Tokenizer(directory: folder) }
      guard case .badProtobuf(path, _, "text is not UTF-8")? = error else {
        Issue.record("\(String(describing: error))")
        return
      }
    }
  }

  @Test func aMillionEqualLettersTakeNoQuadraticTime() throws {
    for name in ["gpt2", "llama2"] {
      let tokenizer = try fixture(name)
      let text = String(repeating: "a", count: 1_000_000)
      var decoded = ""
      let elapsed = try ContinuousClock().measure {
        decoded = try tokenizer.decode(tokenizer.encode(text, special: false))
      }
      #expect(decoded == text)
      // Quadratic time would be hours.
      #expect(elapsed < .seconds(20))
    }
    let spaces = String(repeating: " ", count: 300_000) + "x"
    let llama3 = try fixture("llama3")
    let ids = try llama3.encode(spaces)
    #expect(try llama3.decode(ids, skipSpecial: true) == spaces)
  }

  @Test func groupsRepeatedOverLongTextsOutgrowTheStandardRegexStack() throws {
    let text = Array(String(repeating: "ab", count: 100_000).utf8)
    #expect(try Regex("(?:(a)|b)+", dialect: .oniguruma, file: "f").matches(in: text) == [0..<text.count])
  }

  @Test func whiteSpaceInPatternsIsThatOfUnicode() throws {
    let text = Array("a\u{85}b\u{180E}c\u{2003}d e".utf8)
    #expect(try Regex("\\s", dialect: .oniguruma, file: "f").matches(in: text).map(\.count) == [2, 3, 1])
    #expect(try Regex("[^\\S ]", dialect: .oniguruma, file: "f").matches(in: text).map(\.count) == [2, 3])
    #expect(throws: TokenizerError.self) { try Regex("(", dialect: .oniguruma, file: "f") }
  }
}
