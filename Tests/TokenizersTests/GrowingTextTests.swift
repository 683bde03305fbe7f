import Formats
import Testing

@testable import Tokenizers

/// Text that is told id by id is what all ids decoded together give.
@Suite struct GrowingTextTests {
  private static let names = [
    "gpt2", "llama3", "digits", "qwen", "llama2", "metaspace_always", "metaspace_first", "punctuation",
  ]
  /// Characters of several tokens, combined ones, flags, and half characters between others.
  private static let texts = [
    "Mia the baker", " naïve café — €3.50 日本語 🥖🥐", "👩‍👩‍👧‍👦🇩🇪🇫🇷e\u{301}\u{323}", "   \n\n x  ▁▁ y ",
  ]

  private func compare(_ tokenizer: Tokenizer, _ prompt: [Int32], _ ids: [Int32], _ name: String) throws {
    var grown = try GrowingText(after: prompt, tokenizer)
    for count in ids.indices {
      try grown.append(ids[count])
      let whole = try tokenizer.decode(Array(ids[...count]), after: prompt)
      #expect(grown.text == whole && grown.text.utf8.elementsEqual(whole.utf8), "\(name) \(prompt) \(ids[...count])")
    }
  }

  @Test(arguments: names) func eachTextIsTheWholeText(name: String) throws {
    let tokenizer = try fixture(name)
    for text in Self.texts {
      let ids = try tokenizer.encode(text, special: false)
      for at in Set([0, 1, 2, ids.count / 2]) where at <= ids.count {
        try compare(tokenizer, Array(ids[..<at]), Array(ids[at...]), name)
      }
    }
  }

  /// Ids as a bad model draws them: bytes out of order, special tokens, ids without a token, marks and spaces.
  @Test(arguments: names) func soAreTextsOfAnyIds(name: String) throws {
    let tokenizer = try fixture(name)
    let bytes = (0..<Int32(tokenizer.vocabularySize)).filter { id in
      guard let token = tokenizer.token(id) else { return true }
      return token.hasPrefix("<0x") || token.unicodeScalars.count == 1 || token.hasPrefix("▁▁")
    }
    var state: UInt64 = 88_172_645_463_325_252
    func draw(_ count: Int) -> Int {
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      return Int(state % UInt64(count))
    }
    for round in 0..<60 {
      let ids = (0..<24).map { _ in
        round % 3 == 0 || bytes.isEmpty ? Int32(draw(tokenizer.vocabularySize)) : bytes[draw(bytes.count)]
      }
      let at = draw(12)
      try compare(tokenizer, Array(ids[..<at]), Array(ids[at...]), name)
    }
  }

  /// A decoder whose text may change anywhere is decoded whole, and one that strips the beginning does so once.
  @Test(arguments: [
    #"{"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Strip", "content": "a", "start": 0, "stop": 2}]}"#,
    #"{"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Strip", "content": "a", "start": 2, "stop": 0}]}"#,
    #"{"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Replace", "pattern": "#
      + #"{"String": "ab"}, "content": "x"}]}"#,
    #"{"type": "Strip", "content": "a", "start": 1, "stop": 1}"#, "null",
  ]) func decodersThatSeeTheWholeTextAreRight(decoder: String) throws {
    let file = """
      {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "aa": 2, " ": 3}, "merges": []}, "decoder": \(decoder)}
      """
    let tokenizer = try Tokenizer(description: try JSON.parse(file), settings: TokenizerSettings(), file: "t.json")
    for number in 0..<1024 {
      let ids = (0..<5).map { Int32(number >> (2 * $0) & 3) }
      for at in 0..<3 { try compare(tokenizer, Array(ids[..<at]), Array(ids[at...]), decoder) }
    }
  }

  @Test(arguments: names) func stopsAreFoundAtTheSameId(name: String) throws {
    let tokenizer = try fixture(name)
    let text = "Mia the baker 🥖 naïve e\u{301} 日本語 €3.50\r\nx 👩\u{200D}👧y"
    let ids = try tokenizer.encode(text, special: false)
    for stop in [
      "baker", "er 🥖 na", "🥖", "é", "e", "本語 €", "nowhere", "3.50", "Mia", "\n", "\r", "\n\n", "\u{301}", "👧",
    ] {
      var grown = try GrowingText(after: [], tokenizer)
      var (found, wanted) = (ids.count, ids.count)
      for at in ids.indices.reversed() {
        // By bytes: characters of Swift join CR LF, an accent and what stands before it, and families.
        if try tokenizer.decode(Array(ids[...at])).utf8.contains(stop.utf8) { wanted = at }
      }
      for at in ids.indices {
        try grown.append(ids[at])
        if grown.contains(["x y z", stop]) {
          found = at
          break
        }
      }
      #expect(found == wanted, "\(name): \(stop)")
    }
  }
}
