import Formats
import Foundation
import Testing

@testable import Tokenizers

/// Patterns cut texts as the engines do that they are written for; the rest is refused by name.
@Suite struct RegexTests {
  private static let golden = try! JSON.read(path: Golden.folder + "regex.golden.json")
  private static let texts = golden["texts"]!.array!.map { $0.string! }

  private func pieces(_ pattern: String, _ text: String) throws -> [String] {
    let bytes = Array(text.utf8)
    let found = try Regex(pattern, dialect: .oniguruma, file: "f").matches(in: bytes)
    return SplitBehaviour.isolated.pieces(count: bytes.count, matches: found).map {
      String(decoding: bytes[$0], as: UTF8.self)
    }
  }

  @Test func patternsOfTokenizerFilesCutAsOnigurumaDoes() throws {
    let patterns = try #require(RegexTests.golden["patterns"]?.object)
    #expect(patterns.count > 130)
    for (pattern, cuts) in patterns {
      for (index, expected) in try #require(cuts.object) {
        let text = RegexTests.texts[Int(index)!]
        let actual = try pieces(pattern, text)
        #expect(actual.map { Array($0.utf8) } == expected.array!.map { Array($0.string!.utf8) }, "\(pattern) \(text)")
      }
    }
  }

  @Test func pythonsPatternsMatchAsReDoes() throws {
    for test in try #require(RegexTests.golden["python"]?.array) {
      let (pattern, text) = (test[0]!.string!, test[1]!.string!)
      #expect(try fullMatch(pattern: pattern, text: text) == test[2]!.bool!, "\(pattern) \(text.debugDescription)")
    }
  }

  @Test func whitespaceCutsAsRustsRegexDoes() throws {
    let fields = Fields(file: "f", place: "", json: ["type": "Whitespace"])
    let splitter = try PreTokenizer(fields)
    for (text, expected) in zip(RegexTests.texts, RegexTests.golden["whitespace"]!.array!) {
      let cut = try splitter.apply([Piece(bytes: Array(text.utf8), place: .textStart)])
      #expect(cut.map(\.bytes) == expected.array!.map { Array($0.string!.utf8) }, "\(text)")
    }
  }

  @Test(arguments: [
    (#"\pL+"#, #"\p without braces"#), (#"\Qa.b\E"#, #"\Q is"#), (#"\N"#, #"\N is"#), (#"\X"#, #"\X is"#),
    (#"\K"#, #"\K is"#), (#"\G"#, #"\G is"#), (#"\C-a"#, #"\C is"#), (#"\l"#, #"\l is"#), (#"\y"#, #"\y is"#),
    (#"\k<n>"#, #"\k is"#), (#"\g<n>"#, #"\g is"#), (#"\012"#, #"\0 is"#), (#"\xE9"#, "a byte above 7F"),
    (#"\x{110000}"#, #"\x is"#), (#"\u12"#, "4 digits"), (#"\p{Foo}"#, #"\p{Foo} is"#), (#"\p{sc=Han}"#, #"\p{sc}"#),
    (#"\p{Xan}"#, #"\p{Xan} is"#), ("a\\", "a backslash at the end"), ("(?x)a b", "(?x) is"), ("(?s).", "(?s) is"),
    ("(?W:a)", "(?W: is"), ("(?~a)", "(?~"), ("(*FAIL)", "(* is"), ("(?|a|b)", "(?|a|b) is"), ("(?P<n>a)", "(?P<n"),
    ("(?i)größe", "ß without regard to case"), ("(?i)ss", "ss without regard to case"), ("(?i)oﬃce", "ﬃ without"),
    ("(?i:s(?:t))", "st without regard to case"), ("(?i)[ß-ÿ]", "a range without regard to case"),
    (#"(?i)[\p{Lu}]"#, #"\p in a class"#), ("(?i)[a[b]]", "a class in a class"), ("(?i)[a&&b]", "&& without"),
    (#"(?i)(a)\1"#, "a backreference without regard to case"), (#"(?<n>a)(b)\1"#, "beside named groups"),
    (#"\12"#, "several digits"), ("[a-\\d]", "ends in order"), ("[z-a]", "ends in order"), (#"[\d-a]"#, "begins with"),
    ("[a-[b]]", "ends in order"), ("[[:foo:]]", "[:foo is"), ("[[:alpha]]", "[:alpha is"), ("[]", "closing bracket"),
    ("[a&&]", "an empty class"), ("*a", "nothing to repeat"), ("^*", "nothing to repeat"), ("{2}", "nothing to repeat"),
    ("a+??", "a lazy quantifier beside another"), ("(a", "a group without its end"), ("a)", "without its opening"),
    ("(?<=a*)b", "lookbehind"),
  ])
  func whatCannotBeMatchedTheSameIsRefused(pattern: String, words: String) throws {
    let error = #expect(throws: TokenizerError.self, "\(pattern)") {
      try Regex(pattern, dialect: .oniguruma, file: "f")
    }
    #expect("\(try #require(error))".contains(words), "\(pattern): \(String(describing: error))")
  }

  @Test(arguments: [
    (#"\p{L}"#, #"\p is"#), (#"\h"#, #"\h is"#), (#"\Q"#, #"\Q is"#), ("(?x)a", "(?x) is"), ("a(?i)b", "at the start"),
    ("(?<n>a)", "(?<n>a) is"), ("a**", "a quantifier of a quantifier"), ("(?(1)a)", "(?(1) is"),
  ])
  func whatPythonRefusesIsRefused(pattern: String, words: String) throws {
    let error = #expect(throws: TokenizerError.self, "\(pattern)") { try fullMatch(pattern: pattern, text: "a") }
    #expect("\(try #require(error))".contains(words), "\(pattern): \(String(describing: error))")
  }

  @Test func patternsInPatternsAreBounded() throws {
    for (open, close) in [("(?:", ")"), ("[", "]"), ("(?i)(", ")")] {
      let pattern = String(repeating: open, count: 5000) + "a" + String(repeating: close, count: 5000)
      let error = #expect(throws: TokenizerError.self) { try Regex(pattern, dialect: .oniguruma, file: "f") }
      #expect("\(try #require(error))".contains("more than 200 levels"))
    }
  }
}
