import Foundation
import Testing

/// The Lua listings of the guides, run. A listing that opens with `-- name.lua` begins a program; those after it go on
/// with that program, so that a page can talk between the lines.
@Suite struct ListingTests {
  struct Listing: CustomTestStringConvertible {
    let page: String
    let name: String
    var text: String
    var testDescription: String { "\(page): \(name)" }
  }

  static let programs: [Listing] = ["docs/tutorial.md", "docs/selection.md"].flatMap { listings($0, isWhole: true) }

  /// The programs of a page. Where it is whole, listings without a name go on with the program before them.
  static func listings(_ page: String, isWhole: Bool) -> [Listing] {
    var programs: [Listing] = []
    for code in blocks("lua", in: page) {
      if code.hasPrefix("-- "), let name = code.split(separator: "\n").first?.dropFirst(3), name.hasSuffix(".lua") {
        programs.append(Listing(page: page, name: String(name), text: code))
      } else if isWhole, !programs.isEmpty {
        programs[programs.count - 1].text += "\n" + code
      }
    }
    return programs
  }

  /// The fenced blocks of a kind on a page, in their order.
  static func blocks(_ kind: String, in page: String) -> [String] {
    Program.text(page).components(separatedBy: "\n```").enumerated()
      .filter { $0.offset % 2 == 1 && $0.element.hasPrefix(kind + "\n") }
      .map { String($0.element.dropFirst(kind.count + 1)) }
  }

  @Test(arguments: programs)
  func runs(listing: Listing) throws {
    let directory = try Program.temporaryDirectory()
    try listing.text.write(
      to: directory.appendingPathComponent(listing.name), atomically: true, encoding: .utf8)
    let outcome = try Program.run([listing.name], in: directory)
    #expect(outcome.code == 0, "\(outcome.errors)")
    if listing.name == "first.lua" {
      let last = outcome.output.firstMatch(of: /loss [\d.]+ -> ([\d.]+)/).flatMap { Double($0.1) }
      #expect((last ?? 10) < 0.5, "\(outcome.output)")
    }
  }

  /// What selection.md quotes as output is what its programs print.
  @Test func quotedOutputIsReal() throws {
    let directory = try Program.temporaryDirectory()
    var output = ""
    for listing in Self.programs where listing.page == "docs/selection.md" {
      try listing.text.write(
        to: directory.appendingPathComponent(listing.name), atomically: true, encoding: .utf8)
      output += try Program.run([listing.name], in: directory).output
    }
    let lines = Self.blocks("text", in: "docs/selection.md").flatMap { $0.components(separatedBy: "\n") }
    #expect(lines.count >= 12)
    for line in lines { #expect(output.contains(line), "\(line)\n\(output)") }
  }

  /// README's listing is the quickstart, and what README quotes is what it prints. Figures of speed and memory move;
  /// losses may differ in the third digit between instruction sets.
  @Test func readmeShowsTheQuickstartAndItsOutput() throws {
    let recipe = Program.text("recipes/quickstart.lua")
    let body = recipe.range(of: "local qlora = require").map { String(recipe[$0.lowerBound...]) } ?? ""
    #expect(Self.blocks("lua", in: "README.md").first.map { $0 + "\n" } == body)
    let outcome = try Program.run(["quickstart.lua"], seconds: 600)
    #expect(outcome.code == 0, "\(outcome.errors)")
    let printed = Set(outcome.output.components(separatedBy: "\n").map(Self.steady))
    let quoted = Self.blocks("text", in: "README.md").first?.components(separatedBy: "\n") ?? []
    #expect(quoted.count >= 12)
    for line in quoted where line != "…" { #expect(printed.contains(Self.steady(line)), "\(line)\n\(outcome.output)") }
  }

  /// A line of output without what differs from run to run: time, speed, memory, the last digits of losses, the curve.
  private static func steady(_ line: String) -> String {
    guard line.hasPrefix("loss") || line.contains("tok/s") else { return line }
    return line.replacing(/in \d+:\d+: [\d,]+ tok.s, peak memory [\d.]+ MiB/, with: "").replacing(/(\.\d)\d+/) { $0.1 }
      .replacing(/[▁▂▃▄▅▆▇█]+/, with: "")
  }

  /// The statements that README types at the prompt give what README shows.
  @Test func readmeShowsThePrompt() throws {
    let session = try #require(Self.blocks("text", in: "README.md").dropFirst().first).components(separatedBy: "\n")
    let statements = session.filter { $0.hasPrefix("> ") }.map { String($0.dropFirst(2)) }
    #expect(statements.count >= 4)
    let outcome = try Program.run(["-i"], input: statements.joined(separator: "\n") + "\n")
    #expect(outcome.code == 0 && outcome.errors.isEmpty, "\(outcome.errors)")
    for line in session where !line.hasPrefix("> ") {
      #expect(outcome.output.contains(line + "\n"), "\(outcome.output)")
    }
  }

  @Test func everyListingIsFound() {
    let names = ["first.lua", "selection.lua", "loop.lua", "look.lua", "mixed.lua", "measured.lua"]
    #expect(Self.programs.map(\.name) == names)
  }
}
