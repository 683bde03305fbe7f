import Autograd
import Models
import Tensors

// Combinations of the changes themselves, brought back to a rank by a singular value decomposition.
extension AdapterCombination {
  /// Matrices of more rows and columns are decomposed by power iterations.
  private static let exactSize = 256

  /// A = V^T and B = U S of the leading singular values of the combined change (PEFT:
  /// _svd_generalized_task_arithmetic_weighted_adapter).
  func decompose(_ parts: [Weighted], of module: Module, into tensors: [Tensor]) throws {
    let rank = tensors[0].shape[0]
    let (left, values, right) = try method == .svd ? ofFactors(parts, rank) : ofElements(parts, module, rank)
    try tensors[0].fill { row, column in right[column, row] }
    try tensors[1].fill { row, column in left[row, column] * values[column] }
  }

  /// Of the sum, whose rank is that of its factors: B = Q_B R_B and A^T = Q_A R_A, so the small R_B R_A^T decides.
  private func ofFactors(
    _ parts: [Weighted], _ rank: Int
  ) throws -> (left: DenseMatrix, values: [Double], right: DenseMatrix) {
    let a = try parts.map { (try DenseMatrix($0.a), Double($0.factor)) }
    let b = try parts.map { try DenseMatrix($0.b) }
    let places = parts.enumerated().flatMap { index, part in (0..<part.method.rank).map { (index, $0) } }
    let (inner, rows, columns) = (places.count, b[0].rows, a[0].0.columns)
    let left = DenseMatrix(rows: rows, columns: inner) { b[places[$1].0][$0, places[$1].1] }
    let right = DenseMatrix(rows: columns, columns: inner) { a[places[$1].0].0[places[$1].1, $0] * a[places[$1].0].1 }
    let counts = (min(inner, rows), min(inner, columns))
    let (qLeft, qRight) = (left.orthonormal(counts.0), right.orthonormal(counts.1))
    func seen(_ q: DenseMatrix, _ matrix: DenseMatrix) -> DenseMatrix {
      DenseMatrix(rows: q.columns, columns: inner) { row, column in
        (0..<q.rows).reduce(0) { $0 + q[$1, row] * matrix[$1, column] }
      }
    }
    let (rLeft, rRight) = (seen(qLeft, left), seen(qRight, right))
    let core = DenseMatrix(rows: counts.0, columns: counts.1) { row, column in
      (0..<inner).reduce(0) { $0 + rLeft[row, $1] * rRight[column, $1] }
    }
    let found = core.leading(min(rank, counts.0, counts.1))
    func turned(_ q: DenseMatrix, _ vectors: DenseMatrix) -> DenseMatrix {
      // A rank above that of the sum is filled up with zeros.
      DenseMatrix(rows: q.rows, columns: rank) { row, column in
        guard column < found.values.count else { return 0 }
        return (0..<q.columns).reduce(0) { $0 + q[row, $1] * vectors[$1, column] }
      }
    }
    let values = found.values + [Double](repeating: 0, count: rank - found.values.count)
    return (turned(qLeft, found.left), values, turned(qRight, found.right))
  }

  /// Of what the method makes of the elements of the changes.
  private func ofElements(
    _ parts: [Weighted], _ module: Module, _ rank: Int
  ) throws -> (left: DenseMatrix, values: [Double], right: DenseMatrix) {
    let kept = try parts.enumerated().map { index, part in
      let change = try Tensor(empty: module.weightShape, category: .workspace, on: part.a.backend)
      try change.backend.matmul(
        part.b, transposeA: false, part.a, transposeB: false, alpha: Float(part.method.scaling), beta: 0, into: change,
        precision: .f32)
      return try pruned(change, stream: "\(index) change \(module.name)")
    }
    let sum = try Tensor(empty: module.weightShape, category: .workspace, on: parts[0].a.backend)
    try sum.set(mixed(kept, parts.map { Float($0.weight) }))
    guard min(module.outFeatures, module.inFeatures) > Self.exactSize else { return try DenseMatrix(sum).leading(rank) }
    return try LoRA.approximated(
      sum, rank: rank, 32, RandomStream(seed: seed, purpose: "combine", module: module.name))
  }
}
