import Numerics
import Tensors

/// How double quantization finds the 8-bit code of a scale.
public enum ScaleRule: String, Sendable {
  /// The nearest entry of the dynamic map, as in the CUDA kernels of bitsandbytes.
  case nearest
  /// The entry that the CPU kernel of bitsandbytes 0.50 takes: the nearest one to a multiple of 2 / 65535 near the
  /// value. It misses the nearest entry of 0.2 to 0.3 % of the scales.
  case bitsandbytes
}

/// The table of the CPU kernel of bitsandbytes (`cquantize_blockwise_cpu_fp32`): a code for each of 65536 values.
enum CoarseCodes {
  private static let last: Float = 65535

  /// Entry i is the code nearest to 2 i / 65535 - 1; of two that are as near, the lower one.
  private static let table: [UInt8] = {
    let map = DynamicMap.signed
    var below = 0
    return (0...Int(last)).map { index in
      let value = Float(index) / last * 2 - 1
      while below < map.count - 2, map[below + 1] <= value { below += 1 }
      return UInt8(abs(value - map[below + 1]) < abs(value - map[below]) ? below + 1 : below)
    }
  }()

  /// Codes of `values` in blocks of `blockSize`, and the largest magnitude of each block. The steps and their rounding
  /// are the kernel's; a block of zeros has code 0, and so has 0 where the reciprocal of a maximum overflows.
  static func quantize(_ values: [Float], blockSize: Int) -> (codes: [UInt8], absmax: [Float]) {
    var codes = [UInt8](repeating: 0, count: values.count)
    var maxima: [Float] = []
    for start in stride(from: 0, to: values.count, by: blockSize) {
      let block = start..<min(start + blockSize, values.count)
      let most = values[block].reduce(0) { max($0, abs($1)) }
      maxima.append(most)
      guard most > 0 else { continue }
      let reciprocal = 1 / most
      for index in block {
        let scaled = values[index] * reciprocal
        let value = scaled.isNaN ? -1 : min(max(scaled, -1), 1)
        codes[index] = table[Int((value + 1) * 0.5 * last + 0.5)]
      }
    }
    return (codes, maxima)
  }
}
