import Tensors

// Differentiable choices of elements, with PyTorch's conventions; the host computes them. Other float dtypes are
// converted to f32 first.

/// f32 elements that the host computes. A rehearsal computes nothing, and what it would read is anything.
func hostComputed(_ shape: [Int], on backend: any Backend, _ body: () throws -> [Float]) throws -> Tensor {
  try isRehearsal(backend) ? Tensor(empty: shape, on: backend) : Tensor(try body(), shape: shape, on: backend)
}

func widened(_ x: Tensor) throws -> Tensor { try x.dtype == .f32 ? x : convert(x, to: .f32) }

func isRehearsal(_ backend: any Backend) -> Bool { (backend as? any RehearsalBackend)?.isRehearsal ?? false }

func isRehearsal(_ x: Tensor) -> Bool { isRehearsal(x.backend) }

/// `axis` and the sizes around it, [outer, count, inner].
func split(_ shape: [Int], _ axis: Int, _ operation: String) throws -> (outer: Int, count: Int, inner: Int) {
  guard shape.indices.contains(axis) else {
    throw TensorError.badDimension(operation: operation, dimension: axis, rank: shape.count)
  }
  return (shape[..<axis].reduce(1, *), shape[axis], shape[(axis + 1)...].reduce(1, *))
}

/// a where the condition is not 0, b elsewhere, with broadcasting. The operand that is not chosen gets gradient 0, also
/// where it is infinite or NaN.
/// - Throws: `TensorError.shapeMismatch`, `.otherDevice`, `.outOfMemory`; what the device reports.
public func choose(_ condition: Tensor, _ a: Tensor, _ b: Tensor) throws -> Tensor {
  let (a, b) = (try widened(a), try widened(b))
  let both = try Shape.broadcast(a.shape, b.shape, operation: "where")
  let shape = try Shape.broadcast(condition.shape, both, operation: "where")
  let backend = try condition.backend(for: "where", with: a, b)
  let flags = condition.detached()
  func chosen(_ first: Tensor?, _ second: Tensor?) throws -> Tensor {
    try hostComputed(shape, on: backend) {
      let flags = try flags.broadcasted(to: shape).floats()
      let first = try first?.broadcasted(to: shape).floats(), second = try second?.broadcasted(to: shape).floats()
      return flags.indices.map { (flags[$0] != 0 ? first?[$0] : second?[$0]) ?? 0 }
    }
  }
  let y = try chosen(a.detached(), b.detached())
  let (shapes, wanted) = ((a.shape, b.shape), (a.requiresGradient, b.requiresGradient))
  record("where", inputs: [a, b], saving: [flags], output: y) { dy in
    [
      wanted.0 ? try reduced(try chosen(dy, nil), to: shapes.0) : nil,
      wanted.1 ? try reduced(try chosen(nil, dy), to: shapes.1) : nil,
    ]
  }
  return y
}

/// Where each element of an index lies in a tensor of `shape`: at its own place, but along `axis` where it says.
private func places(_ index: Tensor, _ axis: Int, in shape: [Int], _ operation: String) throws -> [Int] {
  guard index.rank == shape.count,
    zip(index.shape, shape).enumerated().allSatisfy({ $0.offset == axis || $0.element.0 <= $0.element.1 })
  else { throw TensorError.shapeMismatch(operation: operation, lhs: shape, rhs: index.shape) }
  let count = try split(shape, axis, operation).count
  if isRehearsal(index) { return [] }
  let values = try index.integers()
  var strides = [Int](repeating: 1, count: shape.count)
  for dimension in shape.indices.dropLast().reversed() {
    strides[dimension] = strides[dimension + 1] * shape[dimension + 1]
  }
  var coordinates = [Int](repeating: 0, count: shape.count)
  return try values.map { value in
    guard (0..<count).contains(value) else {
      throw TensorError.badIndex(operation: operation, index: value, count: count)
    }
    var place = value * strides[axis]
    for dimension in shape.indices where dimension != axis { place += coordinates[dimension] * strides[dimension] }
    for dimension in shape.indices.reversed() {
      coordinates[dimension] += 1
      if coordinates[dimension] < index.shape[dimension] { break }
      coordinates[dimension] = 0
    }
    return place
  }
}

