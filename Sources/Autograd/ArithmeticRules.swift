import Tensors

// Differentiable arithmetic for scripts: broadcasting elementwise operations on f32 (other float dtypes are widened).

/// The sum of `gradient` over the dimensions along which an operand of `shape` was stretched.
func reduced(_ gradient: Tensor, to shape: [Int]) throws -> Tensor {
  guard gradient.shape != shape else { return gradient }
  var result = gradient
  while result.rank > shape.count { result = try sumKeeping(result, axis: 0).viewed(Array(result.shape.dropFirst())) }
  for axis in shape.indices where shape[axis] == 1 && result.shape[axis] != 1 {
    result = try sumKeeping(result, axis: axis)
  }
  return result
}

/// The sum over one dimension, which stays with size 1.
func sumKeeping(_ x: Tensor, axis: Int) throws -> Tensor {
  let x = try x.contiguous()
  var shape = x.shape
  let outer = shape[..<axis].reduce(1, *)
  let inner = shape[(axis + 1)...].reduce(1, *)
  let count = shape[axis]
  shape[axis] = 1
  let y = try Tensor(empty: shape, dtype: .f32, on: x.backend)
  try x.backend.reduce(.sum, x, outer: outer, count: count, inner: inner, into: y)
  return y
}

private func widened(_ x: Tensor) throws -> Tensor { try x.dtype == .f32 ? x : convert(x, to: .f32) }

/// The bare broadcasting operation, not recorded.
func evaluate(_ operation: BinaryOperation, _ a: Tensor, _ b: Tensor, name: String) throws -> Tensor {
  let shape = try Shape.broadcast(a.shape, b.shape, operation: name)
  let backend = try a.backend(for: name, with: b)
  let y = try Tensor(empty: shape, dtype: .f32, on: backend)
  try backend.binary(operation, a, b, into: y)
  return y
}

func evaluate(_ operation: UnaryOperation, _ x: Tensor) throws -> Tensor {
  let y = try Tensor(empty: x.shape, dtype: .f32, on: x.backend)
  try x.backend.unary(operation, try x.contiguous(), into: y)
  return y
}

private func scalar(_ value: Double, like x: Tensor) throws -> Tensor { try Tensor([Float(value)], on: x.backend) }

/// a (operation) b with broadcasting, f32; other dtypes are converted to f32 first.
///
/// Comparisons give 0 or 1 and no gradient. Of equal operands of a maximum or minimum the first gets the gradient.
/// - Throws: `TensorError.shapeMismatch`, `.otherDevice`, `.outOfMemory`; what the device reports.
public func binary(_ operation: BinaryOperation, _ a: Tensor, _ b: Tensor) throws -> Tensor {
  let name = String(describing: operation)
  let (a, b) = (try widened(a), try widened(b))
  let y = try evaluate(operation, a, b, name: name)
  guard let rule = binaryGradients[operation], isRecording(a, b) else { return y }
  let (x1, x2, result) = (a.detached(), b.detached(), y.detached())
  record(name, inputs: [a, b], output: y) { dy in
    let (da, db) = try rule(dy, x1, x2, result)
    return [try reduced(da, to: x1.shape), try reduced(db, to: x2.shape)]
  }
  return y
}

private typealias BinaryRule = (_ dy: Tensor, _ a: Tensor, _ b: Tensor, _ y: Tensor) throws -> (Tensor, Tensor)

/// Gradients of the differentiable binary operations; the others are piecewise constant.
nonisolated(unsafe) private let binaryGradients: [BinaryOperation: BinaryRule] = [
  .add: { dy, _, _, _ in (dy, dy) },
  .subtract: { dy, _, _, _ in (dy, try evaluate(.negate, dy)) },
  .multiply: { dy, a, b, _ in
    (try evaluate(.multiply, dy, b, name: "multiply"), try evaluate(.multiply, dy, a, name: "multiply"))
  },
  .divide: { dy, _, b, y in
    let da = try evaluate(.divide, dy, b, name: "divide")
    return (da, try evaluate(.negate, try evaluate(.multiply, da, y, name: "divide")))
  },
  .power: { dy, a, b, y in
    let exponent = try evaluate(.subtract, b, try scalar(1, like: b), name: "power")
    let slope = try evaluate(.multiply, b, try evaluate(.power, a, exponent, name: "power"), name: "power")
    let db = try evaluate(.multiply, y, try evaluate(.log, a), name: "power")
    return (try evaluate(.multiply, dy, slope, name: "power"), try evaluate(.multiply, dy, db, name: "power"))
  },
  .maximum: { dy, a, b, _ in try route(dy, first: .greaterEqual, second: .less, a, b) },
  .minimum: { dy, a, b, _ in try route(dy, first: .lessEqual, second: .greater, a, b) },
]

