/// Cuts a growing text into pieces that later tokens do not change: whole characters, and nothing that may be the
/// beginning of a stop text.
struct TextPieces {
  let stops: [String]
  /// Bytes of the text that were given out.
  private var given = 0

  init(stops: [String]) { self.stops = stops }

  /// What is new and sure; nil for nothing.
  mutating func next(of text: String) -> String? {
    // An unfinished character is shown as this one until its last byte is there.
    var sure = Substring(text)
    while sure.unicodeScalars.last == "\u{FFFD}" { sure.unicodeScalars.removeLast() }
    return take(Array(sure.utf8).dropLast(heldBack(sure)))
  }

  /// What is left of the finished text; nil for nothing.
  mutating func rest(of text: String) -> String? { take(Array(text.utf8)[...]) }

  private mutating func take(_ bytes: ArraySlice<UInt8>) -> String? {
    guard bytes.count > given else { return nil }
    defer { given = bytes.count }
    return String(decoding: bytes.dropFirst(given), as: UTF8.self)
  }

  /// The bytes at the end that begin a stop text.
  private func heldBack(_ text: Substring) -> Int {
    stops.map { stop in
      let stop = Array(stop.utf8), tail = Array(text.utf8.suffix(stop.count))
      return (0...tail.count).reversed().first { stop.starts(with: tail.suffix($0)) } ?? 0
    }.max() ?? 0
  }
}