/// The elements of x that an integer index of the same rank names along a dimension (0-based both), in its shape, f32:
/// y[i][j] = x[index[i][j]][j] along dimension 0. An element that is taken twice gets both gradients.
/// - Throws: `TensorError.badDimension`, `.shapeMismatch`, `.badIndex`, `.badDType` for an index of floats;
///   `.otherDevice`, `.outOfMemory`; what the device reports.
public func gather(_ x: Tensor, axis: Int, index: Tensor) throws -> Tensor {
  let x = try widened(x)
  let backend = try x.backend(for: "gather", with: index)
  let (places, shape) = (try places(index, axis, in: x.shape, "gather"), x.shape)
  let values = x.detached()
  let y = try hostComputed(index.shape, on: backend) {
    let elements = try values.floats()
    return places.map { elements[$0] }
  }
  record("gather", inputs: [x], output: y) { [try summed($0, at: places, shape)] }
  return y
}

/// Zeros of a shape with the elements of `source` added at places.
private func summed(_ source: Tensor, at places: [Int], _ shape: [Int], onto start: Tensor? = nil) throws -> Tensor {
  try hostComputed(shape, on: source.backend) {
    var result = try start?.floats() ?? [Float](repeating: 0, count: shape.reduce(1, *))
    for (place, value) in zip(places, try source.floats()) { result[place] += value }
    return result
  }
}

/// x with the elements of a source put where an integer index of the source's shape names along a dimension (0-based
/// both), or added there; f32. Of several elements for one place the last stays, and the gradient is that of each, as
/// in PyTorch.
/// - Throws: as `gather`; `TensorError.shapeMismatch` where source and index differ in shape.
public func scatter(_ x: Tensor, axis: Int, index: Tensor, _ source: Tensor, adds: Bool) throws -> Tensor {
  let (x, source, name) = (try widened(x), try widened(source), adds ? "scatter_add" : "scatter")
  let backend = try x.backend(for: name, with: index, source)
  guard index.shape == source.shape else {
    throw TensorError.shapeMismatch(operation: name, lhs: index.shape, rhs: source.shape)
  }
  let (places, shape) = (try places(index, axis, in: x.shape, name), x.shape)
  func put(_ values: [Float], into target: Tensor) throws -> Tensor {
    try hostComputed(shape, on: backend) {
      var result = try target.floats()
      for (place, value) in zip(places, values) { result[place] = value }
      return result
    }
  }
  let (values, start) = (source.detached(), x.detached())
  let y =
    try adds
    ? summed(values, at: places, shape, onto: start) : put(isRehearsal(values) ? [] : values.floats(), into: start)
  let (wanted, sourceShape) = ((x.requiresGradient, source.requiresGradient), source.shape)
  record(name, inputs: [x, source], output: y) { dy in
    let kept = !wanted.0 ? nil : try adds ? dy : put([Float](repeating: 0, count: places.count), into: dy)
    guard wanted.1 else { return [kept, nil] }
    return [
      kept,
      try hostComputed(sourceShape, on: backend) {
        let gradients = try dy.floats()
        return places.map { gradients[$0] }
      },
    ]
  }
  return y
}

/// The elements along a dimension (0-based) in order, f32, and their positions (0-based, i64). Equal elements stay in
/// theirs; NaN counts as largest.
/// - Throws: `TensorError.badDimension`, `.outOfMemory`; what the device reports.
public func sort(_ x: Tensor, axis: Int, descending: Bool = false) throws -> (values: Tensor, positions: Tensor) {
  let (outer, count, inner) = try split(x.shape, axis, "sort")
  let positions = try Tensor(empty: x.shape, dtype: .i64, on: x.backend)
  if !isRehearsal(x) {
    let elements = try x.floats()
    var order = [Int](repeating: 0, count: elements.count)
    for row in 0..<outer * inner {
      let start = row / inner * count * inner + row % inner
      func element(_ i: Int) -> Float { elements[start + i * inner] }
      let sorted = (0..<count).sorted { i, j in
        let (a, b) = (element(i), element(j))
        if a == b || a.isNaN && b.isNaN { return i < j }
        let isBelow = b.isNaN || a < b
        return descending ? !isBelow : isBelow
      }
      for (place, position) in sorted.enumerated() { order[start + place * inner] = position }
    }
    try order.withUnsafeBytes { try positions.write($0) }
  }
  return (try gather(x, axis: axis, index: positions), positions)
}
