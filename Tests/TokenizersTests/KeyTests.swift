import Formats
import Foundation
import Testing

@testable import Tokenizers

/// Every key that a peer knows has a decision; the lists are made by make_transformers.py.
@Suite struct KeyTests {
  private static func peers() throws -> JSON { try JSON.read(path: Golden.folder + "keys.json") }

  private static func undecided(_ list: JSON?, _ table: TokenizerKeys) throws -> [String] {
    let known = Set(table.keys.map(\.name))
    return try #require(list?.array).compactMap(\.string).filter { !known.contains($0) }
  }

  @Test func keysOfThePeersHaveADecision() throws {
    let peers = try KeyTests.peers()
    #expect(peers["versions"]?["transformers"] == "5.23.0" && peers["versions"]?["tokenizers"] == "0.23.3")
    #expect(try KeyTests.undecided(peers["tokenizer_config"], .config).isEmpty)
    for (part, table) in [
      ("file", TokenizerKeys.file), ("model", .model), ("normalizer", .normalizer), ("pre_tokenizer", .preTokenizer),
      ("post_processor", .postProcessor), ("decoder", .decoder), ("added_token", .addedToken),
    ] {
      #expect(try KeyTests.undecided(peers["json"]?[part], table).isEmpty, "\(part)")
    }
    for (part, table) in [
      ("model", TokenizerKeys.sentencePiece), ("trainer_spec", .trainer), ("normalizer_spec", .sentencePieceNormalizer),
    ] {
      let missing = try KeyTests.undecided(peers["sentencepiece"]?[part], table).filter { $0 != "denormalizer_spec" }
      #expect(missing.isEmpty, "\(part)")
    }
  }

  @Test func kindsOfThePeersAreReadOrRefused() throws {
    let kinds = try #require(try KeyTests.peers()["kinds"]?.object)
    for (part, read, refused) in TokenizerKeys.kinds {
      let listed = try #require(kinds[part]?.array).compactMap(\.string)
      #expect(listed.sorted() == (read + refused).sorted(), "\(part)")
    }
  }

  @Test func everyTableHasAKeyOnce() {
    for table in TokenizerKeys.all { #expect(Set(table.keys.map(\.name)).count == table.keys.count, "\(table.place)") }
  }

  /// With QLORA_WRITE_DOCS set the page is written instead.
  @Test func theDocumentationPrintsTheTables() throws {
    let path = Golden.package + "/docs/fields-tokenizer.md"
    let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
    let mark = "<!-- tables: Sources/Tokenizers/TokenizerKeyTables.swift -->\n\n"
    let head = text.range(of: mark).map { String(text[..<$0.upperBound]) } ?? mark
    if ProcessInfo.processInfo.environment["QLORA_WRITE_DOCS"] != nil {
      try AtomicFile.write(path, head + TokenizerKeys.markdown)
      return
    }
    #expect(text == head + TokenizerKeys.markdown, "QLORA_WRITE_DOCS=1 swift test --filter theDocumentationPrints")
  }
}
