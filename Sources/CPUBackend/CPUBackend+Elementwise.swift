import Glibc
import Numerics
import Tensors

// Operations of scripts rather than of the training step: any strides, any shapes, plain loops that the compiler
// vectorises where it can, split over the pool.

/// Walks several strided operands of one shape together, giving element offsets.
struct StridedWalk: Sendable {
  let shape: [Int]
  let strides: [[Int]]

  /// Calls `body` with the offsets of elements `range` in row-major order.
  func forEach(_ range: Range<Int>, _ body: (_ offsets: [Int]) -> Void) {
    guard !range.isEmpty else { return }
    var index = [Int](repeating: 0, count: shape.count)
    var rest = range.lowerBound
    for axis in shape.indices.reversed() {
      index[axis] = rest % shape[axis]
      rest /= shape[axis]
    }
    var offsets = strides.map { zip($0, index).reduce(0) { $0 + $1.0 * $1.1 } }
    for _ in range {
      body(offsets)
      var axis = shape.count - 1
      while axis >= 0 {
        index[axis] += 1
        for operand in strides.indices { offsets[operand] += strides[operand][axis] }
        if index[axis] < shape[axis] { break }
        for operand in strides.indices { offsets[operand] -= strides[operand][axis] * shape[axis] }
        index[axis] = 0
        axis -= 1
      }
    }
  }
}

/// One element of any dtype as a double, exact for every value but large i64.
func loadElement(_ p: UnsafeRawPointer, _ dtype: DType, _ index: Int) -> Double {
  switch dtype {
  case .f32: Double(p.load(fromByteOffset: 4 * index, as: Float.self))
  case .bf16: Double(Float(bitPattern: UInt32(p.load(fromByteOffset: 2 * index, as: UInt16.self)) << 16))
  case .f16: Double(p.load(fromByteOffset: 2 * index, as: Float16.self))
  case .i64: Double(p.load(fromByteOffset: 8 * index, as: Int64.self))
  case .i32: Double(p.load(fromByteOffset: 4 * index, as: Int32.self))
  case .u8: Double(p.load(fromByteOffset: index, as: UInt8.self))
  }
}

/// Stores a double as an element: floats rounded to nearest even, integers truncated and clamped (NaN gives 0).
func storeElement(_ p: UnsafeMutableRawPointer, _ dtype: DType, _ index: Int, _ value: Double) {
  func clamped<I: FixedWidthInteger>(_: I.Type) -> I {
    if value.isNaN { return 0 }
    return I(exactly: value.rounded(.towardZero)) ?? (value < 0 ? .min : .max)
  }
  switch dtype {
  case .f32: p.storeBytes(of: Float(value), toByteOffset: 4 * index, as: Float.self)
  case .bf16: p.storeBytes(of: bfloat16(Float(value)), toByteOffset: 2 * index, as: UInt16.self)
  case .f16: p.storeBytes(of: Float16(Float(value)), toByteOffset: 2 * index, as: Float16.self)
  case .i64: p.storeBytes(of: clamped(Int64.self), toByteOffset: 8 * index, as: Int64.self)
  case .i32: p.storeBytes(of: clamped(Int32.self), toByteOffset: 4 * index, as: Int32.self)
  case .u8: p.storeBytes(of: clamped(UInt8.self), toByteOffset: index, as: UInt8.self)
  }
}

private func bfloat16(_ value: Float) -> UInt16 {
  let bits = value.bitPattern
  if value.isNaN { return UInt16(truncatingIfNeeded: bits >> 16) | 0x40 }
  return UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ ((bits >> 16) & 1)) >> 16)
}

/// Elements per chunk of a strided loop.
private let stridedGrain = 8192

