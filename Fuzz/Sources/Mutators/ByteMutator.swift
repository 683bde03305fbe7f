/// Mutations that know nothing of a format: flipped bits, cut, repeated and foreign pieces, extreme integers.
enum ByteMutator {
  /// Integers at the borders of the types that files use.
  static let extremes: [UInt64] = [
    0, 1, 2, 7, 8, 63, 64, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 1 << 20, 1 << 24, 0x7FFF_FFFF, 0x8000_0000,
    0xFFFF_FFFF, 0x1_0000_0000, 1 << 40, 1 << 53, 1 << 60, 1 << 62, 0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000,
    0xFFFF_FFFF_FFFF_FFFE, 0xFFFF_FFFF_FFFF_FFFF,
  ]
  /// Inputs do not grow beyond this.
  static let limit = 1 << 19

  static func mutated(_ bytes: [UInt8], with other: [UInt8], _ random: inout Random) -> [UInt8] {
    var bytes = bytes
    guard !bytes.isEmpty else { return Array(other.prefix(random.below(64))) }
    let at = place(in: bytes.count, &random)
    let count = min(bytes.count - at, 1 + random.below(random.once(in: 3) ? 4096 : 16))
    switch random.below(10) {
    case 0: bytes[at] ^= 1 << UInt8(random.below(8))
    case 1: bytes[at] = random.pick([0, 1, 0x7F, 0x80, 0xFF, 0x20, 0x0A, 0x22, 0x2C, 0x5B, 0x7B])
    case 2: bytes[at] = random.byte()
    case 3: bytes.removeSubrange(at..<at + count)
    case 4: bytes.insert(contentsOf: bytes[at..<at + count], at: at)
    case 5: bytes.removeSubrange(at...)
    case 6: overwrite(&bytes, at: at, width: random.pick([1, 2, 4, 8]), value: random.pick(extremes))
    case 7:
      let from = random.below(other.count)
      bytes.insert(contentsOf: other[from..<min(other.count, from + count)], at: at)
    case 8:
      let from = min(other.count, at)
      bytes = Array(bytes[..<at]) + other[from...]
    default: bytes.insert(contentsOf: (0..<min(count, 64)).map { _ in random.byte() }, at: at)
    }
    return bytes.count > limit ? Array(bytes[..<limit]) : bytes
  }

  /// Half of the places lie in the first kilobyte, where headers are.
  private static func place(in count: Int, _ random: inout Random) -> Int {
    random.once(in: 2) ? random.below(min(count, 1024)) : random.below(count)
  }

  /// Writes an integer, little-endian, as far as it fits.
  static func overwrite(_ bytes: inout [UInt8], at place: Int, width: Int, value: UInt64) {
    for i in 0..<width where place + i < bytes.count { bytes[place + i] = UInt8(truncatingIfNeeded: value >> (8 * i)) }
  }
}
