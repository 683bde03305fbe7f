import Foundation
import Tensors

extension HandleBackend {
  func copy(_ source: Tensor, into target: Tensor) throws {
    if source.dtype == target.dtype { return set(target, elements: elements(of: source)) }
    set(target, values(source))
  }

  func fill(_ target: Tensor, _ value: Double) throws {
    set(target, Array(repeating: value, count: target.elementCount))
  }

  func fillUniform(_ target: Tensor, low: Double, high: Double, stream: RandomStream) throws {
    set(target, (0..<target.elementCount).map { low + (high - low) * Double(stream.word($0) >> 8) * 0x1p-24 })
  }

  func fillNormal(_ target: Tensor, mean: Double, deviation: Double, stream: RandomStream) throws {
    set(
      target,
      (0..<target.elementCount).map { index in
        let first = index / 2 * 2
        let radius = (-2 * log((Double(stream.word(first)) + 1) * 0x1p-32)).squareRoot() * deviation
        let angle = 2 * Double.pi * Double(stream.word(first + 1)) * 0x1p-32
        return mean + radius * (index % 2 == 0 ? cos(angle) : sin(angle))
      })
  }

  func unary(_ operation: UnaryOperation, _ x: Tensor, into y: Tensor) throws {
    set(y, values(x).map { apply(operation, $0) })
  }

  func binary(_ operation: BinaryOperation, _ a: Tensor, _ b: Tensor, into y: Tensor) throws {
    let (p, q) = (values(try a.broadcasted(to: y.shape)), values(try b.broadcasted(to: y.shape)))
    set(y, zip(p, q).map { apply(operation, $0, $1) })
  }

  func accumulate(_ x: Tensor, scale a: Float, into y: Tensor, scale b: Float) throws {
    let old = b == 0 ? Array(repeating: 0, count: y.elementCount) : values(y)
    set(y, zip(values(x), old).map { Double(a) * $0 + Double(b) * $1 })
  }

  func reduce(_ operation: Reduction, _ x: Tensor, outer: Int, count: Int, inner: Int, into y: Tensor) throws {
    let source = values(x)
    set(
      y,
      (0..<outer * inner).map { index in
        let row = (0..<count).map { source[(index / inner * count + $0) * inner + index % inner] }
        switch operation {
        case .sum: return row.reduce(0, +)
        case .mean: return row.reduce(0, +) / Double(count)
        case .maximum: return row.max() ?? 0
        case .minimum: return row.min() ?? 0
        case .argmax: return Double(row.firstIndex(of: row.max() ?? 0) ?? 0)
        }
      })
  }

  func sumOfSquares(_ tensors: [Tensor], into sum: Tensor) throws {
    let total = tensors.reduce(0) { $0 + values($1).reduce(0) { $0 + $1 * $1 } }
    set(sum, elements: withUnsafeBytes(of: total.bitPattern) { Array($0) })
  }

  func dropout(_ x: Tensor, probability: Float, stream: RandomStream, into y: Tensor, accumulate: Bool) throws {
    let threshold = min((probability * 0x1p16).rounded(), 0x1p16 - 1)
    let scale = 1 / (1 - threshold * 0x1p-16)
    let old = accumulate ? floats(y) : Array(repeating: 0, count: y.elementCount)
    set(
      y,
      zip(floats(x), old).enumerated().map { index, pair in
        let word = stream.word(index / 2)
        let number = index % 2 == 0 ? word & 0xFFFF : word >> 16
        return Double((number >= UInt32(threshold) ? pair.0 * scale : 0) + pair.1)
      })
  }
}

private func apply(_ operation: UnaryOperation, _ x: Double) -> Double {
  switch operation {
  case .negate: -x
  case .abs: abs(x)
  case .exp: exp(x)
  case .log: log(x)
  case .sqrt: x.squareRoot()
  case .rsqrt: 1 / x.squareRoot()
  case .sin: sin(x)
  case .cos: cos(x)
  case .tanh: tanh(x)
  case .sigmoid: 1 / (1 + exp(-x))
  case .silu: x / (1 + exp(-x))
  case .relu: max(0, x)
  case .gelu: 0.5 * x * (1 + tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
  case .erf: erf(x)
  case .square: x * x
  case .reciprocal: 1 / x
  case .sign: x > 0 ? 1 : x < 0 ? -1 : x
  case .floor: x.rounded(.down)
  case .ceil: x.rounded(.up)
  case .round: x.rounded(.toNearestOrEven)
  }
}

private func apply(_ operation: BinaryOperation, _ a: Double, _ b: Double) -> Double {
  switch operation {
  case .add: a + b
  case .subtract: a - b
  case .multiply: a * b
  case .divide: a / b
  case .power: pow(a, b)
  case .maximum: max(a, b)
  case .minimum: min(a, b)
  case .equal: a == b ? 1 : 0
  case .notEqual: a != b ? 1 : 0
  case .less: a < b ? 1 : 0
  case .lessEqual: a <= b ? 1 : 0
  case .greater: a > b ? 1 : 0
  case .greaterEqual: a >= b ? 1 : 0
  }
}
