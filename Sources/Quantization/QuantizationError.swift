/// What can go wrong when quantizing, as data.
public enum QuantizationError: Error, Equatable, Sendable {
  case badBlockSize(Int)
  case nonFinite(tensor: String, index: Int)
  case notFloat(dtype: String)
  case empty(shape: [Int])
}

extension QuantizationError: CustomStringConvertible {
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
