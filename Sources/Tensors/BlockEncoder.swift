/// Encoders of f32 to ggml block formats: the inverse of `BlockDecoder`.
///
/// Codes, scales and the search for them are those of `quantize_row_*_ref` of ggml-quants.c, each operation rounded, so
/// bytes equal those of ggml compiled without contraction. Compilers that fuse a product and a sum round a few elements
/// in a hundred thousand to the other of two nearest codes.
package enum BlockEncoder {
  /// The formats that can be written.
  package static let types: [GGMLType] = [.f32, .f16, .bf16, .q8_0, .q4_0, .q5_0, .q5_1, .q4_K, .q5_K, .q6_K]

  /// Encodes `blocks * type.blockSize` finite floats to `blocks` blocks; `type` is one of `types`.
  package static func run(
    _ type: GGMLType, _ source: UnsafePointer<Float>, blocks: Int, into out: UnsafeMutableRawPointer
  ) {
    let (size, bytes) = (type.blockSize, type.blockBytes)
    for b in 0..<blocks {
      let x = source + b * size, p = out + b * bytes
      switch type {
      case .f32: p.storeBytes(of: x[0].bitPattern.littleEndian, as: UInt32.self)
      case .f16: store(half(x[0]), p)
      case .bf16: store(brain(x[0]), p)
      case .q8_0: q80(x, p)
      case .q4_0: symmetric(x, p, bits: 4)
      case .q5_0: symmetric(x, p, bits: 5)
      case .q5_1: q51(x, p)
      case .q4_K: q45K(x, p, five: false)
      case .q5_K: q45K(x, p, five: true)
      case .q6_K: q6K(x, p)
      case .q4_1, .q2_K, .q3_K, .iq4_nl, .mxfp4: preconditionFailure("no encoder of \(type.name)")
      }
    }
  }

  /// d and 32 signed bytes.
  private static func q80(_ x: UnsafePointer<Float>, _ p: UnsafeMutableRawPointer) {
    var largest: Float = 0
    for j in 0..<32 { largest = max(largest, abs(x[j])) }
    let d = largest / 127
    let inverse = d == 0 ? 0 : 1 / d
    store(half(d), p)
    for j in 0..<32 {
      let code = (x[j] * inverse).rounded(.toNearestOrAwayFromZero)
      p.storeBytes(of: Int8(max(-128, min(127, code))), toByteOffset: 2 + j, as: Int8.self)
    }
  }

  /// d, with five bits 32 high bits, and 16 bytes of low halves: codes around the middle, in which the largest element
  /// is exact.
  private static func symmetric(_ x: UnsafePointer<Float>, _ p: UnsafeMutableRawPointer, bits: Int) {
    var (largest, signed): (Float, Float) = (0, 0)
    for j in 0..<32 where largest < abs(x[j]) { (largest, signed) = (abs(x[j]), x[j]) }
    let middle = Float(1 << (bits - 1)), last = Int32(1 << bits - 1)
    let d = signed / -middle
    let inverse = d == 0 ? 0 : 1 / d
    store(half(d), p)
    codes32(p + 2, hasHigh: bits == 5) { min(last, truncated(x[$0] * inverse + (middle + 0.5))) }
  }

  /// d, the least element, 32 high bits and 16 bytes of low halves.
  private static func q51(_ x: UnsafePointer<Float>, _ p: UnsafeMutableRawPointer) {
    var (low, high) = (x[0], x[0])
    for j in 1..<32 {
      if x[j] < low { low = x[j] }
      if x[j] > high { high = x[j] }
    }
    let d = (high - low) / 31
    let inverse = d == 0 ? 0 : 1 / d
    store(half(d), p)
    store(half(low), p + 2)
    codes32(p + 4, hasHigh: true) { truncated((x[$0] - low) * inverse + 0.5) }
  }

  /// Codes of up to five bits: those of the first sixteen elements in the low halves of the bytes.
  private static func codes32(_ p: UnsafeMutableRawPointer, hasHigh: Bool, _ code: (Int) -> Int32) {
    var high: UInt32 = 0
    let bytes = hasHigh ? p + 4 : p
    for j in 0..<16 {
      let (a, b) = (UInt32(bitPattern: code(j)), UInt32(bitPattern: code(j + 16)))
      bytes.storeBytes(of: UInt8(truncatingIfNeeded: a & 15 | (b & 15) << 4), toByteOffset: j, as: UInt8.self)
      high |= (a >> 4 & 1) << UInt32(j) | (b >> 4 & 1) << UInt32(j + 16)
    }
    if hasHigh { p.storeBytes(of: high.littleEndian, as: UInt32.self) }
  }

  /// A scale too small for f16 leaves quotients without bounds.
  private static func truncated(_ value: Float) -> Int32 { Int32(max(0, min(31, value))) }

  @inline(__always)
  static func store(_ value: UInt16, _ p: UnsafeMutableRawPointer) {
    p.storeBytes(of: value.littleEndian, as: UInt16.self)
  }

  private static func brain(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    return UInt16((bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16)
  }

  /// The nearest IEEE half, the even one of two; integer arithmetic, as in `BlockDecoder.half`.
  static func half(_ value: Float) -> UInt16 {
    let sign = UInt16(truncatingIfNeeded: value.bitPattern >> 16) & 0x8000
    let bits = value.bitPattern & 0x7FFF_FFFF
    if bits > 0x7F80_0000 { return sign | 0x7E00 }
    if bits >= 0x4780_0000 { return sign | 0x7C00 }
    // Beside 0.5 a float has the spacing of subnormal halves.
    if bits < 0x3880_0000 {
      return sign | UInt16((Float(bitPattern: bits) + 0.5).bitPattern - Float(0.5).bitPattern)
    }
    return sign | UInt16((bits + 0xFFF + (bits >> 13 & 1) - 0x3800_0000) >> 13)
  }
}
