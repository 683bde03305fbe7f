import Tensors

/// x with elements dropped and the others scaled by 1 / (1 - probability), as `Backend.dropout` draws them; recorded.
///
/// A probability of 0 gives x itself; it is rounded to a multiple of 2^-16.
/// - Throws: `TensorError.badValue` for a probability outside [0, 1); `TensorError.outOfMemory`; what the device
///   reports.
public func dropout(_ x: Tensor, probability: Float, stream: RandomStream) throws -> Tensor {
  try NumberRange.rate.require(Double(probability), "probability", operation: "dropout")
  guard probability > 0 else { return x }
  func masked(_ x: Tensor) throws -> Tensor {
    let y = try Tensor(empty: x.shape, dtype: x.dtype, on: x.backend)
    try x.backend.dropout(try x.contiguous(), probability: probability, stream: stream, into: y, accumulate: false)
    return y
  }
  let y = try masked(x)
  record("dropout", inputs: [x], output: y) { dy in [try masked(dy)] }
  return y
}

extension LowRank {
  /// y + scaling * dropout(x) A^T B^T by plain recorded operations, f32 [T, out]: what `linear` computes together with
  /// the base product.
  /// - Throws: `TensorError.innerDimensions`, `.shapeMismatch`, `.otherDevice`, `.outOfMemory`; what the device
  ///   reports.
  public func added(to y: Tensor, _ x: Tensor) throws -> Tensor {
    let input = try Autograd.dropout(x, probability: dropout, stream: stream)
    let low = try matmul(try matmul(input, try transpose(a, 0, 1)), try transpose(b, 0, 1))
    return try binary(.add, y, try binary(.multiply, low, try Tensor([scaling], on: x.backend)))
  }
}
