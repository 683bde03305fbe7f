import Ranks

extension Ranks {
  /// The numbers that every rank gives, bit for bit, in the order of the ranks. All must come to the same `place`.
  /// - Throws: `RankError`.
  func gather(_ numbers: [Double], at place: String) throws(RankError) -> [[Double]] {
    try gather(numbers.flatMap { $0.littleEndianBytes }, at: place).map { [Double](littleEndianBytes: $0) }
  }
}

extension Double {
  /// Eight bytes.
  var littleEndianBytes: [UInt8] { withUnsafeBytes(of: bitPattern.littleEndian) { Array($0) } }
}

extension [Double] {
  /// The numbers of eight bytes each.
  init(littleEndianBytes bytes: some Collection<UInt8>) {
    let bytes = Array<UInt8>(bytes)
    self = stride(from: 0, to: bytes.count, by: 8).map { start in
      Double(bitPattern: bytes[start..<start + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) })
    }
  }
}