extension CPUBackend {
  public func copy(_ source: Tensor, into target: Tensor) throws {
    guard source.shape == target.shape else {
      throw TensorError.shapeMismatch(operation: "copy", lhs: source.shape, rhs: target.shape)
    }
    let count = source.elementCount
    let (from, to) = (Shared(source.address), Shared(target.address))
    let (fromType, toType) = (source.dtype, target.dtype)
    if source.isContiguous, target.isContiguous {
      if fromType == toType {
        if pool.isRehearsal { return }
        memmove(to.value, from.value, source.byteCount)
        return
      }
      if fromType.isFloat, toType.isFloat {
        let kernels = tables.rows
        inElements(count) { range in
          kernels.cast(
            from.value + range.lowerBound * fromType.byteCount, fromType.rawValue,
            to.value + range.lowerBound * toType.byteCount, toType.rawValue, range.count)
        }
        return
      }
    }
    let walk = StridedWalk(shape: source.shape, strides: [source.strides, target.strides])
    pool.forEachRange(count, grain: stridedGrain) { range, _ in
      if fromType == .i64, toType == .i64 {
        walk.forEach(range) { at in
          to.value.storeBytes(
            of: from.value.load(fromByteOffset: 8 * at[0], as: Int64.self), toByteOffset: 8 * at[1], as: Int64.self)
        }
      } else {
        walk.forEach(range) { at in
          storeElement(to.value, toType, at[1], loadElement(from.value, fromType, at[0]))
        }
      }
    }
  }

  public func fill(_ target: Tensor, _ value: Double) throws {
    if pool.isRehearsal { return }
    let to = Shared(target.address)
    let dtype = target.dtype
    if target.isContiguous {
      if value == 0 {
        memset(to.value, 0, target.byteCount)
      } else {
        for index in 0..<target.elementCount { storeElement(to.value, dtype, index, value) }
      }
      return
    }
    let walk = StridedWalk(shape: target.shape, strides: [target.strides])
    walk.forEach(0..<target.elementCount) { storeElement(to.value, dtype, $0[0], value) }
  }

  public func fillUniform(_ target: Tensor, low: Double, high: Double, stream: RandomStream) throws {
    let to = Shared(target.address)
    let dtype = target.dtype
    pool.forEachRange((target.elementCount + 3) / 4, grain: 4096) { [count = target.elementCount] range, _ in
      for block in range {
        let words = Philox.block(UInt64(block), seed: stream.seed, stream: stream.stream)
        for word in 0..<4 where 4 * block + word < count {
          let u = Double(words[word] >> 8) * 0x1p-24
          storeElement(to.value, dtype, 4 * block + word, low + (high - low) * u)
        }
      }
    }
  }

  /// Box-Muller on pairs of words: sqrt(-2 ln u1) * cos and sin of 2 pi u2, with u in (0, 1].
  public func fillNormal(_ target: Tensor, mean: Double, deviation: Double, stream: RandomStream) throws {
    let to = Shared(target.address)
    let dtype = target.dtype
    pool.forEachRange((target.elementCount + 3) / 4, grain: 2048) { [count = target.elementCount] range, _ in
      for block in range {
        let words = Philox.block(UInt64(block), seed: stream.seed, stream: stream.stream)
        for pair in 0..<2 {
          let u1 = (Double(words[2 * pair]) + 1) * 0x1p-32
          let u2 = Double(words[2 * pair + 1]) * 0x1p-32
          let radius = (-2 * log(u1)).squareRoot() * deviation
          for (part, trig) in [cos(2 * Double.pi * u2), sin(2 * Double.pi * u2)].enumerated() {
            let index = 4 * block + 2 * pair + part
            if index < count { storeElement(to.value, dtype, index, mean + radius * trig) }
          }
        }
      }
    }
  }

  public func unary(_ operation: UnaryOperation, _ x: Tensor, into y: Tensor) throws {
    let (source, target) = (Shared(x.address), Shared(y.floatAddress))
    let dtype = x.dtype
    pool.forEachRange(x.elementCount, grain: stridedGrain) { range, _ in
      for index in range {
        target.value[index] = apply(operation, Float(loadElement(source.value, dtype, index)))
      }
    }
  }

  public func binary(_ operation: BinaryOperation, _ a: Tensor, _ b: Tensor, into y: Tensor) throws {
    let (left, right) = (try a.broadcasted(to: y.shape), try b.broadcasted(to: y.shape))
    let (first, second, target) = (Shared(left.address), Shared(right.address), Shared(y.floatAddress))
    let (firstType, secondType) = (left.dtype, right.dtype)
    if left.isContiguous, right.isContiguous, firstType == .f32, secondType == .f32 {
      pool.forEachRange(y.elementCount, grain: stridedGrain) { range, _ in
        let p = first.value.assumingMemoryBound(to: Float.self)
        let q = second.value.assumingMemoryBound(to: Float.self)
        for index in range { target.value[index] = apply(operation, p[index], q[index]) }
      }
      return
    }
    let walk = StridedWalk(shape: y.shape, strides: [left.strides, right.strides, y.strides])
    pool.forEachRange(y.elementCount, grain: stridedGrain) { range, _ in
      walk.forEach(range) { at in
        let p = Float(loadElement(first.value, firstType, at[0]))
        let q = Float(loadElement(second.value, secondType, at[1]))
        target.value[at[2]] = apply(operation, p, q)
      }
    }
  }

