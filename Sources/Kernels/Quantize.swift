import CPlatform
import Numerics

/// Blocks with a smaller maximum are divided by this (bitsandbytes' guard against 1 / 0).
private var smallest: Float { 1e-38 }

extension Kernels {
  /// See `QuantizationKernels.Quantize4`. A full block multiplies by the reciprocal of its maximum, a short last block
  /// divides, as bitsandbytes' CPU kernel.
  @inline(never)
  static func quantize4(
    _ x: UnsafeRawPointer, _ type: Int32, _ count: Int, _ blockSize: Int, _ thresholds: UnsafePointer<Float>,
    _ order: UnsafePointer<UInt32>, _ codes: UnsafeMutablePointer<UInt8>, _ absmax: UnsafeMutablePointer<Float>
  ) -> Int {
    var (even, odd) = (splat(0), splat(0))
    for t in 0..<15 { if t & 1 == 0 { even[t &>> 1] = thresholds[t] } else { odd[t &>> 1] = thresholds[t] } }
    var first = 0
    var number = 0
    while first < count {
      let size = min(blockSize, count &- first)
      var peak = splat(0)
      var j = 0
      // A NaN or an infinity times zero is NaN, which a comparison with itself shows.
      var probe = splat(0)
      while j < size {
        let v = element16(x, type, first &+ j, size &- j)
        peak = larger(peak, qt_abs(v))
        probe = probe + v * splat(0)
        j &+= 16
      }
      if mm_sum(probe) != 0 || mm_sum(probe).isNaN {
        return first &+ firstNonFinite(x, type, first, size)
      }
      let top = largest(peak)
      let isFull = size == blockSize
      absmax[number] = isFull ? top : max(top, smallest)
      let divisor = max(top, smallest)
      let scale = isFull ? 1 / divisor : divisor
      forEachVector(size) { j, rest in
        let v = element16(x, type, first &+ j, rest)
        let s = isFull ? v * splat(scale) : v / splat(scale)
        store(qt_rank(s, thresholds, even, odd), order, codes + (first &+ j) / 2, rest)
      }
      first &+= size
      number &+= 1
    }
    return -1
  }

  @inline(__always)
  private static func store(
    _ index: Words16, _ order: UnsafePointer<UInt32>, _ codes: UnsafeMutablePointer<UInt8>, _ count: Int
  ) {
    var ranked = index
    if order[0] != 0 {
      for lane in 0..<16 { ranked[lane] = order[Int(index[lane])] }
    }
    var bytes = qt_pack_nibbles(ranked)
    for byte in 0..<(count &+ 1) / 2 {
      codes[byte] = UInt8(truncatingIfNeeded: bytes)
      bytes &>>= 8
    }
  }

  @inline(never)
  private static func firstNonFinite(_ x: UnsafeRawPointer, _ type: Int32, _ first: Int, _ count: Int) -> Int {
    for j in 0..<count where !element16(x, type, first &+ j, 1)[0].isFinite { return j }
    return 0
  }

  @inline(never)
  static func dequantize4(
    _ codes: UnsafePointer<UInt8>, _ absmax: UnsafePointer<Float>, _ codebook: UnsafePointer<Float>, _ count: Int,
    _ blockSize: Int, _ y: UnsafeMutableRawPointer, _ type: Int32
  ) {
    let table = loadFloats(codebook)
    forEachVector(count) { i, rest in
      var values: Vec16
      if rest >= 16 {
        values = mm_decode16(table, codes + i / 2)
      } else {
        values = splat(0)
        for lane in 0..<rest {
          let byte = codes[(i &+ lane) / 2]
          values[lane] = codebook[Int(lane & 1 == 0 ? byte &>> 4 : byte & 15)]
        }
      }
      putElement16(y, type, i, rest, values * splat(absmax[i / blockSize]))
    }
  }

  /// Stores this build's quantization functions.
  package static func fill(quantization table: UnsafeMutablePointer<QuantizationKernels>) {
    table.initialize(
      to: QuantizationKernels(
        quantize4: { Kernels.quantize4($0, $1, $2, $3, $4, $5, $6, $7) },
        dequantize4: { Kernels.dequantize4($0, $1, $2, $3, $4, $5, $6) },
        quantize8: { Kernels.quantize8($0, $1, $2, $3, $4, $5) },
        dequantize8: { Kernels.dequantize8($0, $1, $2, $3, $4, $5, $6) }))
  }
}
