/// GPT-2's reversible spelling of bytes as printable characters, so that no token holds white space or controls.
enum ByteLevel {
  /// The code point for each byte: itself where printable in Latin-1, else 256 and up in order.
  static let scalars: [Unicode.Scalar] = {
    var next: UInt32 = 256
    return (0..<256).map { (byte: UInt32) in
      if (33...126).contains(byte) || (161...172).contains(byte) || (174...255).contains(byte) {
        return Unicode.Scalar(byte)!
      }
      defer { next += 1 }
      return Unicode.Scalar(next)!
    }
  }()

  private static let spellings: [[UInt8]] = scalars.map { Array(String(Character($0)).utf8) }

  /// The byte for each code point below 324; -1 where there is none.
  private static let bytes: [Int16] = {
    var table = [Int16](repeating: -1, count: 324)
    for (byte, scalar) in scalars.enumerated() { table[Int(scalar.value)] = Int16(byte) }
    return table
  }()

  /// GPT-2's word pattern.
  static let pattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

  static func encode(_ piece: Piece) -> Piece {
    var out = Piece(bytes: [], place: piece.place)
    out.bytes.reserveCapacity(piece.bytes.count * 2)
    for (i, byte) in piece.bytes.enumerated() {
      out.bytes += spellings[Int(byte)]
      if piece.isTraced { for _ in spellings[Int(byte)] { out.origins.append(piece.origins[i]) } }
    }
    return out
  }

  /// nil when a character stands for no byte.
  static func decode(_ text: [UInt8]) -> [UInt8]? {
    var out: [UInt8] = []
    out.reserveCapacity(text.count)
    var good = true
    forEachScalar(text) { scalar, _ in
      if scalar.value < 324, bytes[Int(scalar.value)] >= 0 {
        out.append(UInt8(bytes[Int(scalar.value)]))
      } else {
        good = false
      }
    }
    return good ? out : nil
  }
}
