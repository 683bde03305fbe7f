/// Blocks of 256 elements, whose parts have small scales (and minima) under an f16 one.
extension BlockEncoder {
  /// d, dmin, 12 bytes of 6-bit scales and minima, [32 bytes of fifth bits,] 128 bytes of nibbles.
  static func q45K(_ x: UnsafePointer<Float>, _ p: UnsafeMutableRawPointer, five: Bool) {
    let last: Float = five ? 31 : 15
    let found = BlockSearch.scalesAndMinima(x, last: last, first: five ? -0.5 : -1, steps: five ? 15 : 20)
    let (largest, deepest) = (max(0, found.scales.max()), max(0, found.minima.max()))
    let scales = sixBits(found.scales, largest), minima = sixBits(found.minima, deepest)
    let (d, dmin) = (half(largest / 63), half(deepest / 63))
    store(d, p)
    store(dmin, p + 2)
    pack(scales, minima, p + 4)
    let (wide, deep) = (widened(d), widened(dmin))
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 256) { codes in
      for group in 0..<8 {
        let scale = wide * Float(scales[group]), minimum = deep * Float(minima[group])
        for i in 0..<32 {
          let code =
            scale == 0
            ? Int32(found.codes[i][group])
            : max(0, min(Int32(last), BlockSearch.nearest((x[32 * group + i] + minimum) / scale)))
          codes[32 * group + i] = UInt8(code)
        }
      }
      let low = p + (five ? 48 : 16)
      for pair in 0..<4 {
        for j in 0..<32 {
          let (a, b) = (codes[64 * pair + j], codes[64 * pair + 32 + j])
          low.storeBytes(of: a & 15 | (b & 15) << 4, toByteOffset: 32 * pair + j, as: UInt8.self)
        }
      }
      guard five else { return }
      for j in 0..<32 {
        let bits = (0..<8).reduce(UInt8(0)) { $0 | (codes[32 * $1 + j] >> 4) << UInt8($1) }
        p.storeBytes(of: bits, toByteOffset: 16 + j, as: UInt8.self)
      }
    }
  }

  /// 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed scales, d.
  static func q6K(_ x: UnsafePointer<Float>, _ p: UnsafeMutableRawPointer) {
    let found = BlockSearch.scales(x)
    var largest: Float = 0
    for group in 0..<16 where abs(found.scales[group]) > abs(largest) { largest = found.scales[group] }
    guard abs(largest) >= BlockSearch.nothing else {
      p.initializeMemory(as: UInt8.self, repeating: 0, count: 210)
      return
    }
    let inverse = -128 / largest
    let d = half(1 / inverse)
    store(d, p + 208)
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 256) { codes in
      for group in 0..<16 {
        let small = Int8(truncatingIfNeeded: min(127, BlockSearch.nearest(inverse * found.scales[group])))
        p.storeBytes(of: small, toByteOffset: 192 + group, as: Int8.self)
        let scale = widened(d) * Float(small)
        for i in 0..<16 {
          let code =
            scale == 0
            ? Int32(found.codes[i][group])
            : max(-32, min(31, BlockSearch.nearest(x[16 * group + i] / scale))) + 32
          codes[16 * group + i] = UInt8(code)
        }
      }
      for part in 0..<2 {
        for j in 0..<32 {
          let q = (0..<4).map { codes[128 * part + 32 * $0 + j] }
          p.storeBytes(of: q[0] & 15 | q[2] << 4, toByteOffset: 64 * part + j, as: UInt8.self)
          p.storeBytes(of: q[1] & 15 | q[3] << 4, toByteOffset: 64 * part + 32 + j, as: UInt8.self)
          let high = q[0] >> 4 | (q[1] >> 4) << 2 | (q[2] >> 4) << 4 | (q[3] >> 4) << 6
          p.storeBytes(of: high, toByteOffset: 128 + 32 * part + j, as: UInt8.self)
        }
      }
    }
  }

  /// The values in 63rds of the largest.
  private static func sixBits(_ values: SIMD8<Float>, _ largest: Float) -> [UInt8] {
    let inverse = largest > 0 ? 63 / largest : 0
    return (0..<8).map { min(63, UInt8(truncatingIfNeeded: BlockSearch.nearest(inverse * values[$0]))) }
  }

  /// Six bits of a scale and of a minimum for each of eight groups.
  private static func pack(_ scales: [UInt8], _ minima: [UInt8], _ p: UnsafeMutableRawPointer) {
    for j in 0..<4 {
      let top = j + 4
      p.storeBytes(of: scales[j] | (scales[top] >> 4) << 6, toByteOffset: j, as: UInt8.self)
      p.storeBytes(of: minima[j] | (minima[top] >> 4) << 6, toByteOffset: j + 4, as: UInt8.self)
      p.storeBytes(of: scales[top] & 15 | (minima[top] & 15) << 4, toByteOffset: j + 8, as: UInt8.self)
    }
  }

  private static func widened(_ half: UInt16) -> Float {
    withUnsafeBytes(of: half.littleEndian) { $0.baseAddress.map(BlockDecoder.half) ?? 0 }
  }
}
