import Tensors

// Differentiable decompositions of matrices. Values come from double precision, gradients are f32.

private func matrix(_ x: Tensor, _ operation: String) throws -> Tensor {
  guard x.rank == 2, x.elementCount > 0 else {
    throw TensorError.badShape(operation: operation, shape: x.shape, problem: .emptyMatrix)
  }
  return try widened(x)
}

private func dense(_ x: Tensor) throws -> DenseMatrix {
  let (values, columns) = (try x.floats(), x.shape[1])
  return DenseMatrix(rows: x.shape[0], columns: columns) { Double(values[$0 * columns + $1]) }
}

private func tensor(_ matrix: DenseMatrix, on backend: any Backend) throws -> Tensor {
  let values = (0..<matrix.rows).flatMap { row in (0..<matrix.columns).map { Float(matrix[row, $0]) } }
  return try Tensor(values, shape: [matrix.rows, matrix.columns], on: backend)
}

/// x = q r with the columns of q [rows, columns] orthonormal and r [columns, columns] upper triangular, its diagonal
/// positive; f32. A column of x that is a sum of those before it has a column of zeros in q.
/// - Throws: `TensorError.badShape` for another rank than 2 and for nothing, `.badValue` for more columns than rows;
///   `.outOfMemory`; what the device reports.
public func orthogonalFactors(_ x: Tensor) throws -> (q: Tensor, r: Tensor) {
  let x = try matrix(x, "qr")
  let (rows, columns) = (x.shape[0], x.shape[1])
  guard rows >= columns else {
    throw TensorError.badValue(
      operation: "qr", name: "columns", value: "\(columns)", expected: "at most as many as rows, \(rows)")
  }
  let q, r: Tensor
  if isRehearsal(x) {
    (q, r) = (try Tensor(empty: x.shape, on: x.backend), try Tensor(empty: [columns, columns], on: x.backend))
  } else {
    let values = try dense(x), factor = values.orthonormal(columns)
    let products = DenseMatrix(rows: columns, columns: columns) { i, j in
      i > j ? 0 : (0..<rows).reduce(0) { $0 + factor[$1, i] * values[$1, j] }
    }
    (q, r) = (try tensor(factor, on: x.backend), try tensor(products, on: x.backend))
  }
  let (savedQ, savedR) = (q.detached(), r.detached())
  record("qr", inputs: [x], saving: [savedQ, savedR], outputs: [q, r]) { gradients in
    // With M = r dr^T - dq^T q: dx = (dq + q (tril(M) + tril(M, -1)^T)) r^-T.
    let lower = try mask(columns, on: savedR.backend) { $0 >= $1 },
      strict = try mask(columns, on: savedR.backend) { $0 > $1 }
    var sum = try Tensor(full: [columns, columns], value: 0, on: savedR.backend)
    if let dr = gradients[1] { sum = try matmul(savedR, try dr.transposed(0, 1)) }
    if let dq = gradients[0] { sum = try binary(.subtract, sum, try matmul(try dq.transposed(0, 1), savedQ)) }
    let symmetric = try binary(
      .add, try binary(.multiply, sum, lower), try binary(.multiply, sum, strict).transposed(0, 1))
    let turned = try matmul(savedQ, symmetric)
    return [try solved(try gradients[0].map { try binary(.add, $0, turned) } ?? turned, savedR)]
  }
  return (q, r)
}

/// 1 where the row and the column are chosen, else 0.
private func mask(_ size: Int, on backend: any Backend, _ isChosen: (Int, Int) -> Bool) throws -> Tensor {
  try Tensor(
    (0..<size * size).map { isChosen($0 / size, $0 % size) ? 1 : 0 }, shape: [size, size], on: backend)
}

