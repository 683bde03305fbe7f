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

private func scalar(_ value: Double, like x: Tensor) throws -> Tensor {
  try Tensor([Float(value)], shape: [], on: x.backend)
}

/// a (operation) b with broadcasting, f32; other dtypes are converted to f32 first.
///
/// Comparisons give 0 or 1 and no gradient. Equal operands of a maximum or minimum get half the gradient each, a power
/// has slope 0 in a base to the exponent 0 and in the exponent of a base 0, as in PyTorch.
/// - Throws: `TensorError.shapeMismatch`, `.otherDevice`, `.outOfMemory`; what the device reports.
public func binary(_ operation: BinaryOperation, _ a: Tensor, _ b: Tensor) throws -> Tensor {
  let name = String(describing: operation)
  let (a, b) = (try widened(a), try widened(b))
  let y = try evaluate(operation, a, b, name: name)
  guard isRecording(a, b) else { return y }
  let (shapes, wanted) = ((a.shape, b.shape), (a.requiresGradient, b.requiresGradient))
  func spread(_ da: Tensor?, _ db: Tensor?) throws -> [Tensor?] {
    [try da.map { try reduced($0, to: shapes.0) }, try db.map { try reduced($0, to: shapes.1) }]
  }
  // The commonest keep nothing, or what the gradients that are wanted are made of.
  switch operation {
  case .add: record(name, inputs: [a, b], output: y) { try spread(wanted.0 ? $0 : nil, wanted.1 ? $0 : nil) }
  case .subtract:
    record(name, inputs: [a, b], output: y) { try spread(wanted.0 ? $0 : nil, wanted.1 ? -$0 : nil) }
  case .multiply:
    let (left, right) = (wanted.1 ? a.detached() : nil, wanted.0 ? b.detached() : nil)
    record(name, inputs: [a, b], saving: [left, right], output: y) { dy in
      try spread(try right.map { try dy * $0 }, try left.map { try dy * $0 })
    }
  default:
    guard let rule = binaryGradients[operation] else { return y }
    let (x1, x2, result) = (a.detached(), b.detached(), y.detached())
    // What the rule reads for the gradients that are wanted.
    let read: [Tensor?] =
      switch operation {
      case .divide: [x2, wanted.1 ? result : nil]
      case .power: [x1, x2, wanted.1 ? result : nil]
      default: [x1, x2]
      }
    record(name, inputs: [a, b], saving: read, output: y) { dy in
      let (da, db) = try rule(dy, x1, x2, result)
      return try spread(wanted.0 ? da : nil, wanted.1 ? db : nil)
    }
  }
  return y
}

private typealias BinaryRule = (_ dy: Tensor, _ a: Tensor, _ b: Tensor, _ y: Tensor) throws -> (Tensor, Tensor)

/// Gradients of the other differentiable binary operations; the rest are piecewise constant.
private nonisolated(unsafe) let binaryGradients: [BinaryOperation: BinaryRule] = [
  .divide: { dy, _, b, y in
    let da = try dy / b
    return (da, try -(da * y))
  },
  .power: { dy, a, b, y in
    let zero = try scalar(0, like: a)
    // b a^(b - 1) is 0 for b = 0, also where a^-1 is infinite, and a^b ln a is 0 for a = 0 unless a^b is infinite: both
    // products take another factor there that is finite.
    let exponent = try b + evaluate(.equal, b, zero, name: "power")
    let slope = try b * evaluate(.power, a, -1 + exponent, name: "power")
    let isZero = try evaluate(.equal, a, zero, name: "power")
    let base = try a + isZero * evaluate(.greaterEqual, b, zero, name: "power")
    return (try dy * slope, try dy * (y * evaluate(.log, base)))
  },
  .maximum: { dy, a, b, _ in try route(dy, awayFrom: .less, a, b) },
  .minimum: { dy, a, b, _ in try route(dy, awayFrom: .greater, a, b) },
]

/// Sends the gradient to the operand that was chosen, half of it to each of equal ones, and all of it to both where one
/// is NaN. The first loses where `loses(a, b)`.
private func route(
  _ dy: Tensor, awayFrom loses: BinaryOperation, _ a: Tensor, _ b: Tensor
) throws -> (Tensor, Tensor) {
  let half = try 0.5 * evaluate(.equal, a, b, name: "select")
  func share(_ lost: Tensor) throws -> Tensor { try dy * (1 - (lost + half)) }
  return (try share(evaluate(loses, a, b, name: "select")), try share(evaluate(loses, b, a, name: "select")))
}

