import Autograd
import Models
import Optimizers
import Ranks
import Tensors

/// The training step: gradients over the parts of a batch, their norm, clipping, one update. Data, schedule and reports
/// are the caller's.
public final class Trainer {
  /// The model that is trained.
  public let model: LanguageModel
  /// Updates the trained parameters and holds their learning rate.
  public let optimizer: Optimizer
  /// Gradients whose norm is larger are scaled down to it; infinity only measures.
  public let maxGradientNorm: Double
  /// Sums the gradients of a step over all who compute it.
  private let sum: GradientSum
  private var isFirst = true

  /// What a step did.
  public struct Report: Sendable {
    /// Mean cross-entropy over the trained targets of the step, before its update.
    public let loss: Double
    /// Norm of all gradients together, before clipping.
    public let gradientNorm: Double
    /// Tokens that went through the model.
    public let tokens: Int
  }

  /// A trainer; the first of its steps also checks that every trained tensor gets a gradient.
  /// - Parameters:
  ///   - model: what is trained.
  ///   - optimizer: over the model's trained parameters.
  ///   - maxGradientNorm: larger gradients are scaled down to it.
  ///   - parts: runs of micro-batches that are summed in sequence, which decide the bits; nil for one a rank.
  ///   - ranks: the processes that share the steps.
  /// - Throws: `OptimizerError.badGradientLimit` for a `maxGradientNorm` of 0 or less and for NaN;
  ///   `TrainingError.partsOfRanks`.
  public init(
    _ model: LanguageModel, _ optimizer: Optimizer, maxGradientNorm: Double = .infinity, parts: Int? = nil,
    ranks: Ranks = .alone
  ) throws {
    sum = try GradientSum(optimizer.parameters.map(\.tensor), parts: parts, ranks: ranks)
    _ = try Gradients.scale(norm: 0, limit: maxGradientNorm)
    self.model = model
    self.optimizer = optimizer
    self.maxGradientNorm = maxGradientNorm
  }

  /// One step over `parts`, as `Samples.microBatches` gives them.
  ///
  /// The gradients of the parts add up, so that their losses are shares of the mean over the step's targets. Every rank
  /// is given all and runs its own.
  /// - Parameters:
  ///   - parts: each runs forward and backward in turn.
  ///   - learningRate: of this step; the optimizer's when nil.
  /// - Returns: loss and gradient norm before the update.
  /// - Throws: `TrainingError`; what the model and the optimizer throw. The weights are then those of the last step,
  ///   unless the optimizer's own update failed on its way.
  @discardableResult
  public func step(_ parts: [MicroBatch], learningRate: Double? = nil) throws -> Report {
    guard !parts.isEmpty else { throw TrainingError.noParts }
    try optimizer.zeroGradients()
    for range in try sum.begin(parts.count) {
      var loss = 0.0
      for number in range {
        let result = try model.loss(parts[number])
        let value = try result.item()
        guard value.isFinite else { throw TrainingError.lossNotFinite(loss: value, microBatch: number + 1) }
        try result.backward()
        loss += value
      }
      try sum.add(loss: loss)
    }
    let loss = try sum.finish().loss
    if isFirst {
      let missing = try model.missingGradients()
      guard missing.isEmpty else { throw TrainingError.missingGradients(missing) }
      isFirst = false
    }
    let norm = try Gradients.norm(of: optimizer.parameters.map(\.tensor))
    guard norm.isFinite else {
      throw TrainingError.gradientsNotFinite(norm: norm, names: try model.nonFiniteGradients())
    }
    try optimizer.step(
      learningRate: learningRate, gradientScale: try Gradients.scale(norm: norm, limit: maxGradientNorm))
    return Report(loss: loss, gradientNorm: norm, tokens: parts.reduce(0) { $0 + $1.batch.tokenCount })
  }
}
