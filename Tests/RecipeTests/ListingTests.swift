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

  static let programs: [Listing] = ["tutorial", "selection"].flatMap { page -> [Listing] in
    let path = Program.root.appendingPathComponent("docs/\(page).md")
    guard let text = try? String(contentsOf: path, encoding: .utf8) else { return [] }
    var programs: [Listing] = []
    for part in text.components(separatedBy: "\n```lua\n").dropFirst() {
      let code = part.components(separatedBy: "\n```").first ?? ""
      if code.hasPrefix("-- "), let name = code.split(separator: "\n").first?.dropFirst(3), name.hasSuffix(".lua") {
        programs.append(Listing(page: page, name: String(name), text: code))
      } else if !programs.isEmpty {
        programs[programs.count - 1].text += "\n" + code
      }
    }
    return programs
  }

  @Test(arguments: programs)
  func runs(listing: Listing) throws {
    let directory = try Program.temporaryDirectory()
    try listing.text.write(
      to: directory.appendingPathComponent(listing.name), atomically: true, encoding: .utf8)
    let outcome = try Program.run([listing.name], in: directory)
    #expect(outcome.code == 0, "\(outcome.errors)")
  }

  /// What the pages quote as output, in blocks indented by four spaces, is what the programs print.
  @Test func quotedOutputIsReal() throws {
    let directory = try Program.temporaryDirectory()
    var output = ""
    for listing in Self.programs where listing.page == "selection" {
      try listing.text.write(
        to: directory.appendingPathComponent(listing.name), atomically: true, encoding: .utf8)
      output += try Program.run([listing.name], in: directory).output
    }
    let lines = Self.quoted(in: "selection")
    #expect(lines.count >= 5)
    for line in lines { #expect(output.contains(line), "\(line)\n\(output)") }
  }

  private static func quoted(in page: String) -> [String] {
    let path = Program.root.appendingPathComponent("docs/\(page).md")
    let text = (try? String(contentsOf: path, encoding: .utf8)) ?? ""
    let prose = text.components(separatedBy: "\n```").enumerated().filter { $0.offset % 2 == 0 }.map(\.element)
    return prose.joined(separator: "\n").components(separatedBy: "\n").filter { $0.hasPrefix("    ") }
      .map { String($0.dropFirst(4)) }
  }

  @Test func everyListingIsFound() {
    let names = ["first.lua", "selection.lua", "loop.lua", "look.lua", "mixed.lua", "measured.lua"]
    #expect(Self.programs.map(\.name) == names)
  }
}
