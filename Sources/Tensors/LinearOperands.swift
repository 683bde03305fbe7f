/// A frozen or trained matrix [out, in] of a linear layer.
public enum LinearWeight: Sendable {
  /// A matrix of a float dtype.
  case dense(Tensor)
  /// A matrix in 4 bits.
  case quantized(QuantizedOperand)
  /// A matrix in a block format of a GGUF file.
  case blocks(BlockOperand)

  /// [out, in]
  public var shape: [Int] {
    switch self {
    case .dense(let weight): weight.shape
    case .quantized(let operand): operand.shape
    case .blocks(let operand): operand.shape
    }
  }

  /// A tensor on the weight's backend.
  package var anchor: Tensor {
    switch self {
    case .dense(let weight): weight
    case .quantized(let operand): operand.codes
    case .blocks(let operand): operand.bytes
    }
  }

  /// y = x W^T + beta * y, or with `transposed` dx = dy W + beta * dx, on the backend of x; see `Backend.matmul`.
  /// - Throws: what `Backend.matmul`, `quantizedMatmul` and `blockMatmul` throw, such as `TensorError.outOfMemory`.
  public func multiply(_ x: Tensor, transposed: Bool, beta: Float = 0, into y: Tensor, precision: DType) throws {
    switch self {
    case .dense(let weight):
      try x.backend.matmul(
        x, transposeA: false, weight, transposeB: !transposed, alpha: 1, beta: beta, into: y, precision: precision)
    case .quantized(let operand):
      try x.backend.quantizedMatmul(
        x, operand, transposed: transposed, alpha: 1, beta: beta, into: y, precision: precision)
    case .blocks(let operand):
      try x.backend.blockMatmul(
        x, operand, transposed: transposed, alpha: 1, beta: beta, into: y, precision: precision)
    }
  }
}

/// What a backend multiplies in one linear layer: W [out, in] and a low-rank branch. Of the branch a backend reads the
/// matrices and the factor; the mask is the caller's (`LinearOutput.lowIsGiven`, `LinearGradient.reachesInput`).
public struct LinearOperands: Sendable {
  /// W [out, in].
  public let weight: LinearWeight
  /// The branch A [rank, in], B [out, rank]; nil without one.
  public let lowRank: LowRank?

  /// Operands of a layer, by default without a branch.
  public init(weight: LinearWeight, lowRank: LowRank? = nil) {
    self.weight = weight
    self.lowRank = lowRank
  }
}

/// Where the forward pass of a linear layer goes.
public struct LinearOutput: Sendable {
  /// [T, out]
  public let y: Tensor
  /// Whether the product is added to what `y` holds, as to a bias.
  public let addsToOld: Bool
  /// h = scaling * x A^T, f32 [T, rank], rows maybe apart; nil without a branch.
  public let low: Tensor?
  /// Whether `low` is there already, because the branch has an input of its own.
  public let lowIsGiven: Bool

  /// An output, by default overwritten and without a branch.
  public init(y: Tensor, addsToOld: Bool = false, low: Tensor? = nil, lowIsGiven: Bool = false) {
    self.y = y
    self.addsToOld = addsToOld
    self.low = low
    self.lowIsGiven = lowIsGiven
  }
}

/// The gradient that reaches a linear layer and that of its branch's h.
public struct LinearGradient: Sendable {
  /// [T, out]
  public let dy: Tensor
  /// g = scaling * dy B, f32 [T, rank], rows maybe apart; nil without a branch.
  public let dLow: Tensor?
  /// Whether g A belongs to the gradient of the input; not where a mask comes between.
  public let reachesInput: Bool

  /// A gradient, by default without a branch.
  public init(dy: Tensor, dLow: Tensor? = nil, reachesInput: Bool = true) {
    self.dy = dy
    self.dLow = dLow
    self.reachesInput = reachesInput
  }
}