/// y r^-T of an upper triangular r, row by row from behind.
private func solved(_ y: Tensor, _ r: Tensor) throws -> Tensor {
  let count = r.shape[0]
  return try hostComputed(y.shape, on: y.backend) {
    let (right, values) = (try r.floats().map(Double.init), try y.floats())
    var result = values
    var row = [Double](repeating: 0, count: count)
    for start in stride(from: 0, to: values.count, by: count) {
      for i in (0..<count).reversed() {
        var rest = Double(values[start + i])
        for j in (i + 1)..<max(i + 1, count) { rest -= right[i * count + j] * row[j] }
        row[i] = rest / right[i * count + i]
        result[start + i] = Float(row[i])
      }
    }
    return result
  }
}

/// x = u diag(s) v^T with s [k] descending and the columns of u [rows, k] and v [columns, k] orthonormal, k the smaller
/// of rows and columns; f32. Signs of pairs of vectors are free. A value of 0 has vectors of zeros. As in PyTorch
/// gradients of vectors are not finite where two values are equal.
/// - Throws: `TensorError.badShape` for another rank than 2 and for nothing, `.badValue` for elements that are not
///   finite; `.outOfMemory`; what the device reports.
public func singularValues(_ x: Tensor) throws -> (u: Tensor, s: Tensor, v: Tensor) {
  let x = try matrix(x, "svd")
  let (rows, columns, backend) = (x.shape[0], x.shape[1], x.backend)
  let count = min(rows, columns)
  let u, s, v: Tensor
  if isRehearsal(x) {
    u = try Tensor(empty: [rows, count], on: backend)
    (s, v) = (try Tensor(empty: [count], on: backend), try Tensor(empty: [columns, count], on: backend))
  } else {
    guard try x.floats().allSatisfy(\.isFinite) else {
      throw TensorError.badValue(
        operation: "svd", name: "x", value: "a matrix with NaN or an infinity", expected: "finite numbers")
    }
    let (left, values, right) = try dense(x).leading(count)
    (u, v) = (try tensor(left, on: backend), try tensor(right, on: backend))
    s = try Tensor(values.map(Float.init), on: backend)
  }
  let (savedU, savedS, savedV) = (u.detached(), s.detached(), v.detached())
  record("svd", inputs: [x], saving: [savedU, savedS, savedV], outputs: [u, s, v]) { gradients in
    let row = try savedS.viewed([1, count]), unit = try Tensor(identity: count, on: backend)
    // dx = u ((skew(u^T du) / e) s + s (skew(v^T dv) / e) + ds) v^T and what leaves the span of u and v.
    let (a, b) = (try unary(.square, row), try unary(.square, try savedS.viewed([count, 1])))
    let distance = try binary(.add, try binary(.subtract, a, b), unit)
    func skew(_ base: Tensor, _ gradient: Tensor) throws -> Tensor {
      let product = try matmul(try base.transposed(0, 1), gradient)
      return try binary(.divide, try binary(.subtract, product, try product.transposed(0, 1)), distance)
    }
    func outside(_ base: Tensor, _ gradient: Tensor) throws -> Tensor {
      try binary(
        .divide,
        try binary(.subtract, gradient, try matmul(base, try matmul(try base.transposed(0, 1), gradient))), row)
    }
    var inner = try Tensor(full: [count, count], value: 0, on: backend)
    if let ds = gradients[1] { inner = try binary(.multiply, unit, try ds.viewed([1, count])) }
    if let du = gradients[0] { inner = try binary(.add, inner, try binary(.multiply, try skew(savedU, du), row)) }
    if let dv = gradients[2] {
      inner = try binary(
        .add, inner, try binary(.multiply, try savedS.viewed([count, 1]), try skew(savedV, dv)))
    }
    let turned = try savedV.transposed(0, 1)
    var dx = try matmul(try matmul(savedU, inner), turned)
    if let du = gradients[0], rows > count { dx = try binary(.add, dx, try matmul(try outside(savedU, du), turned)) }
    if let dv = gradients[2], columns > count {
      dx = try binary(.add, dx, try matmul(savedU, try outside(savedV, dv).transposed(0, 1)))
    }
    return [dx]
  }
  return (u, s, v)
}
