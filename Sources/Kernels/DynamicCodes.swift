import CPlatform
import Numerics

// 8-bit codes of the dynamic maps, sixteen at a time.

extension Kernels {
  @inline(__always)
  static func codec(_ address: UnsafeRawPointer) -> DynamicCodec {
    address.assumingMemoryBound(to: DynamicCodec.self).pointee
  }

  @inline(__always)
  static func decodeDynamic(_ codec: DynamicCodec, _ codes: UnsafePointer<UInt8>, _ count: Int) -> Vec16 {
    qt_entry256(codec.map, qt_load_bytes(codes, count))
  }

  /// Codes of the nearest entries of values in [-1, 1]; see `DynamicCodec`.
  @inline(__always)
  static func encodeDynamic(_ codec: DynamicCodec, _ s: Vec16) -> Words16 {
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
      let scale = splat(top > 0 ? 1 / top : 0)
      forEachVector(size) { j, rest in
        let code = encodeDynamic(codec, element16(x, 0, first &+ j, rest) * scale)
        // A block of zeros has code 0, as in bitsandbytes.
        qt_store_bytes(codes + (first &+ j), top > 0 ? code : Words16(repeating: 0), rest)
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
