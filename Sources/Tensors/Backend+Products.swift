/// c[m, n] = alpha * op(a) op(b) + beta * c on matrices of any float dtypes, whose rows may be apart; c is not read
/// when beta is 0.
public struct MatrixProduct: Sendable {
  /// The left operand, [m, k], or [k, m] when it is transposed.
  public let a: Tensor
  /// Whether op(a) is its transpose.
  public let transposeA: Bool
  /// The right operand, [k, n], or [n, k] when it is transposed.
  public let b: Tensor
  /// Whether op(b) is its transpose.
  public let transposeB: Bool
  /// What multiplies the product.
  public let alpha: Float
  /// What multiplies the old c.
  public let beta: Float
  /// The result, [m, n].
  public let c: Tensor

  /// A product to be computed into `c`.
  public init(
    _ a: Tensor, transposeA: Bool = false, _ b: Tensor, transposeB: Bool = false, alpha: Float = 1, beta: Float = 0,
    into c: Tensor
  ) {
    (self.a, self.transposeA, self.b, self.transposeB) = (a, transposeA, b, transposeB)
    (self.alpha, self.beta, self.c) = (alpha, beta, c)
  }

  /// Terms of the contraction.
  public var depth: Int { a.shape[transposeA ? 0 : 1] }

  /// Calls `matmul` of a backend.
  public func compute(on backend: any Backend, precision: DType) throws {
    try backend.matmul(
      a, transposeA: transposeA, b, transposeB: transposeB, alpha: alpha, beta: beta, into: c, precision: precision)
  }
}

extension Backend {
  /// One product after the other.
  public func matmuls(_ products: [MatrixProduct], precision: DType) throws {
    for product in products { try product.compute(on: self, precision: precision) }
  }
}
