import Autograd
import Tensors

/// How far the predictions b are from a, row by row.
public struct LogitComparison: Sendable {
  /// Sum over the rows of KL(a || b) in nats.
  public let divergence: Double
  /// Rows whose largest logit is at the same place.
  public let agreements: Int
  /// Rows compared, T.
  public let rows: Int

  /// Compares logits of the same positions, [T, V] each; nothing is recorded.
  /// - Throws: `TensorError.shapeMismatch` for shapes that differ or are no matrices; `.badShape` for matrices without
  ///   columns; `.outOfMemory`.
  public init(_ a: Tensor, _ b: Tensor) throws {
    guard a.shape == b.shape, a.rank == 2 else {
      throw TensorError.shapeMismatch(operation: "compare_logits", lhs: a.shape, rhs: b.shape)
    }
    (divergence, agreements) = try GradientMode.disabled {
      let (p, q) = (try softmax(a, logarithm: true), try softmax(b, logarithm: true))
      let terms = try binary(.multiply, try unary(.exp, p), try binary(.subtract, p, q))
      let (x, y) = (try reduce(.argmax, a, axis: 1).integers(), try reduce(.argmax, b, axis: 1).integers())
      return (try reduce(.sum, terms).item(), zip(x, y).reduce(0) { $0 + ($1.0 == $1.1 ? 1 : 0) })
    }
    rows = a.shape[0]
  }
}