/// f(x) element by element, f32; other dtypes are converted to f32 first. Sign, floor, ceil and round have gradient 0.
/// - Throws: `TensorError.outOfMemory`; what the device reports.
public func unary(_ operation: UnaryOperation, _ x: Tensor) throws -> Tensor {
  let x = try widened(x)
  let y = try evaluate(operation, x)
  guard isRecording(x) else { return y }
  let name = String(describing: operation)
  switch unarySlopes[operation] {
  case .constant(let slope): record(name, inputs: [x], output: y) { [try slope * $0] }
  case .ofInput(let slope):
    let input = x.detached()
    record(name, inputs: [x], saving: [input], output: y) { [try $0 * slope(input)] }
  case .ofOutput(let slope):
    let output = y.detached()
    record(name, inputs: [x], saving: [output], output: y) { [try $0 * slope(output)] }
  case nil: record(name, inputs: [x], output: y) { [try Tensor(full: $0.shape, value: 0, on: $0.backend)] }
  }
  return y
}

/// GELU by the error function, x (1 + erf(x / sqrt(2))) / 2, as PyTorch computes it unless told otherwise; `unary` has
/// the tanh form, which is that of the models here.
/// - Throws: `TensorError.outOfMemory`; what the device reports.
public func exactGELU(_ x: Tensor) throws -> Tensor {
  let half = try binary(.multiply, x, try scalar(0.5, like: x))
  let error = try unary(.erf, try binary(.multiply, x, try scalar(0.5.squareRoot(), like: x)))
  return try binary(.multiply, half, try binary(.add, error, try scalar(1, like: x)))
}

/// dy/dx of an operation, and what it is made of.
enum Slope {
  case constant(Double)
  case ofInput((_ x: Tensor) throws -> Tensor)
  case ofOutput((_ y: Tensor) throws -> Tensor)
}

/// The slopes of the unary operations; those that are not here have slope 0 almost everywhere.
nonisolated(unsafe) let unarySlopes: [UnaryOperation: Slope] = [
  .negate: .constant(-1),
  .abs: .ofInput { try evaluate(.sign, $0) },
  .exp: .ofOutput { $0 },
  .log: .ofInput { try evaluate(.reciprocal, $0) },
  .sqrt: .ofOutput { try 0.5 * evaluate(.reciprocal, $0) },
  .rsqrt: .ofOutput { try -0.5 * ($0 * ($0 * $0)) },
  .sin: .ofInput { try evaluate(.cos, $0) },
  .cos: .ofInput { try -evaluate(.sin, $0) },
  .tanh: .ofOutput { try 1 - $0 * $0 },
  .sigmoid: .ofOutput { try $0 * (1 - $0) },
  .silu: .ofInput { x in
    let s = try evaluate(.sigmoid, x)
    return try s * (1 + x * (1 - s))
  },
  .relu: .ofInput { try evaluate(.greater, $0, try scalar(0, like: $0), name: "relu") },
  // Of x (1 + t) / 2 with t = tanh(c (x + 0.044715 x^3)), c = sqrt(2 / pi).
  .gelu: .ofInput { x in
    let (c, square) = (0.7978845608028654, try x * x)
    let t = try evaluate(.tanh, c * (x * (1 + 0.044715 * square)))
    return try 0.5 * (1 + t) + 0.5 * c * (x * (1 - t * t) * (1 + 3 * 0.044715 * square))
  },
  .erf: .ofInput { try 1.1283791670955126 * evaluate(.exp, -($0 * $0)) },
  .square: .ofInput { try 2 * $0 },
  .reciprocal: .ofOutput { try -($0 * $0) },
]

// Bare operations, not recorded, so that the tables read as formulas.
private func * (a: Tensor, b: Tensor) throws -> Tensor { try evaluate(.multiply, a, b, name: "slope") }
private func + (a: Tensor, b: Tensor) throws -> Tensor { try evaluate(.add, a, b, name: "slope") }
private func * (a: Double, b: Tensor) throws -> Tensor { try scalar(a, like: b) * b }
private func + (a: Double, b: Tensor) throws -> Tensor { try scalar(a, like: b) + b }
private func - (a: Double, b: Tensor) throws -> Tensor { try a + -b }
private func / (a: Tensor, b: Tensor) throws -> Tensor { try evaluate(.divide, a, b, name: "slope") }
private prefix func - (a: Tensor) throws -> Tensor { try evaluate(.negate, a) }
