/// Decoders of ggml block formats to f32, element by element. Operation order follows `gguf/quants.py` (gguf 0.19.0),
/// which equals `dequantize_row_*` of ggml-quants.c compiled without contraction, so results agree bit for bit.
package enum BlockDecoder {
  /// Decodes `blocks` blocks from `source` (any alignment) to `blocks * type.blockSize` floats.
  package static func run(
    _ type: GGMLType, _ source: UnsafeRawPointer, blocks: Int, into out: UnsafeMutablePointer<Float>
  ) {
    let step = type.blockBytes
    switch type {
    case .f32:
      UnsafeMutableRawPointer(out).copyMemory(from: source, byteCount: 4 * blocks)
    case .f16: for i in 0..<blocks { out[i] = half(source + 2 * i) }
    case .bf16: for i in 0..<blocks { out[i] = brain(source + 2 * i) }
    case .q8_0:
      for b in 0..<blocks {
        let p = source + b * step, d = half(p), y = out + 32 * b
        for j in 0..<32 { y[j] = Float(signed(p + 2, j)) * d }
      }
    case .q4_0:
      for b in 0..<blocks {
        let p = source + b * step, d = half(p), y = out + 32 * b
        for j in 0..<16 {
          let q = byte(p + 2, j)
          y[j] = Float(q & 15 - 8) * d
          y[j + 16] = Float(q >> 4 - 8) * d
        }
      }
    case .q4_1:
      for b in 0..<blocks {
        let p = source + b * step, d = half(p), m = half(p + 2), y = out + 32 * b
        for j in 0..<16 {
          let q = byte(p + 4, j)
          y[j] = d * Float(q & 15) + m
          y[j + 16] = d * Float(q >> 4) + m
        }
      }
    case .q5_0, .q5_1:
      let hasMinimum = type == .q5_1
      for b in 0..<blocks {
        let p = source + b * step, d = half(p), y = out + 32 * b
        let m = hasMinimum ? half(p + 2) : 0
        let bits = p + (hasMinimum ? 4 : 2)
        let high = UInt32(littleEndian: bits.loadUnaligned(as: UInt32.self))
        for j in 0..<16 {
          let q = byte(bits + 4, j)
          let low = q & 15 | Int32((high >> UInt32(j)) & 1) << 4
          let top = q >> 4 | Int32((high >> UInt32(j + 16)) & 1) << 4
          y[j] = hasMinimum ? d * Float(low) + m : d * Float(low - 16)
          y[j + 16] = hasMinimum ? d * Float(top) + m : d * Float(top - 16)
        }
      }
    case .iq4_nl:
      for b in 0..<blocks {
        let p = source + b * step
        looked(p + 2, iq4nl, half(p), out + 32 * b)
      }
    case .mxfp4:
      for b in 0..<blocks {
        let p = source + b * step
        looked(p + 1, e2m1, halfPower(p), out + 32 * b)
      }
    case .q2_K: for b in 0..<blocks { q2K(source + b * step, out + 256 * b) }
    case .q3_K: for b in 0..<blocks { q3K(source + b * step, out + 256 * b) }
    case .q4_K: for b in 0..<blocks { q45K(source + b * step, out + 256 * b, five: false) }
    case .q5_K: for b in 0..<blocks { q45K(source + b * step, out + 256 * b, five: true) }
    case .q6_K: for b in 0..<blocks { q6K(source + b * step, out + 256 * b) }
    }
  }

  /// Blocks of MXFP4 as OpenAI stores them: sixteen bytes of codes each, of which a byte holds two neighbours, the
  /// first in its low half; the scales are elsewhere.
  package static func runApart(
    _ codes: UnsafeRawPointer, scales: UnsafeRawPointer, blocks: Int, into out: UnsafeMutablePointer<Float>
  ) {
    for b in 0..<blocks {
      let d = halfPower(scales + b), y = out + 32 * b
      for j in 0..<16 {
        let q = Int(byte(codes + 16 * b, j))
        y[2 * j] = d * e2m1[q & 15]
        y[2 * j + 1] = d * e2m1[q >> 4]
      }
    }
  }

  /// Half of two to the power of the byte less 127.
  private static func halfPower(_ p: UnsafeRawPointer) -> Float {
    let exponent = UInt32(p.load(as: UInt8.self))
    return Float(bitPattern: exponent < 2 ? 0x0020_0000 << exponent : (exponent - 1) << 23)
  }

  private static let iq4nl: [Float] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]
  /// Twice the values of e2m1.
  private static let e2m1: [Float] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]

  /// 16 bytes of codes of a table: those in the low halves come first.
  private static func looked(
    _ p: UnsafeRawPointer, _ table: [Float], _ d: Float, _ out: UnsafeMutablePointer<Float>
  ) {
    for j in 0..<16 {
      let q = Int(byte(p, j))
      out[j] = d * table[q & 15]
      out[j + 16] = d * table[q >> 4]
    }
  }

  /// 16 scale bytes (scale low, minimum high nibble), 64 bytes of 2-bit codes, d, dmin.
  private static func q2K(_ p: UnsafeRawPointer, _ out: UnsafeMutablePointer<Float>) {
    let d = half(p + 80), dmin = half(p + 82)
    for group in 0..<16 {
      let scale = byte(p, group)
      let dl = d * Float(scale & 15), ml = dmin * Float(scale >> 4)
      // Groups go by half (128 elements), then shift, then 16 of 32 bytes.
      let codes = p + 16 + group / 8 * 32 + group % 2 * 16
      let shift = Int32(group % 8 / 2 * 2)
      let y = out + 16 * group
      for j in 0..<16 { y[j] = dl * Float((byte(codes, j) >> shift) & 3) - ml }
    }
  }

  /// 32 bytes of high bits, 64 bytes of 2-bit codes, 12 bytes of 6-bit scales, d.
  private static func q3K(_ p: UnsafeRawPointer, _ out: UnsafeMutablePointer<Float>) {
    let d = half(p + 108), packed = p + 96
    for group in 0..<16 {
      let low = (byte(packed, group % 8) >> (group < 8 ? 0 : 4)) & 15
      let high = (byte(packed, 8 + group % 4) >> Int32(group / 4 * 2)) & 3
      let dl = d * Float((low | high << 4) - 32)
      let codes = p + 32 + group / 8 * 32 + group % 2 * 16
      let mask = p + group % 2 * 16
      let shift = Int32(group % 8 / 2 * 2), bit = Int32(group / 2)
      let y = out + 16 * group
      for j in 0..<16 {
        let q = (byte(codes, j) >> shift) & 3
        // A clear high bit means minus four.
        y[j] = dl * Float(q - ((byte(mask, j) >> bit) & 1 ^ 1) << 2)
      }
    }
  }

  /// d, dmin, 12 bytes of 6-bit scales and minima, [32 bytes of fifth bits,] 128 bytes of nibbles.
  private static func q45K(_ p: UnsafeRawPointer, _ out: UnsafeMutablePointer<Float>, five: Bool) {
    let d = half(p), dmin = half(p + 2), packed = p + 4
    let codes = p + (five ? 48 : 16)
    for group in 0..<8 {
      let scale: Int32
      let minimum: Int32
      if group < 4 {
        scale = byte(packed, group) & 63
        minimum = byte(packed, group + 4) & 63
      } else {
        scale = byte(packed, group + 4) & 15 | (byte(packed, group - 4) >> 6) << 4
        minimum = byte(packed, group + 4) >> 4 | (byte(packed, group) >> 6) << 4
      }
      let dl = d * Float(scale), ml = dmin * Float(minimum)
      let from = codes + group / 2 * 32, shift = Int32(group % 2 * 4)
      let y = out + 32 * group
      for j in 0..<32 {
        var q = (byte(from, j) >> shift) & 15
        if five { q |= ((byte(p + 16, j) >> Int32(group)) & 1) << 4 }
        y[j] = dl * Float(q) - ml
      }
    }
  }

  /// 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed scales, d.
  private static func q6K(_ p: UnsafeRawPointer, _ out: UnsafeMutablePointer<Float>) {
    let d = half(p + 208)
    for group in 0..<16 {
      let dl = d * Float(signed(p + 192, group))
      let within = group % 8, start = within % 2 * 16, quarter = within / 2
      let low = p + group / 8 * 64 + quarter % 2 * 32 + start
      let high = p + 128 + group / 8 * 32 + start
      let y = out + 16 * group
      for j in 0..<16 {
        let q = (byte(low, j) >> (quarter < 2 ? 0 : 4)) & 15 | ((byte(high, j) >> Int32(quarter * 2)) & 3) << 4
        y[j] = dl * Float(q - 32)
      }
    }
  }

  @inline(__always)
  private static func byte(_ p: UnsafeRawPointer, _ i: Int) -> Int32 {
    Int32(p.load(fromByteOffset: i, as: UInt8.self))
  }

  @inline(__always)
  private static func signed(_ p: UnsafeRawPointer, _ i: Int) -> Int32 {
    Int32(p.load(fromByteOffset: i, as: Int8.self))
  }

  @inline(__always)
  static func brain(_ p: UnsafeRawPointer) -> Float {
    Float(bitPattern: UInt32(UInt16(littleEndian: p.loadUnaligned(as: UInt16.self))) << 16)
  }

  /// Widens an IEEE half exactly. Integer arithmetic, because the baseline build would call a library function.
  @inline(__always)
  static func half(_ p: UnsafeRawPointer) -> Float {
    let h = UInt32(UInt16(littleEndian: p.loadUnaligned(as: UInt16.self)))
    var bits = (h & 0x7FFF) << 13
    let exponent = bits & 0x0F80_0000
    bits &+= (127 - 15) << 23
    if exponent == 0x0F80_0000 {
      bits &+= (128 - 16) << 23  // infinity and NaN
    } else if exponent == 0 {
      // Subnormal: let the float unit normalise it.
      bits = (Float(bitPattern: bits &+ (1 << 23)) - Float(bitPattern: 113 << 23)).bitPattern
    }
    return Float(bitPattern: bits | (h & 0x8000) << 16)
  }
}
