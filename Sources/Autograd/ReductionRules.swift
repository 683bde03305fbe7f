import Tensors

// Differentiable reductions, softmax, matrix products and the unfused cross-entropy.

/// Sum, mean, maximum, minimum or argmax (i64, 0-based) over a dimension (0-based), which disappears, or over all
/// elements to shape [1].
///
/// Floats are converted to f32, and results of them but argmax are f32. Integers are reduced exactly: an extremum has
/// their dtype, a sum is i64 and wraps at 64 bits, only the mean is f32. As in PyTorch the gradient of an extremum over
/// a dimension goes to the first element that equals it, that over all elements to all of them in equal parts; argmax
/// has none.
/// - Throws: `TensorError.badDimension`, `.badShape` when nothing is there to reduce and the operation is not a sum,
///   `.outOfMemory`; what the device reports.
public func reduce(_ operation: Reduction, _ x: Tensor, axis: Int? = nil) throws -> Tensor {
  guard let axis else {
    let flat = try reshape(try x.isContiguous ? x : packed(x), [1, x.elementCount])
    return try reduce(operation, flat, axis: 1, shared: true)
  }
  return try reduce(operation, x, axis: axis, shared: false)
}

/// `shared` tells whether equal extrema share the gradient.
private func reduce(_ operation: Reduction, _ x: Tensor, axis: Int, shared: Bool) throws -> Tensor {
  let name = String(describing: operation)
  let (outer, count, inner) = try split(x.shape, axis, name)
  if count == 0, operation != .sum {
    throw TensorError.badShape(operation: name, shape: x.shape, problem: .nothingToReduce)
  }
  var shape = x.shape
  shape.remove(at: axis)
  if shape.isEmpty { shape = [1] }
  if !x.dtype.isFloat { return try reducedIntegers(operation, x, outer, count, inner, to: shape) }
  let x = try widened(x)
  let y = try Tensor(empty: shape, dtype: operation == .argmax ? .i64 : .f32, on: x.backend)
  let input = try x.contiguous()
  try x.backend.reduce(operation, input, outer: outer, count: count, inner: inner, into: y)
  guard operation != .argmax, isRecording(x) else { return y }
  let (saved, result, before) = (input.detached(), y.detached(), x.shape)
  var kept = before
  kept[axis] = 1
  let isExtremum = operation == .maximum || operation == .minimum
  record(name, inputs: [x], saving: isExtremum ? [saved, result] : [], output: y) { dy in
    let spread = try dy.viewed(kept).broadcasted(to: before)
    switch operation {
    case .sum, .argmax: return [try spread.contiguous()]
    case .mean:
      let dx = try spread.copied()
      try dx.backend.accumulate(dx, scale: 1 / Float(count), into: dx, scale: 0)
      return [dx]
    case .maximum, .minimum:
      // Where the extremum is NaN, every NaN is one.
      let chosen = try evaluate(
        .maximum, try evaluate(.equal, saved, try result.viewed(kept), name: name),
        try evaluate(.notEqual, saved, saved, name: name), name: name)
      guard shared else { return [try first(of: chosen, outer: outer, count: count, inner: inner, times: dy)] }
      let parts = try evaluate(.divide, spread, try sumKeeping(chosen, axis: axis), name: name)
      return [try evaluate(.multiply, chosen, parts, name: name)]
    }
  }
  return y
}

/// `reduce` of integers, which the host computes.
private func reducedIntegers(
  _ operation: Reduction, _ x: Tensor, _ outer: Int, _ count: Int, _ inner: Int, to shape: [Int]
) throws -> Tensor {
  let dtype: DType =
    switch operation {
    case .mean: .f32
    case .sum, .argmax: .i64
    case .maximum, .minimum: x.dtype
    }
  if isRehearsal(x) { return try Tensor(empty: shape, dtype: dtype, on: x.backend) }
  let elements = try x.integers()
  func reduced<Number>(_ body: (_ row: [Int]) -> Number) -> [Number] {
    (0..<outer * inner).map { row in
      let start = row / inner * count * inner + row % inner
      return body((0..<count).map { elements[start + $0 * inner] })
    }
  }
  let results: [Int]
  switch operation {
  case .mean:
    let means = reduced { Float($0.reduce(0) { $0 + Double($1) } / Double(count)) }
    return try Tensor(means, shape: shape, on: x.backend)
  case .sum: results = reduced { $0.reduce(0, &+) }
  case .argmax: results = reduced { row in row.indices.max { row[$0] < row[$1] } ?? 0 }
  case .maximum: results = reduced { $0.max() ?? 0 }
  case .minimum: results = reduced { $0.min() ?? 0 }
  }
  let y = try Tensor(integers: results, shape: shape, on: x.backend)
  return try dtype == .i64 ? y : y.converted(to: dtype)
}

