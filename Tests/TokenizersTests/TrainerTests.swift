import Formats
import Foundation
import Testing

@testable import Tokenizers

@Suite struct TrainerTests {
  /// The corpus of make_golden.py.
  private static func corpus(_ golden: JSON) throws -> [String] {
    let path = Golden.package + "/Tests/Fixtures/peers/training_text.txt"
    let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map(String.init)
    let texts = golden["texts"]!.array!.map { $0.string! }
    return lines + texts + texts + texts
  }

  @Test func mergesAreThoseOfTheTokenizersLibrary() throws {
    let golden = try JSON.read(path: Golden.folder + "training.golden.json")
    let tokenizer = try BPETrainer.train(
      texts: try TrainerTests.corpus(golden), vocabularySize: 600, specialTokens: ["<|endoftext|>", "<|pad|>"])
    #expect(tokenizer.vocabularySize == 600)
    #expect(tokenizer.description["model"]?["merges"] == golden["merges"])
    for (id, token) in golden["vocab"]!.array!.enumerated() { #expect(tokenizer.token(Int32(id)) == token.string) }
  }

  @Test func trainedTokenizersRoundTripAnyText() throws {
    let tokenizer = try BPETrainer.train(
      texts: ["low lower lowest", "new newer newest"], vocabularySize: 280, specialTokens: ["<|end|>"])
    for test in try Golden("gpt2").cases {
      let ids = try tokenizer.encode(test.text)
      #expect(Array(try tokenizer.decode(ids).utf8) == Array(test.text.utf8))
    }
    #expect(try tokenizer.encode("low<|end|>").last == 0)
    let ids = try tokenizer.encode("low<|end|>")
    #expect(try tokenizer.decode(ids, skipSpecial: true) == "low")
    let literal = try tokenizer.encode("low<|end|>", literal: true)
    #expect(!literal.contains(0))
    try withFolder { folder in
      try tokenizer.save(directory: folder)
      let again = try Tokenizer(directory: folder)
      let expected = try tokenizer.encode("the lowest newt")
      #expect(try again.encode("the lowest newt") == expected)
    }
  }

  @Test func trainingStopsWhenNoPairIsLeft() throws {
    let tokenizer = try BPETrainer.train(texts: ["ab", ""], vocabularySize: 1000, specialTokens: [])
    #expect(tokenizer.vocabularySize == 257)
    #expect(tokenizer.token(256) == "ab")
  }

  @Test func impossibleWishesAreErrors() throws {
    #expect(throws: TokenizerError.training(problem: .vocabularyTooSmall(size: 256, minimum: 257))) {
      try BPETrainer.train(texts: ["a"], vocabularySize: 256, specialTokens: ["x<"])
    }
    #expect(throws: TokenizerError.training(problem: .duplicateSpecialToken("<a>"))) {
      try BPETrainer.train(texts: ["a"], vocabularySize: 300, specialTokens: ["<a>", "<a>"])
    }
    #expect(throws: TokenizerError.training(problem: .duplicateSpecialToken("b"))) {
      try BPETrainer.train(texts: ["a"], vocabularySize: 300, specialTokens: ["b"])
    }
    #expect(throws: TokenizerError.training(problem: .emptySpecialToken)) {
      try BPETrainer.train(texts: ["a"], vocabularySize: 300, specialTokens: [""])
    }
  }
}
