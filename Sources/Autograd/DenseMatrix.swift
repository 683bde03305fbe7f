/// A small matrix in double precision, column by column, for factorisations.
package struct DenseMatrix {
  package let rows: Int
  package let columns: Int
  private var values: [Double]

  package init(rows: Int, columns: Int, _ element: (Int, Int) -> Double) {
    self.rows = rows
    self.columns = columns
    values = []
    values.reserveCapacity(rows * columns)
    for column in 0..<columns {
      for row in 0..<rows { values.append(element(row, column)) }
    }
  }

  package subscript(_ row: Int, _ column: Int) -> Double { values[column * rows + row] }

  /// R of the QR decomposition by Householder reflections: min(rows, columns) x columns, upper triangular.
  package func triangularFactor() -> DenseMatrix {
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

  /// The same elements with rows and columns exchanged.
  package var transposed: DenseMatrix { DenseMatrix(rows: columns, columns: rows) { self[$1, $0] } }

  /// All min(rows, columns) singular values, descending.
  package func singularValues() -> [Double] { (rows < columns ? transposed : self).rotated().lengths().sorted(by: >) }

  /// The `count` largest singular values, descending, with their vectors u [rows, count] and v [columns, count].
  package func leading(_ count: Int) -> (left: DenseMatrix, values: [Double], right: DenseMatrix) {
    if rows < columns {
      let other = transposed.leading(count)
      return (other.right, other.values, other.left)
    }
    let turned = rotated()
    let lengths = turned.lengths()
    let order = lengths.indices.sorted { lengths[$0] > lengths[$1] }.prefix(count)
    // What is left of a column that is a sum of others has no direction: rounding alone made it.
    let least = 1e-13 * (lengths.max() ?? 0)
    let chosen = order.map { lengths[$0] > least ? lengths[$0] : 0 }
    let left = DenseMatrix(rows: rows, columns: order.count) { row, k in
      chosen[k] > 0 ? turned[row, order[k]] / chosen[k] : 0
    }
    let right = DenseMatrix(rows: columns, columns: order.count) { column, k in
      chosen[k] > 0 ? dot(column, left, k) / chosen[k] : 0
    }
    return (left, chosen, right)
  }

  /// The first `count` columns of Q in the QR decomposition whose R has a positive diagonal: Gram and Schmidt, twice,
  /// which leaves them orthogonal to the last bits (Giraud et al. 2005). A column that is a sum of others becomes zero.
  package func orthonormal(_ count: Int) -> DenseMatrix {
    var q = DenseMatrix(rows: rows, columns: count) { self[$0, $1] }
    for column in 0..<count {
      let before = q.length(column)
      for _ in 0..<2 {
        for other in 0..<column { q.subtract(q.dot(column, q, other), of: other, from: column) }
      }
      let length = q.length(column)
      q.scale(column, by: length > 1e-13 * before ? 1 / length : 0)
    }
    return q
  }

  /// Inner product of a column with one of another matrix.
  private func dot(_ column: Int, _ other: DenseMatrix, _ otherColumn: Int) -> Double {
    var sum = 0.0
    for row in 0..<rows { sum += values[column * rows + row] * other.values[otherColumn * rows + row] }
    return sum
  }

  private func length(_ column: Int) -> Double { dot(column, self, column).squareRoot() }

  private func lengths() -> [Double] { (0..<columns).map(length) }

  private mutating func subtract(_ factor: Double, of other: Int, from column: Int) {
    for row in 0..<rows { values[column * rows + row] -= factor * values[other * rows + row] }
  }

  private mutating func scale(_ column: Int, by factor: Double) {
    for row in 0..<rows { values[column * rows + row] *= factor }
  }

  /// U S for at least as many rows as columns: the columns made orthogonal by one-sided Jacobi rotations (Hestenes
  /// 1958), which are accurate for small values too.
  private func rotated() -> DenseMatrix {
    var result = self
    result.values.withUnsafeMutableBufferPointer { m in
      for _ in 0..<60 {
        var rotated = false
        for p in 0..<columns {
          for q in (p + 1)..<max(p + 1, columns) { rotated = turn(m, p * rows, q * rows) || rotated }
        }
        if !rotated { break }
      }
    }
    return result
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