  public func reduce(
    _ operation: Reduction, _ x: Tensor, outer: Int, count: Int, inner: Int, into y: Tensor
  ) throws {
    let (source, target) = (Shared(x.floatAddress), Shared(y.address))
    pool.forEachRange(outer * inner, grain: max(1, stridedGrain / max(1, count))) { range, _ in
      for index in range {
        let first = source.value + (index / inner * count * inner + index % inner)
        if operation == .argmax {
          target.value.storeBytes(of: Int64(largestIndex(first, count, inner)), toByteOffset: 8 * index, as: Int64.self)
        } else {
          target.value.storeBytes(
            of: reduced(operation, first, count, inner), toByteOffset: 4 * index, as: Float.self)
        }
      }
    }
  }

  public func sumOfSquares(_ x: Tensor) throws -> Double {
    let source = Shared(x.address)
    let dtype = x.dtype
    let count = x.elementCount
    let chunk = 16384
    let chunks = (count + chunk - 1) / chunk
    let sums = Shared(UnsafeMutablePointer<Double>.allocate(capacity: max(1, chunks)))
    defer { sums.value.deallocate() }
    pool.run(chunks) { index, _ in
      var sum = 0.0
      for element in index * chunk..<min(count, (index + 1) * chunk) {
        let value = loadElement(source.value, dtype, element)
        sum += value * value
      }
      sums.value[index] = sum
    }
    return (0..<chunks).reduce(0) { $0 + sums.value[$1] }
  }
}

private func reduced(_ operation: Reduction, _ p: UnsafePointer<Float>, _ count: Int, _ stride: Int) -> Float {
  switch operation {
  case .sum, .mean:
    var sum = 0.0
    for index in 0..<count { sum += Double(p[index * stride]) }
    return Float(operation == .sum ? sum : sum / Double(count))
  case .maximum, .argmax: return p[largestIndex(p, count, stride) * stride]
  case .minimum:
    var best = p[0]
    for index in 0..<count where p[index * stride] < best || p[index * stride].isNaN { best = p[index * stride] }
    return best
  }
}

/// First position of the largest element; a NaN is larger than anything, as in PyTorch.
private func largestIndex(_ p: UnsafePointer<Float>, _ count: Int, _ stride: Int) -> Int {
  var best = 0
  for index in 0..<count {
    let (value, top) = (p[index * stride], p[best * stride])
    if value > top || value.isNaN && !top.isNaN { best = index }
  }
  return best
}

private func apply(_ operation: UnaryOperation, _ x: Float) -> Float {
  switch operation {
  case .negate: -x
  case .abs: x.magnitude
  case .exp: expf(x)
  case .log: logf(x)
  case .sqrt: x.squareRoot()
  case .rsqrt: 1 / x.squareRoot()
  case .sin: sinf(x)
  case .cos: cosf(x)
  case .tanh: tanhf(x)
  case .sigmoid: 1 / (1 + expf(-x))
  case .silu: x / (1 + expf(-x))
  case .relu: x > 0 ? x : x.isNaN ? x : 0
  case .gelu: 0.5 * x * (1 + tanhf(0.797_884_56 * (x + 0.044_715 * x * x * x)))
  case .square: x * x
  case .reciprocal: 1 / x
  case .sign: x > 0 ? 1 : x < 0 ? -1 : x
  case .floor: x.rounded(.down)
  case .ceil: x.rounded(.up)
  case .round: x.rounded(.toNearestOrEven)
  }
}

private func apply(_ operation: BinaryOperation, _ a: Float, _ b: Float) -> Float {
  switch operation {
  case .add: a + b
  case .subtract: a - b
  case .multiply: a * b
  case .divide: a / b
  case .power: powf(a, b)
  case .maximum: a >= b || a.isNaN ? a : b
  case .minimum: a <= b || a.isNaN ? a : b
  case .equal: a == b ? 1 : 0
  case .notEqual: a != b ? 1 : 0
  case .less: a < b ? 1 : 0
  case .lessEqual: a <= b ? 1 : 0
  case .greater: a > b ? 1 : 0
  case .greaterEqual: a >= b ? 1 : 0
  }
}
