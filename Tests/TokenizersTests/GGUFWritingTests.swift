import Foundation
import Testing

@testable import Formats
@testable import Tokenizers

private let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .appendingPathComponent("Fixtures/tokenizers").path

private func written(_ tokenizer: Tokenizer, rows: Int? = nil, ends: [Int32] = []) throws -> Tokenizer {
  let path = NSTemporaryDirectory() + "t-\(UUID().uuidString).gguf"
  defer { try? FileManager.default.removeItem(atPath: path) }
  let values = try tokenizer.ggufMetadata(vocabularySize: rows ?? tokenizer.vocabularySize, ends: ends)
  try GGUFWriter.write(path: path, values, [])
  return try Tokenizer(gguf: GGUFFile(path: path))
}

private func read(_ name: String) throws -> Tokenizer {
  let path = "\(folder)/\(name)"
  guard !name.hasSuffix(".model") else {
    return try Tokenizer(spec: SentencePieceModel(path: path).spec(settings: TokenizerSettings()), file: path)
  }
  return try Tokenizer(description: JSON.read(path: path), settings: TokenizerSettings(), file: path)
}

private let texts = [
  "Hello, World! 12345 3.14", "  two  spaces\n\n\tand tabs ", "It's we'LL don't", "naïve Straße ÀÉ", "日本語 한국어",
  "<s> </s> <|endoftext|> a<|im_end|>b", "emoji 👩‍👩‍👧 …", "",
]

@Suite struct GGUFWritingTests {
  @Test(arguments: ["gpt2.json", "llama3.json", "llama2.json", "spm.model"])
  func theFileGivesTheSameTokens(name: String) throws {
    let own = try read(name)
    let other = try written(own, rows: own.vocabularySize + 3)
    #expect(other.vocabularySize == own.vocabularySize + 3)
    #expect(
      other.bos == own.bos ?? own.postProcessor.before.first && other.eos == own.eos ?? own.postProcessor.after.first)
    for text in texts {
      let (expected, got) = (try own.encode(text), try other.encode(text))
      #expect(got == expected, "\(text)")
    }
  }

  /// The letters of gpt2.json under each pre-tokenizer that has a name.
  @Test(arguments: GGUFPreTokenizer.all.map(\.name)) func everyNameIsWrittenAsItIsRead(name: String) throws {
    let known = try #require(GGUFPreTokenizer.all.first { $0.name == name })
    var description = try #require(try JSON.read(path: "\(folder)/gpt2.json").object)
    description["pre_tokenizer"] = TokenizerSpec.sequence("pretokenizers", known.steps)
    description["normalizer"] = known.isComposed ? ["type": "NFC"] : .null
    var model = try #require(description["model"]?.object)
    model["ignore_merges"] = .bool(known.ignoresMerges)
    description["model"] = .object(model)
    let own = try Tokenizer(description: .object(description), settings: TokenizerSettings(), file: "made")
    let values = try own.ggufMetadata(vocabularySize: own.vocabularySize, ends: [])
    #expect(values.first { $0.0 == "tokenizer.ggml.pre" }?.1 == .string(name))
    #expect(own.ggufNotices.count == (known.isComposed ? 1 : 0))
    let other = try written(own)
    for text in texts {
      let (expected, got) = (try own.encode(text), try other.encode(text))
      #expect(got == expected, "\(text)")
    }
  }

  @Test func aPreTokenizerWithoutANameIsRefused() throws {
    let tokenizer = try read("punctuation.json")
    #expect(throws: TokenizerError.self) { try written(tokenizer) }
  }

  @Test func moreTokensThanRowsAreRefused() throws {
    let tokenizer = try read("gpt2.json")
    #expect(throws: TokenizerError.self) { try written(tokenizer, rows: tokenizer.vocabularySize - 1) }
  }
}
