/// Blockwise quantization of one instruction-set build. Types are DType raw values.
package struct QuantizationKernels: Sendable {
  /// Quantizes elements of whole blocks to 4 bits: (x, type, count, block size, thresholds [15], order [16], codes,
  /// absmax). Returns the index of the first element that is not finite, or -1. `count` is even except at the end of
  /// the tensor, whose odd last element is followed by the code of zero.
  package typealias Quantize4 =
    @convention(c) (
      UnsafeRawPointer, Int32, Int, Int, UnsafePointer<Float>, UnsafePointer<UInt32>, UnsafeMutablePointer<UInt8>,
      UnsafeMutablePointer<Float>
    ) -> Int
  /// (codes, absmax, codebook [16], count, block size, y, type)
  package typealias Dequantize4 =
    @convention(c) (
      UnsafePointer<UInt8>, UnsafePointer<Float>, UnsafePointer<Float>, Int, Int, UnsafeMutableRawPointer, Int32
    ) -> Void
  /// (x, count, block size, address of a `DynamicCodec`, codes, absmax)
  package typealias Quantize8 =
    @convention(c) (
      UnsafePointer<Float>, Int, Int, UnsafeRawPointer, UnsafeMutablePointer<UInt8>, UnsafeMutablePointer<Float>
    ) -> Void
  /// y = map[code] * absmax + offset, rounded after each operation:
  /// (codes, absmax, map [256], count, block size, offset, y)
  package typealias Dequantize8 =
    @convention(c) (
      UnsafePointer<UInt8>, UnsafePointer<Float>, UnsafePointer<Float>, Int, Int, Float, UnsafeMutablePointer<Float>
    ) -> Void

  package var quantize4: Quantize4
  package var dequantize4: Dequantize4
  package var quantize8: Quantize8
  package var dequantize8: Dequantize8

  package init(
    quantize4: @escaping Quantize4, dequantize4: @escaping Dequantize4, quantize8: @escaping Quantize8,
    dequantize8: @escaping Dequantize8
  ) {
    self.quantize4 = quantize4
    self.dequantize4 = dequantize4
    self.quantize8 = quantize8
    self.dequantize8 = dequantize8
  }
}
