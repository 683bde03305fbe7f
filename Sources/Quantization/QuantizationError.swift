/// What can go wrong when quantizing, as data.
public enum QuantizationError: Error, Equatable, Sendable {
  /// A block size that is not one of `FourBit.blockSizes`.
  case badBlockSize(Int)
  /// A NaN or an infinity, the first at a 0-based row-major index.
  case nonFinite(tensor: String, index: Int)
  /// A tensor of an integer dtype.
  case notFloat(dtype: String)
  /// A tensor without elements.
  case empty(shape: [Int])
}

extension QuantizationError: CustomStringConvertible {
  /// The fault in words, with the values that caused it.
  public var description: String {
    switch self {
    case .badBlockSize(let size):
      "quantize: block size \(size) is not supported, expected one of \(FourBit.blockSizes)"
    case .nonFinite(let tensor, let index):
      "quantize: \(tensor): element \(index) is not finite; the weights are damaged"
    case .notFloat(let dtype):
      "quantize: dtype \(dtype) cannot be quantized, expected f32, bf16 or f16"
    case .empty(let shape):
      "quantize: a tensor of shape \(shape) has no elements"
    }
  }
}
