import Formats
import Testing

@testable import Tokenizers

/// What a file can ask for is bounded: memory, steps, depth and numbers.
@Suite struct LimitTests {
  private static func tokenizer(_ changes: [(String, JSON)]) throws -> Tokenizer {
    var root = try #require(try JSON.read(path: Golden.folder + "whitespace.json").object)
    for (key, value) in changes { root[key] = value }
    return try Tokenizer(description: .object(root), settings: TokenizerSettings(), file: "f")
  }

  private static func replace(_ pattern: JSON, _ content: String) -> JSON {
    ["type": "Replace", "pattern": pattern, "content": .string(content)]
  }

  @Test func textThatGrowsWithoutBoundIsAnError() throws {
    let doubled = JSON.array(Array(repeating: LimitTests.replace(["String": "a"], "aa"), count: 60))
    for normalizer in [
      LimitTests.replace(["String": "a"], String(repeating: "b", count: 100_000)),
      LimitTests.replace(["Regex": "x*"], String(repeating: "b", count: 5000)),
      ["type": "Prepend", "prepend": .string(String(repeating: "b", count: 100_000))],
      ["type": "Sequence", "normalizers": doubled],
    ] as [JSON] {
      let tokenizer = try LimitTests.tokenizer([("normalizer", normalizer)])
      let error = #expect(throws: TokenizerError.self) { try tokenizer.encode("aaaa") }
      #expect(error == .grows(part: "normalizer", bytes: 4, limit: 1088))
    }
    let decoder = try LimitTests.tokenizer([("decoder", ["type": "Sequence", "decoders": doubled])])
    let ids = try decoder.encode("aaaa")
    let error = #expect(throws: TokenizerError.self) { try decoder.decode(ids) }
    #expect("\(try #require(error))".hasPrefix("the tokenizer's decoder makes more than"))
    // Decompositions and marks are far below it.
    let sound = try LimitTests.tokenizer([("normalizer", ["type": "NFD"])])
    #expect(try !sound.encode(String(repeating: "\u{1E69}", count: 1000)).isEmpty)
  }

  @Test func patternsThatTakeTooManyStepsAreNamed() throws {
    for pattern in ["(a+)+[bd]", "(a|aa)+$", "(?:(a+)+b|a)", "(?:.*)*[xy]"] {
      let tokenizer = try LimitTests.tokenizer([
        ("pre_tokenizer", ["type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated"])
      ])
      let error = #expect(throws: TokenizerError.self, "\(pattern)") {
        try tokenizer.encode(String(repeating: "a", count: 5000) + "c")
      }
      #expect(
        "\(try #require(error))" == "regular expression \(pattern): takes too many steps on a text of 5001 bytes")
    }
  }

  @Test func longTextsAskForTheirMemory() throws {
    struct Full: Error {}
    for name in ["gpt2", "llama2"] {
      let tokenizer = try fixture(name)
      for count in [1000, 1 << 20] {
        let text = String(repeating: "a", count: count)
        var asked = 0
        _ = try tokenizer.encode(text, special: false, literal: false, continues: false) { asked = max(asked, $0) }
        #expect(count == 1000 ? asked == 0 : (64 * count...65 * count).contains(asked), "\(name)")
        var parts = 0
        _ = try tokenizer.encode(parts: [text], isLiteral: []) { parts = max(parts, $0) }
        #expect(parts == (count == 1000 ? 0 : 180 * count), "\(name)")
      }
      #expect(throws: Full.self) {
        try tokenizer.encode(parts: [String(repeating: " ", count: 1 << 20)], isLiteral: []) { _ in throw Full() }
      }
    }
  }

  @Test func componentsInComponentsAreBounded() throws {
    for (part, list, leaf) in [
      ("normalizer", "normalizers", JSON.object(JSONObject([("type", "NFC")]))),
      ("pre_tokenizer", "pretokenizers", ["type": "WhitespaceSplit"]),
      ("post_processor", "processors", ["type": "ByteLevel"]), ("decoder", "decoders", ["type": "Fuse"]),
    ] as [(String, String, JSON)] {
      var nested = leaf
      for depth in 1...400 {
        nested = .object(JSONObject([("type", "Sequence"), (list, [nested])]))
        if depth == 10 { _ = try LimitTests.tokenizer([(part, nested)]) }
      }
      let error = #expect(throws: TokenizerError.self) { try LimitTests.tokenizer([(part, nested)]) }
      guard case .tooDeep("f", _, 16) = try #require(error) else {
        Issue.record("\(String(describing: error))")
        continue
      }
    }
  }

  @Test func listsAndTokensOfUnsoundLengthAreErrors() throws {
    let long = String(repeating: "a", count: 2000)
    #expect(throws: TokenizerError.self) {
      try LimitTests.tokenizer([("added_tokens", [["id": 300, "content": .string(long)]])])
    }
    #expect(throws: TokenizerError.self) {
      try LimitTests.tokenizer([("normalizer", LimitTests.replace(["String": .string(long)], "b"))])
    }
    let ids = JSON.array(Array(repeating: 0, count: 600))
    let template: JSON = [
      "type": "TemplateProcessing",
      "single": [["SpecialToken": ["id": "x"]], ["Sequence": ["id": "A"]], ["SpecialToken": ["id": "x"]]],
      "special_tokens": ["x": ["id": "x", "ids": ids]],
    ]
    #expect(throws: TokenizerError.self) { try LimitTests.tokenizer([("post_processor", template)]) }
  }
}
