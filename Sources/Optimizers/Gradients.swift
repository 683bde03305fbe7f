import Tensors

/// The gradients of trained tensors, taken together; a tensor without one counts as zero.
public enum Gradients {
  /// sqrt(sum of squares of all elements of all gradients), in double precision with a fixed order. NaN or infinite
  /// when an element is; 0 without gradients.
  /// - Throws: `TensorError.outOfMemory`; what the device reports.
  public static func norm(of tensors: [Tensor]) throws -> Double {
    let gradients = tensors.compactMap(\.gradient)
    guard let first = gradients.first else { return 0 }
    return try first.backend.sumOfSquares(gradients).squareRoot()
  }

  /// What scales gradients of this norm down to the limit: limit / (norm + 1e-6) as `torch.nn.utils.clip_grad_norm_`,
  /// or 1 where the norm is not above the limit or not finite. For `Optimizer.step(gradientScale:)`, which multiplies
  /// on its way over them.
  /// - Throws: `OptimizerError.badGradientLimit` for a limit of 0 or less and for NaN; infinity only measures.
  public static func scale(norm: Double, limit: Double) throws -> Float {
    guard limit > 0 else { throw OptimizerError.badGradientLimit(limit) }
    guard norm > limit, norm.isFinite else { return 1 }
    return Float(limit / (norm + 1e-6))
  }

  /// Scales the gradients themselves down where their norm is above the limit, for those who look at them afterwards.
  /// - Returns: The norm before.
  /// - Throws: `OptimizerError.badGradientLimit` for a limit of 0 or less and for NaN; `TensorError.outOfMemory`; what
  ///   the device reports.
  @discardableResult
  public static func clip(_ tensors: [Tensor], to limit: Double) throws -> Double {
    _ = try scale(norm: 0, limit: limit)  // a bad limit is told before any work
    let norm = try norm(of: tensors)
    try clip(tensors, norm: norm, to: limit)
    return norm
  }

  /// Scales gradients down whose norm, with those of others, is above the limit.
  /// - Throws: as `clip(_:to:)`.
  package static func clip(_ tensors: [Tensor], norm: Double, to limit: Double) throws {
    let scale = try scale(norm: norm, limit: limit)
    guard scale != 1 else { return }
    for gradient in tensors.compactMap(\.gradient) {
      try gradient.backend.accumulate(gradient, scale: scale, into: gradient, scale: 0)
    }
  }

  /// Whether a tensor has no gradient, or one of zeros only.
  /// - Throws: `TensorError.outOfMemory`; what the device reports.
  public static func isMissing(_ tensor: Tensor) throws -> Bool {
    try tensor.gradient.map { try $0.backend.sumOfSquares([$0]) == 0 } ?? true
  }

  /// Whether a tensor has a gradient with a NaN or an infinity in it.
  /// - Throws: `TensorError.outOfMemory`; what the device reports.
  public static func isNonFinite(_ tensor: Tensor) throws -> Bool {
    try tensor.gradient.map { try !$0.backend.sumOfSquares([$0]).isFinite } ?? false
  }
}
