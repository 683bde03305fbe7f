import Testing

@testable import Models

/// Pieces of a growing text are whole characters, hold back what may be a stop text, and make the text.
@Suite struct TextPiecesTests {
  @Test func unfinishedCharactersWait() {
    var pieces = TextPieces(stops: [])
    #expect(pieces.next(of: "a\u{FFFD}") == "a")
    #expect(pieces.next(of: "a\u{FFFD}\u{FFFD}") == nil)
    #expect(pieces.next(of: "aü") == "ü")
    #expect(pieces.rest(of: "aü") == nil)
  }

  @Test func theBeginningOfAStopTextWaits() {
    var pieces = TextPieces(stops: ["###", "END"])
    #expect(pieces.next(of: "text #") == "text ")
    #expect(pieces.next(of: "text ##") == nil)
    #expect(pieces.next(of: "text ##E") == "##")
    #expect(pieces.next(of: "text ##EN") == nil)
    #expect(pieces.rest(of: "text ##EN") == "EN")
  }
}
