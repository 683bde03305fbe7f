import Foundation
import Testing

/// Names of the files of models and adapters stand in `FileName` alone.
@Suite struct FileNameTests {
  private static let home = "FileName.swift"

  @Test func noOtherFileSpellsThem() throws {
    let sources = root.appendingPathComponent("Sources")
    let text = try String(contentsOf: sources.appendingPathComponent("Formats/\(Self.home)"), encoding: .utf8)
    let names = text.matches(of: #/= "(.+)"/#).map { NSRegularExpression.escapedPattern(for: String($0.1)) }
    #expect(names.count > 10)
    // The whole of a literal, or the end of a path; within a sentence a name is a word.
    let pattern = #""([^" ]*/)?(\#(names.joined(separator: "|")))""#
    let found = try AddressTests.findings(under: sources, [pattern])
    // The keys of a tokenizer's files are listed under titles.
    let elsewhere = found.lines.filter { !$0.hasPrefix(Self.home) && !$0.hasPrefix("TokenizerKeyTables.swift") }
    #expect(found.lines.count >= names.count && elsewhere.isEmpty, "\(elsewhere.joined(separator: "\n"))")
  }
}
