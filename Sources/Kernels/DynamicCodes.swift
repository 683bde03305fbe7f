import CPlatform
import Numerics

// 8-bit codes of the dynamic maps.

extension Kernels {
  @inline(__always)
  static func codec(_ address: UnsafeRawPointer) -> DynamicCodec {
    address.assumingMemoryBound(to: DynamicCodec.self).pointee
  }

  @inline(__always)
  private static func lines(_ codec: DynamicCodec) -> UnsafePointer<qt_lines> {
    codec.lines.assumingMemoryBound(to: qt_lines.self)
  }

  /// Entries of codes, each times `scale`; zeros follow up to a whole vector.
  @inline(__always)
  static func decodeDynamic(
    _ codec: DynamicCodec, isSigned: Bool, _ codes: UnsafePointer<UInt8>, _ scale: Float, _ count: Int,
    _ y: UnsafeMutablePointer<Float>
  ) {
    var i = 0
    while i &+ 32 <= count {
      if isSigned {
        qt_decode_signed(lines(codec), codec.map, codes + i, scale, y + i)
      } else {
        qt_decode_unsigned(lines(codec), codec.map, codes + i, scale, y + i)
      }
      i &+= 32
    }
    while i < count {
      y[i] = codec.map[Int(codes[i])] * scale
      i &+= 1
    }
    while i & 15 != 0 {
      y[i] = 0
      i &+= 1
    }
  }

  /// Codes of the nearest entries of values in [-1, 1]; see `DynamicCodec`.
  @inline(__always)
  private static func lookUp(_ codec: DynamicCodec, _ s: Vec16) -> Words16 {
    let bits = unsafeBitCast(s, to: Words16.self)
    let magnitude = bits & Words16(repeating: 0x7FFF_FFFF)
    let (first, last) = (Words16(repeating: DynamicCodec.firstCell), Words16(repeating: DynamicCodec.lastCell))
    var cell = magnitude &>> Words16(repeating: 16)
    cell = cell.replacing(with: first, where: cell .< first)
    cell = cell.replacing(with: last, where: cell .> last) &- first
    let sign = codec.isSigned ? bits &>> Words16(repeating: 31) : Words16(repeating: 0)
    cell = cell &+ sign &* Words16(repeating: UInt32(DynamicCodec.cellCount))
    let entry = unsafeBitCast(
      qt_gather(UnsafeRawPointer(codec.cells).assumingMemoryBound(to: Float.self), cell), to: Words16.self)
    let start = entry &>> Words16(repeating: 20)
    // One up for positive values, one down for negative ones.
    let next = start &+ Words16(repeating: 1) &- (sign &+ sign)
    let isBeyond = (magnitude & Words16(repeating: 0xFFFF)) .>= (entry & Words16(repeating: 0x1FFFF))
    return start.replacing(with: next, where: isBeyond)
  }

  /// Values with a common maximum, and what brings them to [-1, 1].
  struct DynamicRow {
    let codec: DynamicCodec
    /// Above zero.
    let top: Float
    /// Moments are divided by the maximum, and a negative one that is nearest to zero gets the smallest negative entry:
    /// as in bitsandbytes its code keeps the sign. Weights are multiplied by the reciprocal.
    let isMoment: Bool

    /// For an estimate of the quotient that is right to three units in the last place; else NaN, which gives none.
    @inline(__always)
    var factor: Float { !isMoment || top >= 0x1p-126 && top <= 0x1p126 ? 1 / top : .nan }
  }

  /// `isSigned` is that of the row's codec, known where the kernel is compiled.
  @inline(__always)
  static func encodeDynamic(
    _ row: DynamicRow, isSigned: Bool, _ x: UnsafePointer<Float>, _ count: Int, _ codes: UnsafeMutablePointer<UInt8>
  ) {
    let (lines, factor) = (lines(row.codec), row.factor)
    var i = 0
    while i &+ 32 <= count {
      let isCertain =
        isSigned
        ? qt_encode_signed(lines, x + i, factor, row.isMoment, codes + i)
        : qt_encode_unsigned(lines, x + i, factor, codes + i)
      if _slowPath(!isCertain) { encodeByCells(row, x + i, 32, codes + i) }
      i &+= 32
    }
    if i < count { encodeByCells(row, x + i, count &- i, codes + i) }
  }

  @inline(never)
  private static func encodeByCells(
    _ row: DynamicRow, _ x: UnsafePointer<Float>, _ count: Int, _ codes: UnsafeMutablePointer<UInt8>
  ) {
    forEachVector(count) { i, rest in
      let v = element16(x, 0, i, rest)
      var code = lookUp(row.codec, row.isMoment ? v / splat(row.top) : v * splat(1 / row.top))
      if row.isMoment, row.codec.isSigned {
        let zero = Words16(repeating: 127)
        let below = code.replacing(with: Words16(repeating: 126), where: code .== zero)
        code = code.replacing(with: below, where: v .< splat(0))
      }
      qt_store_bytes(codes + i, code, rest)
    }
  }

  /// See `QuantizationKernels.Quantize8`; values are multiplied by the reciprocal of the block's maximum.
  @inline(never)
  static func quantize8(
    _ x: UnsafePointer<Float>, _ count: Int, _ blockSize: Int, _ address: UnsafeRawPointer,
    _ codes: UnsafeMutablePointer<UInt8>, _ absmax: UnsafeMutablePointer<Float>
  ) {
    let codec = codec(address)
    var first = 0
    var number = 0
    while first < count {
      let size = min(blockSize, count &- first)
      var peak = splat(0)
      forEachVector(size) { j, rest in
        peak = larger(peak, qt_abs(element16(x, 0, first &+ j, rest)))
      }
      let top = largest(peak)
      absmax[number] = top
      if top > 0 {
        let row = DynamicRow(codec: codec, top: top, isMoment: false)
        encodeDynamic(row, isSigned: true, x + first, size, codes + first)
      } else {
        // A block of zeros has code 0, as in bitsandbytes.
        (codes + first).update(repeating: 0, count: size)
      }
      first &+= size
      number &+= 1
    }
  }

  @inline(never)
  static func dequantize8(
    _ codes: UnsafePointer<UInt8>, _ absmax: UnsafePointer<Float>, _ map: UnsafePointer<Float>, _ count: Int,
    _ blockSize: Int, _ offset: Float, _ y: UnsafeMutablePointer<Float>
  ) {
    var first = 0
    while first < count {
      let end = min(count, first &+ blockSize)
      let scale = splat(absmax[first / blockSize])
      var i = first
      while i < end {
        let value = qt_entry256(map, qt_load_bytes(codes + i, end &- i)) * scale
        putElement16(y, 0, i, end &- i, value + splat(offset))
        i &+= 16
      }
      first = end
    }
  }
}
