import Formats
import Testing

@testable import Tokenizers

/// Added tokens have the ids and take the text as in the tokenizers library; a file that says otherwise is an error.
@Suite struct AddedTokenTests {
  private static let golden = try! JSON.read(path: Golden.folder + "added.golden.json")

  private func tokenizer(_ tokens: JSON) throws -> Tokenizer {
    var root = try #require(try JSON.read(path: Golden.folder + "gpt2.json").object)
    root["added_tokens"] = tokens
    return try Tokenizer(description: .object(root), settings: TokenizerSettings(), file: "f")
  }

  @Test func idsAreThoseOfTheLibrary() throws {
    for test in try #require(AddedTokenTests.golden["declared"]?.array) {
      let (name, tokens) = (test["name"]!.string!, test["tokens"]!.array!)
      // The library drops tokens without text.
      let pairs = zip(tokens, test["ids"]!.array!).filter { $0.0["content"] != "" }
      guard let (token, id) = pairs.first(where: { $0["id"] != $1 }) else {
        let read = try tokenizer(.array(tokens))
        for (token, id) in pairs {
          #expect(read.id(of: token["content"]!.string!).map { Int($0) } == id.int, "\(name)")
        }
        #expect(read.id(of: "") == nil)
        continue
      }
      let error = #expect(throws: TokenizerError.self, "\(name)") { try tokenizer(.array(tokens)) }
      guard case .badField("f", let field, let value, let expected) = error else {
        Issue.record("\(name): \(String(describing: error))")
        continue
      }
      #expect(field.hasPrefix("added_tokens["))
      #expect(value == "id \(token["id"]!.int!) of \(token["content"]!.text())", "\(name)")
      #expect(expected.hasPrefix("\(id.int!), "), "\(name): \(expected)")
    }
  }

  @Test func spacesAroundATokenGoOnce() throws {
    for test in try #require(AddedTokenTests.golden["stripped"]?.array) {
      let read = try tokenizer([test["token"]!])
      let ids = try read.encode(test["text"]!.string!, special: false)
      #expect(ids == test["ids"]!.array!.map { Int32($0.int!) }, "\(test.text())")
    }
  }

  @Test func whatTheLibraryDoesNotDoIsRefused() throws {
    let template: JSON = ["type": "TemplateProcessing", "single": [["Sequence": ["id": "A"]]]]
    let empty: JSON = ["type": "Split", "pattern": ["String": ""], "behavior": "Isolated"]
    for (part, value, words) in [
      ("post_processor", ["type": "Sequence", "processors": [template, template]], "processors[1] a second template"),
      ("pre_tokenizer", empty, "pattern is {\"String\":\"\"}, expected a text of 1 to 1024 bytes"),
    ] as [(String, JSON, String)] {
      var root = try #require(try JSON.read(path: Golden.folder + "gpt2.json").object)
      root[part] = value
      let error = #expect(throws: TokenizerError.self) {
        try Tokenizer(description: .object(root), settings: TokenizerSettings(), file: "f")
      }
      #expect("\(try #require(error))".contains(words), "\(String(describing: error))")
    }
  }
}
