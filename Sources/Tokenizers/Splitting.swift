/// What becomes of the matches of a splitting pattern (`SplitDelimiterBehavior` of the tokenizers library).
enum SplitBehaviour: String, CaseIterable, Sendable {
  case removed = "Removed", isolated = "Isolated", mergedWithPrevious = "MergedWithPrevious"
  case mergedWithNext = "MergedWithNext", contiguous = "Contiguous"

  /// Cuts `0..<count` at the matches; with `invert` the gaps count as the matches.
  func pieces(count: Int, matches: [Range<Int>], invert: Bool = false) -> [Range<Int>] {
    var parts: [(range: Range<Int>, match: Bool)] = []
    parts.reserveCapacity(2 * matches.count + 1)
    var at = 0
    for range in matches {
      if at < range.lowerBound { parts.append((at..<range.lowerBound, invert)) }
      parts.append((range, !invert))
      at = range.upperBound
    }
    if at < count { parts.append((at..<count, invert)) }
    var out: [Range<Int>] = []
    out.reserveCapacity(parts.count)
    switch self {
    case .isolated: out = parts.map(\.range)
    case .removed: out = parts.lazy.filter { !$0.match }.map(\.range)
    case .contiguous:
      var previous: Bool?
      for part in parts {
        if part.match == previous {
          out[out.count - 1] = out[out.count - 1].lowerBound..<part.range.upperBound
        } else {
          out.append(part.range)
        }
        previous = part.match
      }
    case .mergedWithPrevious:
      var previous = false
      for part in parts {
        if part.match, !previous, let last = out.last {
          out[out.count - 1] = last.lowerBound..<part.range.upperBound
        } else {
          out.append(part.range)
        }
        previous = part.match
      }
    case .mergedWithNext:
      var previous = false
      for part in parts.reversed() {
        if part.match, !previous, let last = out.last {
          out[out.count - 1] = part.range.lowerBound..<last.upperBound
        } else {
          out.append(part.range)
        }
        previous = part.match
      }
      out.reverse()
    }
    return out.filter { !$0.isEmpty }
  }
}

/// One byte-range per character that satisfies a condition.
func characters(in text: [UInt8], where condition: (Unicode.Scalar) -> Bool) -> [Range<Int>] {
  var found: [Range<Int>] = []
  forEachScalar(text) { scalar, range in if condition(scalar) { found.append(range) } }
  return found
}

/// Walks over valid UTF-8. Malformed bytes, which cannot occur in texts that were strings, count as U+FFFD.
@inline(__always)
func forEachScalar(_ text: [UInt8], _ body: (Unicode.Scalar, Range<Int>) -> Void) {
  text.withUnsafeBufferPointer { bytes in
    var at = 0
    while at < bytes.count {
      let first = bytes[at]
      let length = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4
      let end = min(at + length, bytes.count)
      var value = length == 1 ? UInt32(first) : UInt32(first) & (0xFF >> UInt32(length + 1))
      for i in at + 1..<max(end, at + 1) { value = value << 6 | UInt32(bytes[i] & 0x3F) }
      body(Unicode.Scalar(value) ?? "\u{FFFD}", at..<end)
      at = end
    }
  }
}
