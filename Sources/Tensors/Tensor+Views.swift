/// Views share storage; copies are named so. None of these records gradients: the differentiable forms are in
/// Autograd and call these.
extension Tensor {
  /// A view of the same values cut from the graph.
  public func detached() -> Tensor {
    Tensor(storage: storage, dtype: dtype, shape: shape, strides: ownStrides, offset: offset)
  }

  /// Tells recorded operations that the elements are changed in place: by the program or by a step of an optimizer.
  /// What a rule itself overwrites, it knows that nobody needs.
  package func noteChange() { storage.changeCount += 1 }

  /// Itself when contiguous, else a packed copy.
  /// - Throws: `TensorError.outOfMemory`; what the device reports.
  public func contiguous() throws -> Tensor { isContiguous ? self : try copied() }

  /// A packed copy with storage of its own.
  /// - Throws: `TensorError.outOfMemory`; what the device reports.
  public func copied(category: MemoryCategory = .activations) throws -> Tensor {
    let result = try Tensor(empty: shape, dtype: dtype, category: category, on: backend)
    try backend.copy(self, into: result)
    return result
  }

  /// A copy in another dtype; floats are rounded to nearest even, floats to integers toward zero.
  /// - Throws: `TensorError.outOfMemory`; what the device reports.
  public func converted(to dtype: DType, category: MemoryCategory = .activations) throws -> Tensor {
    let result = try Tensor(empty: shape, dtype: dtype, category: category, on: backend)
    try backend.copy(self, into: result)
    return result
  }

  /// The same elements in row-major order under another shape: a view when contiguous, else a packed copy. One
  /// dimension may be -1 and follows from the others.
  /// - Throws: `TensorError.elementCount` when the shape holds another number of elements; `TensorError.badShape` for
  ///   several of -1, other negative dimensions or more than eight; `TensorError.outOfMemory` and what the device
  ///   reports when it copies.
  public func viewed(_ shape: [Int]) throws -> Tensor {
    var shape = shape
    if shape.count(where: { $0 < 0 }) > 1 || shape.contains(where: { $0 < -1 }) {
      throw TensorError.badShape(operation: "view", shape: shape, problem: .unknownDimensions)
    }
    if let hole = shape.firstIndex(of: -1) {
      var rest = shape
      rest.remove(at: hole)
      let known = try Shape.elementCount(rest, operation: "view")
      guard known > 0, elementCount % known == 0 else {
        throw TensorError.elementCount(operation: "view", from: self.shape, to: shape)
      }
      shape[hole] = elementCount / known
    }
    guard try Shape.elementCount(shape, operation: "view") == elementCount else {
      throw TensorError.elementCount(operation: "view", from: self.shape, to: shape)
    }
    let source = try contiguous()
    return Tensor(storage: source.storage, dtype: dtype, shape: shape, offset: source.offset)
  }

  /// A view with two dimensions (0-based) exchanged.
  /// - Throws: `TensorError.badDimension`.
  public func transposed(_ a: Int, _ b: Int) throws -> Tensor {
    for axis in [a, b] where !shape.indices.contains(axis) {
      throw TensorError.badDimension(operation: "transpose", dimension: axis, rank: rank)
    }
    var shape = shape
    var strides = strides
    shape.swapAt(a, b)
    strides.swapAt(a, b)
    return Tensor(storage: storage, dtype: dtype, shape: shape, strides: strides, offset: offset)
  }

  /// A view of elements `range` of dimension `axis` (both 0-based).
  /// - Throws: `TensorError.badDimension`; `TensorError.badIndex` with the first index of the range that is outside the
  ///   dimension.
  public func narrowed(_ axis: Int, _ range: Range<Int>) throws -> Tensor {
    guard shape.indices.contains(axis) else {
      throw TensorError.badDimension(operation: "narrow", dimension: axis, rank: rank)
    }
    guard range.lowerBound >= 0, range.upperBound <= shape[axis] else {
      let outside = range.lowerBound < 0 ? range.lowerBound : max(range.lowerBound, shape[axis])
      throw TensorError.badIndex(operation: "narrow", index: outside, count: shape[axis])
    }
    let first = offset + range.lowerBound * (axis == 0 ? rowStride : strides[axis])
    var shape = shape
    shape[axis] = range.count
    return Tensor(
      storage: storage, dtype: dtype, shape: shape, strides: axis == 0 ? ownStrides : strides, offset: first)
  }

  /// A view of element `index` of dimension `axis` (both 0-based), with that dimension removed.
  /// - Throws: `TensorError.badDimension`, `TensorError.badIndex`.
  public func selected(_ axis: Int, _ index: Int) throws -> Tensor {
    guard shape.indices.contains(axis) else {
      throw TensorError.badDimension(operation: "select", dimension: axis, rank: rank)
    }
    guard index >= 0, index < shape[axis] else {
      throw TensorError.badIndex(operation: "select", index: index, count: shape[axis])
    }
    var shape = shape
    var strides = strides
    let stride = strides.remove(at: axis)
    shape.remove(at: axis)
    return Tensor(storage: storage, dtype: dtype, shape: shape, strides: strides, offset: offset + index * stride)
  }

  /// A view stretched to `target` by zero strides: dimensions of size 1, and new ones in front.
  /// - Throws: `TensorError.shapeMismatch` when that does not give `target`.
  public func broadcasted(to target: [Int]) throws -> Tensor {
    let common = try Shape.broadcast(shape, target, operation: "expand")
    guard common == target else { throw TensorError.shapeMismatch(operation: "expand", lhs: shape, rhs: target) }
    let lead = target.count - rank
    let strides = target.indices.map { axis -> Int in
      axis < lead || shape[axis - lead] == 1 && target[axis] != 1 ? 0 : self.strides[axis - lead]
    }
    return Tensor(storage: storage, dtype: dtype, shape: target, strides: strides, offset: offset)
  }
}
