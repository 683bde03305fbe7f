import Tensors

// Differentiable changes of shape and dtype. Views share storage; their gradients are put back in place.

/// The same elements under another shape; one dimension may be -1. A view where x is contiguous, else a copy.
/// - Throws: `TensorError.elementCount`, `.badShape`, `.outOfMemory`; what the device reports.
public func reshape(_ x: Tensor, _ shape: [Int]) throws -> Tensor {
  let y = try x.viewed(shape)
  let before = x.shape
  record("view", inputs: [x], output: y) { dy in [try dy.viewed(before)] }
  return y
}

/// A view with two dimensions exchanged (0-based).
/// - Throws: `TensorError.badDimension`.
public func transpose(_ x: Tensor, _ a: Int, _ b: Int) throws -> Tensor {
  let y = try x.transposed(a, b)
  record("transpose", inputs: [x], output: y) { dy in [try dy.transposed(a, b).contiguous()] }
  return y
}

/// A copy in another dtype; the gradient between float dtypes is converted back, others have none.
/// - Throws: `TensorError.outOfMemory`; what the device reports.
public func convert(_ x: Tensor, to dtype: DType) throws -> Tensor {
  let y = try x.converted(to: dtype)
  guard dtype.isFloat, x.dtype.isFloat else { return y }
  let before = x.dtype
  record("to", inputs: [x], output: y) { dy in [try dy.converted(to: before)] }
  return y
}

/// A view of the elements `range` of a dimension (0-based).
/// - Throws: `TensorError.badDimension`, `.badIndex`.
public func narrow(_ x: Tensor, _ axis: Int, _ range: Range<Int>) throws -> Tensor {
  let y = try x.narrowed(axis, range)
  let shape = x.shape
  record("narrow", inputs: [x], output: y) { dy in
    let dx = try Tensor(full: shape, value: 0, dtype: dy.dtype, on: dy.backend)
    try dx.backend.copy(dy, into: try dx.narrowed(axis, range))
    return [dx]
  }
  return y
}

/// A view of the element `index` of a dimension (0-based), which disappears.
/// - Throws: `TensorError.badDimension`, `.badIndex`.
public func select(_ x: Tensor, _ axis: Int, _ index: Int) throws -> Tensor {
  let y = try x.selected(axis, index)
  let shape = x.shape
  record("select", inputs: [x], output: y) { dy in
    let dx = try Tensor(full: shape, value: 0, dtype: dy.dtype, on: dy.backend)
    try dx.backend.copy(dy, into: try dx.selected(axis, index))
    return [dx]
  }
  return y
}

/// A copy of tensors joined along a dimension (0-based); dtypes and all other dimensions agree.
/// - Throws: `TensorError.badValue` without tensors, `.badDimension`, `.shapeMismatch`, `.dtypeMismatch`,
///   `.otherDevice`, `.outOfMemory`; what the device reports.
public func concatenate(_ parts: [Tensor], axis: Int) throws -> Tensor {
  guard let first = parts.first else {
    throw TensorError.badValue(operation: "cat", name: "list", value: "empty", expected: "at least one tensor")
  }
  guard first.shape.indices.contains(axis) else {
    throw TensorError.badDimension(operation: "cat", dimension: axis, rank: first.rank)
  }
  var shape = first.shape
  shape[axis] = 0
  for part in parts {
    _ = try first.backend(for: "cat", with: part)
    var expected = part.shape
    guard expected.count == shape.count else {
      throw TensorError.shapeMismatch(operation: "cat", lhs: first.shape, rhs: part.shape)
    }
    expected[axis] = shape[axis]
    guard expected == shape else {
      throw TensorError.shapeMismatch(operation: "cat", lhs: first.shape, rhs: part.shape)
    }
    guard part.dtype == first.dtype else {
      throw TensorError.dtypeMismatch(operation: "cat", lhs: first.dtype, rhs: part.dtype)
    }
    shape[axis] += part.shape[axis]
  }
  let y = try Tensor(empty: shape, dtype: first.dtype, on: first.backend)
  var ranges: [Range<Int>] = []
  var start = 0
  for part in parts {
    let range = start..<start + part.shape[axis]
    try y.backend.copy(part, into: try y.narrowed(axis, range))
    ranges.append(range)
    start = range.upperBound
  }
  record("cat", inputs: parts, output: y) { dy in try ranges.map { try dy.narrowed(axis, $0).contiguous() } }
  return y
}
