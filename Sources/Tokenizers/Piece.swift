/// A stretch of UTF-8 text on its way to the ids. Where somebody asks for ranges, every byte remembers what it was made
/// of, whatever normalizers and pre-tokenizers put in, leave out or change.
struct Piece {
  /// Where a piece stands: that decides whether a space is put before it.
  enum Place { case textStart, continuedStart, inner }

  var bytes: [UInt8]
  /// For each byte the range of the original text that it stands for; empty where nobody asks.
  var origins: [Range<Int32>] = []
  var place: Place

  var isTraced: Bool { !origins.isEmpty }

  /// The bytes of `range`; only a piece from the beginning keeps its place.
  subscript(range: Range<Int>) -> Piece {
    if range.count == bytes.count { return self }
    return Piece(
      bytes: Array(bytes[range]), origins: isTraced ? Array(origins[range]) : [],
      place: range.lowerBound == 0 ? place : .inner)
  }

  /// `content` in front, which stands for what the first byte stands for.
  func prepending(_ content: [UInt8]) -> Piece {
    var out = self
    out.bytes = content + bytes
    if let first = origins.first { out.origins = Array(repeating: first, count: content.count) + origins }
    return out
  }

  /// Every range replaced by `content`, which stands for the whole range.
  func replacing(_ ranges: [Range<Int>], by content: [UInt8]) -> Piece {
    if ranges.isEmpty { return self }
    var out = Piece(bytes: [], place: place)
    out.bytes.reserveCapacity(bytes.count)
    var at = 0
    for range in ranges {
      out.bytes += bytes[at..<range.lowerBound]
      out.bytes += content
      if isTraced {
        out.origins += origins[at..<range.lowerBound]
        out.origins += Array(repeating: origin(of: range), count: content.count)
      }
      at = range.upperBound
    }
    out.bytes += bytes[at...]
    if isTraced { out.origins += origins[at...] }
    return out
  }

  /// Each stretch given by `stretches` in order, spelled anew.
  func spelled(_ stretches: [(range: Range<Int>, bytes: [UInt8])]) -> Piece {
    var out = Piece(bytes: [], place: place)
    out.bytes.reserveCapacity(bytes.count)
    for (range, content) in stretches {
      out.bytes += content
      if isTraced { out.origins += Array(repeating: origin(of: range), count: content.count) }
    }
    return out
  }

  /// What the bytes of a range stand for together; an empty range stands for the place where it is.
  func origin(of range: Range<Int>) -> Range<Int32> {
    guard isTraced else { return 0..<0 }
    if range.isEmpty {
      let at =
        range.lowerBound < origins.count
        ? origins[range.lowerBound].lowerBound : origins[range.lowerBound - 1].upperBound
      return at..<at
    }
    let from = origins[range.lowerBound].lowerBound
    return from..<max(from, origins[range.upperBound - 1].upperBound)
  }
}
