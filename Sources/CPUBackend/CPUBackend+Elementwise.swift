import Glibc
import Tensors

// Operations of scripts rather than of the training step: any strides, any shapes, plain loops that the compiler
// vectorises where it can, split over the pool.

extension CPUBackend {
  /// A loop in f32, split over the threads; x is contiguous, of any dtype.
  /// - Throws: Nothing.
  public func unary(_ operation: UnaryOperation, _ x: Tensor, into y: Tensor) throws {
    let (source, target) = (Shared(x.address), Shared(y.floatAddress))
    let dtype = x.dtype
    pool.forEachRange(x.elementCount, grain: stridedGrain) { range, _ in
      apply(operation, source.value, dtype, range, into: target.value)
    }
  }

  /// A loop in f32 over runs of elements, split over the threads.
  ///
  /// Maximum and minimum give NaN where an operand is one.
  /// - Throws: `TensorError.shapeMismatch` for an operand that does not broadcast to the shape of y.
  public func binary(_ operation: BinaryOperation, _ a: Tensor, _ b: Tensor, into y: Tensor) throws {
    let (left, right) = (try a.broadcasted(to: y.shape), try b.broadcasted(to: y.shape))
    let (first, second, target) = (Shared(left.address), Shared(right.address), Shared(y.floatAddress))
    let (firstType, secondType) = (left.dtype, right.dtype)
    let walk = StridedWalk(shape: y.shape, strides: [left.strides, right.strides, y.strides])
    let steps = walk.runStrides
    pool.forEachRange(y.elementCount, grain: stridedGrain) { range, _ in
      walk.forEachRun(range) { at, count in
        let result = target.value + at[2]
        if firstType == .f32, secondType == .f32 {
          let p = first.value.assumingMemoryBound(to: Float.self) + at[0]
          let q = second.value.assumingMemoryBound(to: Float.self) + at[1]
          apply(operation, p, steps[0], q, steps[1], into: result, steps[2], count)
          return
        }
        withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * count) { numbers in
          for index in 0..<count {
            numbers[index] = Float(loadElement(first.value, firstType, at[0] + index * steps[0]))
            numbers[count + index] = Float(loadElement(second.value, secondType, at[1] + index * steps[1]))
          }
          guard let p = numbers.baseAddress else { return }
          apply(operation, p, 1, p + count, 1, into: result, steps[2], count)
        }
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

  /// Sums pieces of 16384 elements in parallel, each in a fixed order, then the pieces of each tensor in order, all in
  /// f64.
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
      sums.value[index] = squares(source.value, dtype, range)
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

/// Of f32, the dtype of gradients, eight sums of every eighth element, which do not wait for each other as the steps of
/// a single one would; then what is left.
private func squares(_ p: UnsafeRawPointer, _ dtype: DType, _ range: Range<Int>) -> Double {
  var sums = SIMD8<Double>.zero
  var first = range.lowerBound
  while dtype == .f32, first + 8 <= range.upperBound {
    let values = SIMD8<Double>(p.loadUnaligned(fromByteOffset: 4 * first, as: SIMD8<Float>.self))
    sums += values * values
    first += 8
  }
  return (first..<range.upperBound).reduce(sums.sum()) { sum, element in
    let value = loadElement(p, dtype, element)
    return sum + value * value
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

/// f of the elements `range`, each function with a loop of its own that can become vectors.
private func apply(
  _ operation: UnaryOperation, _ x: UnsafeRawPointer, _ dtype: DType, _ range: Range<Int>,
  into y: UnsafeMutablePointer<Float>
) {
  @inline(__always) func each(_ f: (Float) -> Float) {
    if dtype == .f32 {
      let x = x.assumingMemoryBound(to: Float.self)
      for index in range { y[index] = f(x[index]) }
    } else {
      for index in range { y[index] = f(Float(loadElement(x, dtype, index))) }
    }
  }
  switch operation {
  case .negate: each { -$0 }
  case .abs: each { $0.magnitude }
  case .exp: each { expf($0) }
  case .log: each { logf($0) }
  case .sqrt: each { $0.squareRoot() }
  case .rsqrt: each { 1 / $0.squareRoot() }
  case .sin: each { sinf($0) }
  case .cos: each { cosf($0) }
  case .tanh: each { tanhf($0) }
  case .sigmoid: each { 1 / (1 + expf(-$0)) }
  case .silu: each { $0 / (1 + expf(-$0)) }
  case .relu: each { $0 > 0 ? $0 : $0.isNaN ? $0 : 0 }
  case .gelu: each { 0.5 * $0 * (1 + tanhf(0.797_884_56 * ($0 + 0.044_715 * $0 * $0 * $0))) }
  case .erf: each { erff($0) }
  case .square: each { $0 * $0 }
  case .reciprocal: each { 1 / $0 }
  case .sign: each { $0 > 0 ? 1 : $0 < 0 ? -1 : $0 }
  case .floor: each { $0.rounded(.down) }
  case .ceil: each { $0.rounded(.up) }
  case .round: each { $0.rounded(.toNearestOrEven) }
  }
}

/// f(a, b) of `count` elements, each function with loops of its own for operands that are packed or one number.
private func apply(
  _ operation: BinaryOperation, _ a: UnsafePointer<Float>, _ aStep: Int, _ b: UnsafePointer<Float>, _ bStep: Int,
  into y: UnsafeMutablePointer<Float>, _ yStep: Int, _ count: Int
) {
  @inline(__always) func each(_ f: (Float, Float) -> Float) {
    switch (aStep, bStep, yStep) {
    case (1, 1, 1): for index in 0..<count { y[index] = f(a[index], b[index]) }
    case (1, 0, 1):
      let b = b.pointee
      for index in 0..<count { y[index] = f(a[index], b) }
    case (0, 1, 1):
      let a = a.pointee
      for index in 0..<count { y[index] = f(a, b[index]) }
    default: for index in 0..<count { y[index &* yStep] = f(a[index &* aStep], b[index &* bStep]) }
    }
  }
  switch operation {
  case .add: each { $0 + $1 }
  case .subtract: each { $0 - $1 }
  case .multiply: each { $0 * $1 }
  case .divide: each { $0 / $1 }
  case .power: each { powf($0, $1) }
  case .maximum: each { $0 >= $1 || $0.isNaN ? $0 : $1 }
  case .minimum: each { $0 <= $1 || $0.isNaN ? $0 : $1 }
  case .equal: each { $0 == $1 ? 1 : 0 }
  case .notEqual: each { $0 != $1 ? 1 : 0 }
  case .less: each { $0 < $1 ? 1 : 0 }
  case .lessEqual: each { $0 <= $1 ? 1 : 0 }
  case .greater: each { $0 > $1 ? 1 : 0 }
  case .greaterEqual: each { $0 >= $1 ? 1 : 0 }
  }
}
