/// The low-rank branch of a linear layer: y = x W^T + scaling * dropout(x) A^T B^T (Hu et al. 2021, section 4.1).
///
/// The one shape in which automatic differentiation, backends and adapters hand a branch on. Dropout masks the input of
/// the branch only, as in PEFT.
public struct LowRank: Sendable {
  /// [rank, in], f32
  public let a: Tensor
  /// [out, rank], f32
  public let b: Tensor
  /// The factor of the branch: alpha / rank, or alpha / sqrt(rank) where ranks are stabilized.
  public let scaling: Float
  /// Probability with which an element of the branch's input is dropped; 0 masks nothing.
  public var dropout: Float
  /// The numbers of the mask; not read without dropout.
  public var stream: RandomStream

  /// A branch, by default without dropout.
  public init(
    a: Tensor, b: Tensor, scaling: Float, dropout: Float = 0, stream: RandomStream = RandomStream(seed: 0, stream: 0)
  ) {
    self.a = a
    self.b = b
    self.scaling = scaling
    self.dropout = dropout
    self.stream = stream
  }

  /// Rows of A, columns of B.
  public var rank: Int { a.shape[0] }
  /// Whether the branch sees its input through a mask.
  public var isMasked: Bool { dropout > 0 }
}