/// `gradient` [outer, inner] at the first of the `chosen` [outer, count, inner], which are 1 among zeros; else 0.
private func first(
  of chosen: Tensor, outer: Int, count: Int, inner: Int, times gradient: Tensor
) throws -> Tensor {
  let result = try Tensor(full: chosen.shape, value: 0, on: chosen.backend)
  let positions = try Tensor(empty: [outer, inner], dtype: .i64, on: chosen.backend)
  try chosen.backend.reduce(.argmax, chosen, outer: outer, count: count, inner: inner, into: positions)
  // Positions that nobody computed are anything.
  if isRehearsal(chosen) { return result }
  let (places, values) = (try positions.integers(), try gradient.floats())
  try result.withMutableHostBytes { bytes in
    let elements = bytes.bindMemory(to: Float.self)
    for index in places.indices {
      elements[(index / inner * count + places[index]) * inner + index % inner] = values[index]
    }
  }
  return result
}

/// A packed copy that passes gradients through.
/// - Throws: `TensorError.outOfMemory`; what the device reports.
public func packed(_ x: Tensor) throws -> Tensor {
  let y = try x.copied()
  record("contiguous", inputs: [x], output: y) { dy in [dy] }
  return y
}

/// Softmax or log-softmax over the last dimension, f32.
/// - Throws: `TensorError.badShape` without a last dimension or with an empty one, `.outOfMemory`; what the device
///   reports.
public func softmax(_ x: Tensor, logarithm: Bool = false) throws -> Tensor {
  let name = logarithm ? "log_softmax" : "softmax"
  guard x.rank >= 1, x.shape.last != 0 else {
    throw TensorError.badShape(operation: name, shape: x.shape, problem: .noLastDimension)
  }
  let x = try x.dtype == .f32 ? x : convert(x, to: .f32)
  let y = try Tensor(empty: x.shape, dtype: .f32, on: x.backend)
  try x.backend.softmax(try x.contiguous(), into: y, logarithm: logarithm)
  let saved = y.detached()
  record(name, inputs: [x], saving: [saved], output: y) { dy in
    let dx = try Tensor(empty: saved.shape, dtype: .f32, on: saved.backend)
    try dx.backend.softmaxBackward(try dy.contiguous(), saved, into: dx, logarithm: logarithm)
    return [dx]
  }
  return y
}

/// a [.., M, K] b [.., K, N]; leading dimensions agree or b is a matrix. Products and sums in f32, and so the result.
///
/// A vector a is a row and a vector b a column, whose dimension disappears from the result.
/// Without elements to contract the product is 0.
/// - Throws: `TensorError.innerDimensions`, `.shapeMismatch` for leading dimensions that differ, `.badDType` for
///   integers, `.otherDevice`, `.outOfMemory`; what the device reports.
public func matmul(_ a: Tensor, _ b: Tensor) throws -> Tensor {
  guard a.rank >= 1, b.rank >= 1 else {
    throw TensorError.innerDimensions(operation: "matmul", lhs: a.shape, rhs: b.shape)
  }
  if a.rank == 1 {
    let y = try matmul(try reshape(a, [1, a.shape[0]]), b)
    return try reshape(y, Array(y.shape.dropLast(2)) + Array(y.shape.suffix(b.rank == 1 ? 0 : 1)))
  }
  if b.rank == 1 {
    let y = try matmul(a, try reshape(b, [b.shape[0], 1]))
    return try reshape(y, Array(y.shape.dropLast()))
  }
  guard a.shape[a.rank - 1] == b.shape[b.rank - 2] else {
    throw TensorError.innerDimensions(operation: "matmul", lhs: a.shape, rhs: b.shape)
  }
  if b.rank == 2 {
    let count = a.shape.dropLast().reduce(1, *)
    let rows = try matrixProduct(try shaped(a, [count, a.shape[a.rank - 1]]), b)
    return try shaped(rows, Array(a.shape.dropLast()) + [b.shape[1]])
  }
  guard a.rank == b.rank, a.shape.dropLast(2) == b.shape.dropLast(2) else {
    throw TensorError.shapeMismatch(operation: "matmul", lhs: a.shape, rhs: b.shape)
  }
  let batch = a.shape.dropLast(2).reduce(1, *)
  let left = try shaped(a, [batch] + a.shape.suffix(2))
  let right = try shaped(b, [batch] + b.shape.suffix(2))
  let parts = try (0..<batch).map { index -> Tensor in
    let y = try matrixProduct(try select(left, 0, index), try select(right, 0, index))
    return try reshape(y, [1] + y.shape)
  }
  guard !parts.isEmpty else {
    return try Tensor(
      full: Array(a.shape.dropLast()) + [b.shape[b.rank - 1]], value: 0, on: a.backend)
  }
  return try reshape(
    try concatenate(parts, axis: 0), Array(a.shape.dropLast()) + [b.shape[b.rank - 1]])
}

