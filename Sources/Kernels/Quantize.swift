import CPlatform
import Numerics

/// Blocks with a smaller maximum are divided by this (bitsandbytes' guard against 1 / 0).
private let smallest: Float = 1e-38

extension Kernels {
  /// See `QuantizationKernels.Quantize4`. A full block multiplies by the reciprocal of its maximum, a short last block
  /// divides, as bitsandbytes' CPU kernel.
  @inline(never)
  static func quantize4(
    _ x: UnsafeRawPointer, _ type: Int32, _ count: Int, _ blockSize: Int, _ thresholds: UnsafePointer<Float>,
    _ order: UnsafePointer<UInt32>, _ codes: UnsafeMutablePointer<UInt8>, _ absmax: UnsafeMutablePointer<Float>
  ) -> Int {
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
      j = 0
      while j < size {
        let v = element16(x, type, first &+ j, size &- j)
        let s = isFull ? v * splat(scale) : v / splat(scale)
        var index = U16(repeating: 0)
        for t in 0..<15 { index = qt_count_above(index, s, thresholds[t]) }
        store(index, order, codes + (first &+ j) / 2, min(16, size &- j))
        j &+= 16
      }
      first &+= size
      number &+= 1
    }
    return -1
  }

  @inline(__always)
  private static func store(
    _ index: U16, _ order: UnsafePointer<UInt32>, _ codes: UnsafeMutablePointer<UInt8>, _ count: Int
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
    var i = 0
    while i < count {
      let rest = count &- i
      var values: F16
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
      i &+= 16
    }
  }

  /// The entry of an ascending map nearest to `s`; exact ties go to the even index (the CUDA rule of bitsandbytes).
  @inline(__always)
  static func nearest(_ s: Float, _ map: UnsafePointer<Float>) -> Int {
    var low = 0
    var step = 128
    while step > 0 {
      // low is the last entry not above s, or 0
      if low &+ step < 256, map[low &+ step] <= s { low &+= step }
      step &>>= 1
    }
    guard low < 255 else { return 255 }
    let below = Double(s) - Double(map[low])
    let above = Double(map[low &+ 1]) - Double(s)
    if below < above { return low }
    if above < below { return low &+ 1 }
    return low & 1 == 0 ? low : low &+ 1
  }

  @inline(never)
  static func quantize8(
    _ x: UnsafePointer<Float>, _ count: Int, _ blockSize: Int, _ map: UnsafePointer<Float>,
    _ codes: UnsafeMutablePointer<UInt8>, _ absmax: UnsafeMutablePointer<Float>
  ) {
    var first = 0
    var number = 0
    while first < count {
      let size = min(blockSize, count &- first)
      var top: Float = 0
      for j in first..<first &+ size where x[j].magnitude > top { top = x[j].magnitude }
      absmax[number] = top
      let scale = top > 0 ? 1 / top : 0
      for j in first..<first &+ size {
        codes[j] = top > 0 ? UInt8(truncatingIfNeeded: nearest(x[j] * scale, map)) : 0
      }
      first &+= size
      number &+= 1
    }
  }

  @inline(never)
  static func dequantize8(
    _ codes: UnsafePointer<UInt8>, _ absmax: UnsafePointer<Float>, _ map: UnsafePointer<Float>, _ count: Int,
    _ blockSize: Int, _ y: UnsafeMutablePointer<Float>
  ) {
    for i in 0..<count { y[i] = map[Int(codes[i])] * absmax[i / blockSize] }
  }

  /// Stores this build's quantization functions.
  public static func fill(quantization table: UnsafeMutablePointer<QuantizationKernels>) {
    table.initialize(
      to: QuantizationKernels(
        quantize4: { Kernels.quantize4($0, $1, $2, $3, $4, $5, $6, $7) },
        dequantize4: { Kernels.dequantize4($0, $1, $2, $3, $4, $5, $6) },
        quantize8: { Kernels.quantize8($0, $1, $2, $3, $4, $5) },
        dequantize8: { Kernels.dequantize8($0, $1, $2, $3, $4, $5) }))
  }
}
