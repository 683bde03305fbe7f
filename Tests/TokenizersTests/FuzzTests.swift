import Formats
import Foundation
import Testing

@testable import Tokenizers

@Suite struct FuzzTests {
  private static func changed(_ bytes: [UInt8], _ random: inout SystemRandomNumberGenerator) -> [UInt8] {
    var bytes = bytes
    switch Int.random(in: 0..<3, using: &random) {
    case 0: bytes.removeLast(Int.random(in: 0..<bytes.count, using: &random))
    case 1:
      for _ in 0..<Int.random(in: 1..<20, using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
    default:
      let at = Int.random(in: 0..<bytes.count, using: &random)
      bytes.removeSubrange(at..<min(bytes.count, at + Int.random(in: 1..<40, using: &random)))
    }
    return bytes
  }

  /// Damaged files may be readable or not, but neither reading nor using them may end the process.
  @Test(arguments: ["llama3.json", "metaspace_first.json", "punctuation.json", "spm.model"])
  func damagedFilesAreErrorsOrTokenizers(file: String) throws {
    var random = SystemRandomNumberGenerator()
    let good = Array(try Data(contentsOf: URL(fileURLWithPath: Golden.folder + file)))
    let target = file.hasSuffix("json") ? "tokenizer.json" : "tokenizer.model"
    var failures = 0
    try withFolder { folder in
      for round in 0..<150 {
        let bytes = round == 0 ? [] : round == 1 ? good.reversed() : FuzzTests.changed(good, &random)
        try Data(bytes).write(to: URL(fileURLWithPath: folder + "/" + target))
        do {
          let tokenizer = try Tokenizer(directory: folder)
          let ids = try tokenizer.encode("Hello <s> wörld 123\n")
          _ = try tokenizer.decode(ids)
          for id in ids { #expect(id >= 0 && Int(id) < tokenizer.vocabularySize) }
        } catch {
          failures += 1
          #expect(error is TokenizerError || error is FormatError)
        }
      }
    }
    #expect(failures > 20)
  }

  /// Every scalar of a tokenizer.json replaced in turn by values of other kinds.
  @Test func fieldsOfOtherTypesAreErrorsOrTokenizers() throws {
    let strange: [JSON] = [
      nil, 5, -1, 1e300, .int(.max), "", "x", true, [], ["x"], .object(JSONObject([("type", "x")])),
    ]
    for name in ["llama3", "llama2", "metaspace_always", "punctuation"] {
      let json = try JSON.read(path: Golden.folder + name + ".json")
      for value in strange {
        FuzzTests.forEachReplacement(json, by: value, depth: 0) { changed in
          let tokenizer = try? Tokenizer(description: changed, settings: TokenizerSettings(), file: "x")
          if let tokenizer { _ = try? tokenizer.decode(tokenizer.encode("<|bos|> Hello 12, wörld")) }
        }
      }
    }
  }

  private static func forEachReplacement(_ json: JSON, by value: JSON, depth: Int, _ body: (JSON) -> Void) {
    body(value)
    switch json {
    case .object(let object):
      for key in object.keys.prefix(12) {
        forEachReplacement(object[key]!, by: value, depth: depth + 1) { inner in
          var copy = object
          copy[key] = inner
          body(.object(copy))
        }
      }
    case .array(let array):
      for i in array.indices.prefix(2) {
        forEachReplacement(array[i], by: value, depth: depth + 1) { inner in
          var copy = array
          copy[i] = inner
          body(.array(copy))
        }
      }
    default: break
    }
  }

  @Test func idsOutsideTheVocabularyAreErrors() throws {
    let tokenizer = try fixture("gpt2")
    for id in [-1, Int32(tokenizer.vocabularySize), .max, .min] {
      #expect(throws: TokenizerError.idOutOfRange(id: id, vocabulary: tokenizer.vocabularySize)) {
        try tokenizer.decode([0, id])
      }
      #expect(tokenizer.token(id) == nil)
    }
  }
}
