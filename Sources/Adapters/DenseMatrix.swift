import Glibc

func naturalLogarithm(_ x: Double) -> Double { log(x) }
func exponential(_ x: Double) -> Double { exp(x) }

/// A small matrix in double precision, column by column, for factorisations that look at adapters.
struct DenseMatrix {
  let rows: Int
  let columns: Int
  private var values: [Double]

  init(rows: Int, columns: Int, _ element: (Int, Int) -> Double) {
    self.rows = rows
    self.columns = columns
    values = []
    values.reserveCapacity(rows * columns)
    for column in 0..<columns {
      for row in 0..<rows { values.append(element(row, column)) }
    }
  }

  subscript(_ row: Int, _ column: Int) -> Double { values[column * rows + row] }

  /// R of the QR decomposition by Householder reflections: min(rows, columns) x columns, upper triangular.
  func triangularFactor() -> DenseMatrix {
    var work = values
    let steps = min(rows, columns)
    work.withUnsafeMutableBufferPointer { m in
      for step in 0..<steps {
        let pivot = step * rows
        var square = 0.0
        for row in step..<rows { square += m[pivot + row] * m[pivot + row] }
        guard square > 0 else { continue }
        let length = square.squareRoot()
        let head = m[pivot + step]
        let sign = head < 0 ? -1.0 : 1.0
        // The reflection vector v = x + sign(x_0) |x| e_0, kept below the diagonal while the other columns turn.
        m[pivot + step] = head + sign * length
        let halfSquare = square + head.magnitude * length
        for column in (step + 1)..<max(step + 1, columns) {
          let other = column * rows
          var inner = 0.0
          for row in step..<rows { inner += m[pivot + row] * m[other + row] }
          let factor = inner / halfSquare
          for row in step..<rows { m[other + row] -= factor * m[pivot + row] }
        }
        m[pivot + step] = -sign * length
        for row in (step + 1)..<max(step + 1, rows) { m[pivot + row] = 0 }
      }
    }
    return DenseMatrix(rows: steps, columns: columns) { row, column in row > column ? 0 : work[column * rows + row] }
  }

  /// All min(rows, columns) singular values, descending: one-sided Jacobi (Hestenes 1958), which is accurate for
  /// small values too.
  func singularValues() -> [Double] {
    if rows < columns { return DenseMatrix(rows: columns, columns: rows) { self[$1, $0] }.singularValues() }
    var work = values
    work.withUnsafeMutableBufferPointer { m in
      for _ in 0..<60 {
        var rotated = false
        for p in 0..<columns {
          for q in (p + 1)..<max(p + 1, columns) { rotated = turn(m, p * rows, q * rows) || rotated }
        }
        if !rotated { break }
      }
    }
    return (0..<columns).map { column in
      work[column * rows..<(column + 1) * rows].reduce(0) { $0 + $1 * $1 }.squareRoot()
    }.sorted(by: >)
  }

  /// Makes two columns orthogonal; false when they already are.
  private func turn(_ m: UnsafeMutableBufferPointer<Double>, _ p: Int, _ q: Int) -> Bool {
    var (alpha, beta, gamma) = (0.0, 0.0, 0.0)
    for row in 0..<rows {
      alpha += m[p + row] * m[p + row]
      beta += m[q + row] * m[q + row]
      gamma += m[p + row] * m[q + row]
    }
    guard gamma.magnitude > 1e-15 * (alpha * beta).squareRoot() else { return false }
    let zeta = (beta - alpha) / (2 * gamma)
    let tangent = (zeta < 0 ? -1.0 : 1.0) / (zeta.magnitude + (1 + zeta * zeta).squareRoot())
    let cosine = 1 / (1 + tangent * tangent).squareRoot()
    let sine = cosine * tangent
    for row in 0..<rows {
      let (x, y) = (m[p + row], m[q + row])
      m[p + row] = cosine * x - sine * y
      m[q + row] = sine * x + cosine * y
    }
    return true
  }
}
