import Formats
import Testing

@testable import Tokenizers

/// Parts of one text: their ids are those of the whole, and each knows which are its own.
@Suite struct PartTests {
  @Test(arguments: ["legacy_absent", "legacy_true", "json_added", "json_normalized", "no_prefix"])
  func trainedRangesAreTransformersAssistantMasks(name: String) throws {
    let folder = try Folder.named(name)
    let tokenizer = try folder.tokenizer()
    #expect(folder.chats.count == 3)
    for chat in folder.chats {
      let (ids, ranges) = try tokenizer.encode(parts: chat.parts.map(\.text))
      #expect(ids == chat.ids, "\(name)")
      var mask = [Bool](repeating: false, count: ids.count)
      for (range, part) in zip(ranges, chat.parts) where part.isTrained { for at in range { mask[at] = true } }
      #expect(mask == chat.mask, "\(name): \(chat.parts.map(\.text))")
    }
  }

  @Test(arguments: ["gpt2", "llama3", "digits", "qwen", "llama2", "metaspace_always", "metaspace_first", "punctuation"])
  func partsHaveTheIdsOfTheWhole(name: String) throws {
    let tokenizer = try fixture(name)
    for test in try Golden(name).cases {
      let scalars = Array(test.text.unicodeScalars)
      for width in [1, 2, 5, 1000] {
        let parts = stride(from: 0, to: scalars.count, by: width).map { at in
          String(String.UnicodeScalarView(scalars[at..<min(at + width, scalars.count)]))
        }
        let (ids, ranges) = try tokenizer.encode(parts: parts)
        #expect(ids == test.bare, "\(name) \(width): \(test.text.debugDescription)")
        // No id is without a part, and parts come in order.
        var covered = 0
        for range in ranges {
          #expect(range.lowerBound <= covered && range.upperBound <= ids.count)
          covered = max(covered, range.upperBound)
        }
        #expect(covered == ids.count, "\(name) \(width): \(test.text.debugDescription)")
      }
    }
  }

  @Test func onlyTheBeginningOfAContinuedTextGetsNoSpace() throws {
    for name in ["llama2", "metaspace_always", "qwen"] {
      let tokenizer = try fixture(name)
      let whole = try tokenizer.encode("x y", special: false)
      let first = try tokenizer.encode("x", special: false)
      #expect(try first + tokenizer.encode(" y", special: false, continues: true) == whole, "\(name)")
      let alone = try tokenizer.decode(try tokenizer.encode("y", special: false, continues: true))
      #expect(alone == "y", "\(name)")
    }
    // Behind a special token inside, the ids are those of a whole text.
    let llama2 = try fixture("llama2")
    let whole = try llama2.encode("x</s>y", special: false)
    let continued = try llama2.encode("x</s>y", special: false, continues: true)
    #expect(whole.suffix(2) == continued.suffix(2) && whole != continued)
  }

  @Test(arguments: ["gpt2", "llama2", "metaspace_first", "spm"])
  func textOfLaterIdsIsWhatTheyAdd(name: String) throws {
    let tokenizer =
      name == "spm" ? try Folder.named("legacy_false").tokenizer() : try fixture(name)
    for text in ["In the  morning she went", "größer 你好 😀x", "a</s> b", " 1\r\n\u{FEFF}2"] {
      let ids = try tokenizer.encode(text, special: false)
      let whole = try tokenizer.decode(ids)
      for cut in 1...ids.count {
        let (kept, added) = try tokenizer.joined(Array(ids[..<cut]), Array(ids[cut...]))
        #expect(kept + added == whole, "\(name) \(text) at \(cut)")
        #expect(try tokenizer.decode(Array(ids[cut...]), after: Array(ids[..<cut])) == added)
        // A character that the earlier ids begin is not left half.
        if cut < ids.count { #expect(!kept.contains("\u{FFFD}"), "\(name) \(text) at \(cut)") }
      }
    }
  }

  @Test func specialTokensThatALiteralPartSpellsStayText() throws {
    for name in ["llama3", "llama2"] {
      let tokenizer = try fixture(name)
      let end = name == "llama3" ? "<|eos|>" : "</s>"
      let id = try #require(tokenizer.id(of: end))
      let count = { (flags: [Bool], parts: [String]) in
        try tokenizer.encode(parts: parts, isLiteral: flags).ids.filter { $0 == id }.count
      }
      let parts = [end, "a" + end + "b", end]
      #expect(
        try count([], parts) == 3 && count([false, true, false], parts) == 2 && count([true, true, true], parts) == 0)
      // One that begins in a literal part and ends in the next is text too.
      #expect(try count([true, false], [String(end.dropLast()), String(end.last!)]) == 0)
      let (ids, ranges) = try tokenizer.encode(parts: parts, isLiteral: [false, true, false])
      #expect(try tokenizer.decode(Array(ids[ranges[1]])).hasSuffix("a" + end + "b"))
    }
  }

  /// One that is found behind the normalizer, too.
  @Test func normalizedSpecialTokensThatALiteralPartSpellsStayText() throws {
    var root = try #require(try JSON.read(path: Golden.folder + "whitespace.json").object)
    root["normalizer"] = ["type": "Lowercase"]
    root["added_tokens"] = [
      ["id": 0, "content": "<unk>", "special": true, "normalized": false],
      ["id": 187, "content": "with", "special": true, "normalized": true],
    ]
    let tokenizer = try Tokenizer(description: .object(root), settings: TokenizerSettings(), file: "f")
    func count(_ isLiteral: [Bool]) throws -> Int {
      try tokenizer.encode(parts: ["aWITHe", "aWITHe"], isLiteral: isLiteral).ids.filter { $0 == 187 }.count
    }
    #expect(try count([]) == 2 && count([true]) == 1)
  }
}
