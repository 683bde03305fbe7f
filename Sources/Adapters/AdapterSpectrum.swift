import Autograd
import Glibc
import Models
import Tensors

/// Size and shape of what an adapter adds to its weight: dW = scaling B A.
public struct AdapterSpectrum: Sendable {
  /// Singular values of dW, descending; as many as the rank allows.
  public let singularValues: [Double]
  /// Frobenius norm of A.
  public let normA: Double
  /// Frobenius norm of B.
  public let normB: Double

  /// Frobenius norm of dW.
  public var norm: Double { singularValues.reduce(0) { $0 + $1 * $1 }.squareRoot() }
  /// Largest singular value.
  public var spectralNorm: Double { singularValues.first ?? 0 }

  /// exp of the entropy of the singular values' shares (Roy and Vetterli 2007): how many directions are in use.
  /// 0 for an adapter that changes nothing.
  public var effectiveRank: Double {
    let sum = singularValues.reduce(0, +)
    guard sum > 0 else { return 0 }
    let entropy = singularValues.reduce(0.0) { total, value in
      value > 0 ? total - value / sum * Glibc.log(value / sum) : total
    }
    return Glibc.exp(entropy)
  }
}

extension LowRank {
  /// The singular values without forming dW: B = Q_B R_B and A^T = Q_A R_A, so those of the small R_B R_A^T.
  /// All in double precision, on the host.
  /// - Throws: `TensorError.outOfMemory`.
  public func spectrum() throws -> AdapterSpectrum {
    let rank = self.rank
    let (a, b) = (try self.a.floats().map(Double.init), try self.b.floats().map(Double.init))
    let inFeatures = a.count / rank
    let transposedA = DenseMatrix(rows: inFeatures, columns: rank) { row, column in a[column * inFeatures + row] }
    let rightB = DenseMatrix(rows: b.count / rank, columns: rank) { row, column in b[row * rank + column] }
    let (rB, rA) = (rightB.triangularFactor(), transposedA.triangularFactor())
    let core = DenseMatrix(rows: rB.rows, columns: rA.rows) { row, column in
      (0..<rank).reduce(0.0) { $0 + rB[row, $1] * rA[column, $1] } * Double(scaling)
    }
    return AdapterSpectrum(
      singularValues: core.singularValues(), normA: norm(a), normB: norm(b))
  }

  /// Frobenius norm of dW, by ||B A||^2 = <B^T B, A A^T>; cheap enough for every few steps of a training run.
  /// The two products are f32 [rank, rank], their inner product is summed in double precision.
  /// - Throws: `TensorError.outOfMemory`.
  public func deltaNorm() throws -> Double {
    let backend = a.backend
    let left = try Tensor(empty: [rank, rank], on: backend)
    let right = try Tensor(empty: [rank, rank], on: backend)
    try backend.matmul(
      b, transposeA: true, b, transposeB: false, alpha: 1, beta: 0, into: left, precision: .f32)
    try backend.matmul(
      a, transposeA: false, a, transposeB: true, alpha: 1, beta: 0, into: right, precision: .f32)
    let inner = zip(try left.floats(), try right.floats()).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
    return max(0, inner).squareRoot() * Double(scaling)
  }
}

extension Module {
  /// Frobenius norm of what the first adapter in use adds to the weight; nil without one. Of a method that is no
  /// low-rank branch it is that of the merged weight minus the weight, formed for this; nil where nothing can be
  /// merged.
  /// - Throws: `ModelError.notLoaded`, `TensorError.outOfMemory`.
  public func adapterNorm() throws -> Double? {
    guard let adapter else { return nil }
    if let branch = adapter.lowRank { return try branch.deltaNorm() }
    let (weight, merged) = (try denseWeight(), try denseWeight())
    do {
      try adapter.method.merge(adapter.tensors, weight: merged, bias: try bias?.converted(to: .f32))
    } catch AdapterError.notMergeable { return nil }
    return try
      (zip(merged.floats(), weight.floats()).reduce(0.0) { sum, pair in
        let change = Double(pair.0) - Double(pair.1)
        return sum + change * change
      }).squareRoot()
  }
}

private func norm(_ values: [Double]) -> Double { values.reduce(0) { $0 + $1 * $1 }.squareRoot() }