/// Sends the gradient to the operand that was chosen; ties go to the first.
private func route(
  _ dy: Tensor, first: BinaryOperation, second: BinaryOperation, _ a: Tensor, _ b: Tensor
) throws -> (Tensor, Tensor) {
  (
    try evaluate(.multiply, dy, try evaluate(first, a, b, name: "select"), name: "select"),
    try evaluate(.multiply, dy, try evaluate(second, a, b, name: "select"), name: "select")
  )
}

/// f(x) element by element, f32; other dtypes are converted to f32 first. Sign, floor, ceil and round have gradient 0.
/// - Throws: `TensorError.outOfMemory`; what the device reports.
public func unary(_ operation: UnaryOperation, _ x: Tensor) throws -> Tensor {
  let x = try widened(x)
  let y = try evaluate(operation, x)
  guard isRecording(x) else { return y }
  let (input, output) = (x.detached(), y.detached())
  record(String(describing: operation), inputs: [x], output: y) { dy in
    guard let slope = try slope(of: operation, x: input, y: output) else {
      return [try Tensor(full: input.shape, value: 0, on: input.backend)]
    }
    return [try evaluate(.multiply, dy, slope, name: String(describing: operation))]
  }
  return y
}

/// dy/dx of a unary operation, nil where it is zero almost everywhere.
private func slope(of operation: UnaryOperation, x: Tensor, y: Tensor) throws -> Tensor? {
  func times(_ a: Tensor, _ b: Tensor) throws -> Tensor { try evaluate(.multiply, a, b, name: "slope") }
  func plus(_ a: Tensor, _ b: Double) throws -> Tensor { try evaluate(.add, a, try scalar(b, like: a), name: "slope") }
  func scaled(_ a: Tensor, _ b: Double) throws -> Tensor { try times(a, try scalar(b, like: a)) }
  switch operation {
  case .negate: return try scalar(-1, like: x)
  case .abs: return try evaluate(.sign, x)
  case .exp: return y
  case .log: return try evaluate(.reciprocal, x)
  case .sqrt: return try scaled(try evaluate(.reciprocal, y), 0.5)
  case .rsqrt: return try scaled(try times(y, try times(y, y)), -0.5)
  case .sin: return try evaluate(.cos, x)
  case .cos: return try evaluate(.negate, try evaluate(.sin, x))
  case .tanh: return try plus(try evaluate(.negate, try times(y, y)), 1)
  case .sigmoid: return try times(y, try plus(try evaluate(.negate, y), 1))
  case .silu:
    let s = try evaluate(.sigmoid, x)
    let bend = try plus(try times(x, try plus(try evaluate(.negate, s), 1)), 1)
    return try times(s, bend)
  case .relu: return try evaluate(.greater, x, try scalar(0, like: x), name: "relu")
  case .gelu:
    // d/dx of x * Phi(x) in the tanh form: 0.5 (1 + t) + 0.5 x (1 - t^2) c (1 + 3 * 0.044715 x^2)
    let c = 0.7978845608028654
    let square = try times(x, x)
    let t = try evaluate(.tanh, try scaled(try times(x, try plus(try scaled(square, 0.044715), 1)), c))
    let left = try scaled(try plus(t, 1), 0.5)
    let bend = try plus(try evaluate(.negate, try times(t, t)), 1)
    let right = try scaled(try times(try times(x, bend), try plus(try scaled(square, 3 * 0.044715), 1)), 0.5 * c)
    return try evaluate(.add, left, right, name: "gelu")
  case .square: return try scaled(x, 2)
  case .reciprocal: return try evaluate(.negate, try times(y, y))
  case .sign, .floor, .ceil, .round: return nil
  }
}
