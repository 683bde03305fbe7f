/// A dynamic map as straight lines, one a decade, by which vector kernels compute codes and entries instead of looking
/// them up in memory (`simd_dynamic.h`).
///
/// Decade i has n = 2^i entries (unsigned: 2^(i + 1)), evenly spaced, at the places n to 2n - 1; the largest entry has
/// the place after them, and a line of its own. In a signed map the place is the distance from the code of zero; in an
/// unsigned one, where zero has the place 1, it is the code plus one.
///
/// The place of a value s is floor(slope s + offset): lines meet whole numbers at the midpoints of neighbouring
/// entries. Only the midpoint of two decades lies 0.2 above the first place n of the upper one; there a steeper line,
/// 2 (slope s + offset) - gap, is below the other and meets n. What kernels compute is rounded, and they multiply by a
/// rounded reciprocal; so they ask the cells of `DynamicCodec` where a place is too near to a whole number.
///
/// The entry at a place is entrySlope place + entryOffset, fused, with its last bits corrected: the rounding of the
/// maps is that of torch.linspace and follows no line. AVX-512 looks the entries up instead, in halves.
struct DynamicLines {
  /// `QT_LEAST`, which kernels add to a magnitude before they look at its exponent.
  private static let least = 0x1p-23
  /// Kernels take places in units of 2^-16.
  private static let unit = 65536.0

  private let map: [Float]
  private let isSigned: Bool
  /// Eight floats each: edge (where the next line begins), slope, offset, gap, entrySlope, entryOffset.
  private var rows = Array(repeating: [Float](repeating: 0, count: 8), count: 6)
  /// In units in the last place: of signed entries by place; else of a code in the lower four bits and of that code
  /// plus 128 in the upper four.
  private var corrections = [UInt8](repeating: 0, count: 128)

  private init(_ map: [Float], isSigned: Bool) {
    self.map = map
    self.isSigned = isSigned
  }

  /// The table of a map, in the layout of `qt_lines`. It lives as long as the process.
  static func table(_ map: [Float], isSigned: Bool) -> UnsafeRawPointer {
    var lines = DynamicLines(map, isSigned: isSigned)
    for decade in 0..<8 {
      lines.putPlaces(decade)
      lines.putEntries(decade)
    }
    let numbers = lines.rows.flatMap { $0 }
    let halves = [16, 0].flatMap { shift in map.map { UInt16(truncatingIfNeeded: $0.bitPattern >> shift) } }
    let (size, end) = (4 * numbers.count, 4 * numbers.count + lines.corrections.count)
    let table = UnsafeMutableRawPointer.allocate(byteCount: end + 2 * halves.count, alignment: 64)
    numbers.withUnsafeBytes { table.copyMemory(from: $0.baseAddress!, byteCount: size) }
    lines.corrections.withUnsafeBytes { (table + size).copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    halves.withUnsafeBytes { (table + end).copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    return UnsafeRawPointer(table)
  }

  private func firstPlace(_ decade: Int) -> Int { isSigned ? 1 << decade : 2 << decade }
  private func entry(_ place: Int) -> Double { Double(map[isSigned ? 127 + place : place - 1]) }
  /// The midpoint of the entry at a place and the one below.
  private func midpoint(_ place: Int) -> Double { (entry(place - 1) + entry(place)) / 2 }

  private mutating func putPlaces(_ decade: Int) {
    let n = Double(firstPlace(decade))
    let top = decade < 7 ? DynamicMap.scales[decade] : 1
    var (low, high) = ((top / 10, n), (top, 2 * n))
    switch decade {
    case 0:
      // The neighbour below is zero. A signed map has no second midpoint here.
      low = (midpoint(firstPlace(0)), n + 0.2)
      high = isSigned ? (top, 1.9) : (midpoint(3), 3)
    case 7:
      low = ((midpoint(firstPlace(7) - 1) + midpoint(firstPlace(7))) / 2, n - 0.5)
      high = (midpoint(firstPlace(7)), n)
    default: break
    }
    // The edge of the last line leads to the first one: a guess below the decades ends there.
    if decade > 0 { rows[0][decade - 1] = Float(low.0 + Self.least) }
    let slope = (high.1 - low.1) / (high.0 - low.0)
    let shift = isSigned ? 0.0 : 1.0
    rows[1][decade] = Float(slope * Self.unit)
    rows[2][decade] = Float((low.1 - slope * (low.0 + Self.least) - shift) * Self.unit)
    rows[3][decade] = decade < 7 ? Float((n + 0.4 - shift) * Self.unit) : 0
  }

  private mutating func putEntries(_ decade: Int) {
    let n = firstPlace(decade)
    // Zero is on the first line of a signed map, and on the last one of an unsigned map, whose look-up sees 1 for 256.
    var places = Array(n..<2 * n)
    if decade == 0, isSigned { places = [0, 1] }
    if decade == 7 { places = isSigned ? [0, 128] : [1, 256] }
    let (first, last) = (places[0], places[places.count - 1])
    let slope = Float((entry(last) - entry(first)) / Double(last - first))
    let isThroughZero = entry(first) == 0
    let offset =
      isThroughZero
      ? -slope * Float(first)
      : Float(places.reduce(0) { $0 + entry($1) - Double(slope) * Double($1) } / Double(places.count))
    // Kernels take a signed place twice, which leaves the exponent of 0 at the first line.
    let factor: Float = isSigned ? 2 : 1
    rows[4][decade] = slope / factor
    rows[5][decade] = offset
    for place in places {
      let computed = offset.addingProduct(slope / factor, factor * Float(place))
      let missing = Int(Float(entry(place)).bitPattern) - Int(computed.bitPattern)
      precondition((-8..<8).contains(missing) && (missing == 0 || place < 128 || !isSigned))
      if isSigned {
        corrections[place & 127] |= UInt8(truncatingIfNeeded: missing)
      } else {
        let code = place - 1
        corrections[code & 127] |= UInt8(missing & 15) << (code < 128 ? 0 : 4)
      }
    }
  }
}
