/// Arithmetic of shapes: counts with overflow checks, row-major strides, broadcasting as in NumPy and PyTorch.
package enum Shape {
  /// More elements than this are refused; it keeps every byte count far inside 64 bits.
  package static let maximumElementCount = 1 << 46

  /// More dimensions than this are refused.
  package static let maximumRank = 8

  /// The product of the dimensions. Those that are not 0 have no larger product than `maximumElementCount` either, so
  /// that strides and the counts of a part of the dimensions never overflow, whether or not there are elements.
  /// - Throws: `badShape` for a negative dimension, more than eight of them, or an absurd product.
  package static func elementCount(_ shape: [Int], operation: String) throws -> Int {
    guard shape.count <= maximumRank else {
      throw TensorError.badShape(operation: operation, shape: shape, problem: .tooManyDimensions(limit: maximumRank))
    }
    var (count, extent) = (1, 1)
    for dimension in shape {
      guard dimension >= 0 else {
        throw TensorError.badShape(operation: operation, shape: shape, problem: .negativeDimension)
      }
      let (product, overflow) = extent.multipliedReportingOverflow(by: max(1, dimension))
      guard !overflow, product <= maximumElementCount else {
        throw TensorError.badShape(operation: operation, shape: shape, problem: .tooManyElements)
      }
      (count, extent) = (count * dimension, product)
    }
    return count
  }

  package static func rowMajorStrides(_ shape: [Int]) -> [Int] {
    var strides = [Int](repeating: 1, count: shape.count)
    var stride = 1
    for axis in shape.indices.reversed() {
      strides[axis] = stride
      stride *= max(1, shape[axis])
    }
    return strides
  }

  /// The common shape of two operands; dimensions of size 1 stretch.
  package static func broadcast(_ lhs: [Int], _ rhs: [Int], operation: String) throws -> [Int] {
    let rank = max(lhs.count, rhs.count)
    var result = [Int](repeating: 1, count: rank)
    for axis in 0..<rank {
      let a = axis < rank - lhs.count ? 1 : lhs[axis - (rank - lhs.count)]
      let b = axis < rank - rhs.count ? 1 : rhs[axis - (rank - rhs.count)]
      guard a == b || a == 1 || b == 1 else {
        throw TensorError.shapeMismatch(operation: operation, lhs: lhs, rhs: rhs)
      }
      result[axis] = a == 1 ? b : a
    }
    return result
  }
}
