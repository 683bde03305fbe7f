import Tensors

// Differentiable sums and spreads along a dimension, f32; other dtypes are converted first.

/// The sum of the elements up to each, along a dimension (0-based), added up in double precision.
/// - Throws: `TensorError.badDimension`, `.outOfMemory`; what the device reports.
public func cumulativeSum(_ x: Tensor, axis: Int) throws -> Tensor {
  let x = try widened(x)
  let (outer, count, inner) = try split(x.shape, axis, "cumsum")
  func sums(_ x: Tensor, fromEnd: Bool) throws -> Tensor {
    try hostComputed(x.shape, on: x.backend) {
      var elements = try x.floats()
      for row in 0..<outer * inner {
        let start = row / inner * count * inner + row % inner
        var sum = 0.0
        for step in 0..<count {
          let place = start + (fromEnd ? count - 1 - step : step) * inner
          sum += Double(elements[place])
          elements[place] = Float(sum)
        }
      }
      return elements
    }
  }
  let y = try sums(x.detached(), fromEnd: false)
  record("cumsum", inputs: [x], output: y) { [try sums($0, fromEnd: true)] }
  return y
}

/// Mean square of the distance from the mean over a dimension (0-based), which disappears, or over all elements to
/// shape [1]; the squares are divided by their number less `correction`. With `isDeviation` its square root, whose
/// gradient at 0 is 0.
/// - Throws: `TensorError.badDimension`, `.badShape` when nothing is there to reduce, `.outOfMemory`; what the device
///   reports.
public func variance(_ x: Tensor, axis: Int? = nil, correction: Int = 1, isDeviation: Bool = false) throws -> Tensor {
  guard let axis else {
    let flat = try reshape(try x.isContiguous ? x : packed(x), [x.elementCount])
    return try variance(flat, axis: 0, correction: correction, isDeviation: isDeviation)
  }
  let x = try widened(x), name = isDeviation ? "std" : "var"
  let count = try split(x.shape, axis, name).count
  var kept = x.shape
  kept[axis] = 1
  let y = try GradientMode.disabled {
    let distance = try binary(.subtract, x, try reduce(.mean, x, axis: axis).viewed(kept))
    let sum = try reduce(.sum, try unary(.square, distance), axis: axis)
    let mean = try binary(.divide, sum, try Tensor([Float(max(0, count - correction))], on: x.backend))
    return try isDeviation ? unary(.sqrt, mean) : mean
  }
  let (values, result) = (x.detached(), y.detached())
  record(name, inputs: [x], output: y) { dy in
    let distance = try binary(.subtract, values, try reduce(.mean, values, axis: axis).viewed(kept))
    let factor = Float(isDeviation ? 1 : 2) / Float(max(0, count - correction))
    var gradient = try binary(.multiply, dy, try Tensor([factor], on: dy.backend))
    if isDeviation {
      gradient = try choose(result, try binary(.divide, gradient, result), try Tensor([0], on: dy.backend))
    }
    return [try binary(.multiply, distance, try gradient.viewed(kept))]
  }
  return y
}

/// (sum |x|^p)^(1/p) over a dimension (0-based), which disappears, or over all elements to shape [1]; the largest |x|
/// for an infinite p. Where the norm is 0 the gradient is 0; equal largest elements share it.
/// - Throws: `TensorError.badValue` for a p that is not above 0; as `variance`.
public func norm(_ x: Tensor, axis: Int? = nil, p: Double = 2) throws -> Tensor {
  guard p > 0 else {
    throw TensorError.badValue(operation: "norm", name: "p", value: "\(p)", expected: "a number above 0")
  }
  guard let axis else {
    return try norm(try reshape(try x.isContiguous ? x : packed(x), [x.elementCount]), axis: 0, p: p)
  }
  let x = try widened(x)
  _ = try split(x.shape, axis, "norm")
  var kept = x.shape
  kept[axis] = 1
  func number(_ value: Double) throws -> Tensor { try Tensor([Float(value)], on: x.backend) }
  let y = try GradientMode.disabled {
    let sizes = try unary(.abs, x)
    if p == .infinity { return try reduce(.maximum, sizes, axis: axis) }
    if p == 1 { return try reduce(.sum, sizes, axis: axis) }
    if p == 2 { return try unary(.sqrt, try reduce(.sum, try unary(.square, x), axis: axis)) }
    return try binary(
      .power, try reduce(.sum, try binary(.power, sizes, try number(p)), axis: axis), try number(1 / p))
  }
  let (values, result) = (x.detached(), y.detached())
  record("norm", inputs: [x], output: y) { dy in
    let (spread, size) = (try dy.viewed(kept), try result.viewed(kept))
    let (signs, sizes) = (try unary(.sign, values), try unary(.abs, values))
    let slope: Tensor
    if p == .infinity {
      let largest = try binary(.equal, sizes, size)
      slope = try binary(.divide, try binary(.multiply, signs, largest), try sumKeeping(largest, axis: axis))
    } else if p == 1 {
      slope = signs
    } else {
      let power = try number(p - 1)
      let part = try binary(.multiply, signs, try binary(.power, sizes, power))
      let whole = try choose(values, part, try number(0))
      slope = try choose(size, try binary(.divide, whole, try binary(.power, size, power)), try number(0))
    }
    return [try binary(.multiply, slope, spread)]
  }
  return y
}
