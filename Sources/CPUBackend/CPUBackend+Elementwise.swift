import Glibc
import Tensors

// Operations of scripts rather than of the training step: any strides, any shapes, plain loops that the compiler
// vectorises where it can, split over the pool.

extension CPUBackend {
  /// A scalar loop in f32, split over the threads; x is contiguous, of any dtype.
  /// - Throws: Nothing.
  public func unary(_ operation: UnaryOperation, _ x: Tensor, into y: Tensor) throws {
    let (source, target) = (Shared(x.address), Shared(y.floatAddress))
    let dtype = x.dtype
    pool.forEachRange(x.elementCount, grain: stridedGrain) { range, _ in
      for index in range {
        target.value[index] = apply(operation, Float(loadElement(source.value, dtype, index)))
      }
    }
  }

  /// A scalar loop in f32, split over the threads.
  ///
  /// Contiguous f32 operands of the shape of y, and one of them with a single f32 number on the right, take a plain
  /// loop; the others are walked by their strides. Maximum and minimum give NaN where an operand is one.
  /// - Throws: `TensorError.shapeMismatch` for an operand that does not broadcast to the shape of y.
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
    if left.isContiguous, b.elementCount == 1, firstType == .f32, secondType == .f32 {
      pool.forEachRange(y.elementCount, grain: stridedGrain) { range, _ in
        let p = first.value.assumingMemoryBound(to: Float.self)
        let q = second.value.load(as: Float.self)
        for index in range { target.value[index] = apply(operation, p[index], q) }
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

  /// One thread computes each result, in the order of the elements; sums and means are in double precision.
  ///
  /// A NaN is the largest and the smallest of all. `argmax` gives the first position of the largest element.
  /// - Throws: Nothing.
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

  /// Returns at once for a factor of 1, the gradient of a loss that nothing was done to.
  /// - Throws: Nothing.
  public func scale(_ x: Tensor, by factor: Tensor) throws {
    if pool.isRehearsal { return }
    let factor = factor.floatAddress.pointee
    if factor != 1 { try accumulate(x, scale: factor, into: x, scale: 0) }
  }

  /// Sums pieces of 16384 elements in parallel, each in order, then the pieces of each tensor in order, all in f64.
  /// - Throws: Nothing.
  public func sumOfSquares(_ tensors: [Tensor], into sum: Tensor) throws {
    let chunk = 16384
    let pieces = tensors.flatMap { x in
      stride(from: 0, to: x.elementCount, by: chunk).map {
        (source: Shared(x.address), dtype: x.dtype, range: $0..<min(x.elementCount, $0 + chunk))
      }
    }
    let sums = Shared(UnsafeMutablePointer<Double>.allocate(capacity: max(1, pieces.count)))
    defer { sums.value.deallocate() }
    pool.run(pieces.count) { index, _ in
      let (source, dtype, range) = pieces[index]
      var sum = 0.0
      for element in range {
        let value = loadElement(source.value, dtype, element)
        sum += value * value
      }
      sums.value[index] = sum
    }
    if pool.isRehearsal { return }
    var (total, next) = (0.0, 0)
    for x in tensors {
      let end = next + (x.elementCount + chunk - 1) / chunk
      total += (next..<end).reduce(0) { $0 + sums.value[$1] }
      next = end
    }
    sum.address.storeBytes(of: total.bitPattern, as: UInt64.self)
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
  case .erf: erff(x)
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