/// x under another shape, or itself where it has that already: `reshape` copies what is not packed.
private func shaped(_ x: Tensor, _ shape: [Int]) throws -> Tensor { try x.shape == shape ? x : reshape(x, shape) }

/// A matrix as devices take it in products: its rows lie apart or follow each other, or those of its transpose do. Any
/// other is copied.
private struct MatrixOperand {
  /// The matrix, or its transpose.
  let stored: Tensor
  let isTransposed: Bool

  init(_ x: Tensor) throws {
    let turned = try x.transposed(0, 1)
    isTransposed = !x.hasRows && turned.hasRows
    stored = isTransposed ? turned : try x.hasRows ? x.detached() : x.contiguous()
  }
}

extension Tensor {
  /// Whether the elements of a row of this matrix follow each other, and rows do not overlap.
  fileprivate var hasRows: Bool {
    (shape[1] == 1 || strides[1] == 1) && (shape[0] == 1 || strides[0] >= shape[1])
  }
}

private func matrixProduct(_ a: Tensor, _ b: Tensor) throws -> Tensor {
  let backend = try a.backend(for: "matmul", with: b)
  for operand in [a, b] where !operand.dtype.isFloat {
    throw TensorError.badDType(operation: "matmul", got: operand.dtype, expected: [.f32, .bf16, .f16])
  }
  func multiply(_ x: Tensor, _ tx: Bool, _ y: Tensor, _ ty: Bool) throws -> Tensor {
    let shape = [x.shape[tx ? 1 : 0], y.shape[ty ? 0 : 1]]
    // A sum over nothing; the kernels take at least one of each.
    guard !x.shape.contains(0), !y.shape.contains(0) else { return try Tensor(full: shape, value: 0, on: backend) }
    let c = try Tensor(empty: shape, dtype: .f32, on: backend)
    try backend.matmul(x, transposeA: tx, y, transposeB: ty, alpha: 1, beta: 0, into: c, precision: .f32)
    return c
  }
  let (left, right) = (try MatrixOperand(a), try MatrixOperand(b))
  let y = try multiply(left.stored, left.isTransposed, right.stored, right.isTransposed)
  // Each operand is kept for the gradient of the other. Gradients lie in memory as their operands do, so that the rule
  // of a transpose has nothing to copy.
  let (turnsA, turnsB) = (left.isTransposed, right.isTransposed)
  let (savedA, savedB) = (b.requiresGradient ? left.stored : nil, a.requiresGradient ? right.stored : nil)
  record("matmul", inputs: [a, b], saving: [savedA, savedB], output: y) { dy in
    let dy = try dy.contiguous()
    return [
      try savedB.map {
        turnsA ? try multiply($0, turnsB, dy, true).transposed(0, 1) : try multiply(dy, false, $0, !turnsB)
      },
      try savedA.map {
        turnsB ? try multiply(dy, true, $0, turnsA).transposed(0, 1) : try multiply($0, !turnsA, dy, false)
      },
    ]
  }
  return y
}

/// scale * sum of the cross-entropies of rows of logits [T, V] against i32 targets [T] (negative: not counted).
///
/// The result is f32 [1].
/// - Throws: `TensorError.badDType` for targets that are not i32, `.shapeMismatch` for another number of them than
///   rows, `.badIndex` for one that is not below V; `.otherDevice`, `.outOfMemory`; what the device reports.
public func crossEntropy(_ logits: Tensor, labels: Tensor, scale: Float) throws -> Tensor {
  let backend = try logits.backend(for: "cross_entropy", with: labels)
  try checkTargets(labels, rows: logits.shape[0], classes: logits.shape[1], operation: "cross_entropy")
  let rows = logits.shape[0]
  // The kernel turns logits into their gradient in place, so it works on a copy.
  let work = try logits.converted(to: .f32, category: .workspace)
  let losses = try Tensor(empty: [rows], on: backend)
  try backend.crossEntropy(work, labels: labels, losses: losses, gradientScale: isRecording(logits) ? scale : nil)
  let loss = try Tensor(empty: [1], on: backend)
  try backend.reduce(.sum, losses, outer: 1, count: rows, inner: 1, into: loss)
  try backend.accumulate(loss, scale: scale, into: loss, scale: 0)
  record("cross_entropy", inputs: [logits], output: loss) { dLoss in
    try backend.scale(work, by: try dLoss.contiguous())
    return [try logits.dtype == .f32 ? work : work.converted(to: logits.dtype)]
  }
  return loss
}
