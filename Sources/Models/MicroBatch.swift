import Tensors

/// The part of a training step that runs through the model at once.
public struct MicroBatch: Sendable {
  /// The sequences of the part.
  public let batch: Batch
  /// What the sum of the cross-entropies is divided by: the trained targets of the whole step, so that the losses of
  /// its parts add up to the mean however it is cut. nil divides by the batch's own.
  public let denominator: Int?
  /// The dropout masks; nil takes those that the model has not used yet.
  public let masks: MaskNumber?

  /// A part; without a denominator it is a step of its own.
  public init(_ batch: Batch, denominator: Int? = nil, masks: MaskNumber? = nil) {
    self.batch = batch
    self.denominator = denominator
    self.masks = masks
  }
}

/// Which dropout masks a pass draws: the same number gives the same masks, so a repeated step is the same step.
public struct MaskNumber: Sendable, Equatable {
  /// The step of `RandomStream`.
  public let value: Int

  /// What a step may be.
  package static let steps = 0...(1 << 32) - 1
  /// What the number of a micro-batch may be.
  package static let microBatches = 0...(1 << 30) - 1

  /// The masks of the n-th loss that names none, from 1. They are below 0, where no step has any.
  init(unnamed n: Int) { value = -n }

  /// The masks of a micro-batch, counted from 1, of a step; no two share theirs.
  /// - Throws: `TensorError.badValue` for a step outside 0..<2^32 and a micro-batch outside 0..<2^30.
  public init(step: Int, microBatch: Int) throws(TensorError) {
    try Self.steps.require(step, "step", operation: "batch")
    try Self.microBatches.require(microBatch, "micro", operation: "batch")
    // Twelve bits for the micro-batch as ever, so that runs go on with their masks; what is beyond lies above the step.
    value = step * 4096 + (microBatch & 4095) + 1 + (microBatch >> 12) << 44
  }
}

extension LanguageModel {
  /// Its part of the step's mean cross-entropy, f32 [1]; recorded for `backward`, with dropout.
  /// - Throws: as `loss(_:denominator:masks:isTraining:)`: `ModelError`, `TensorError`, what hooks and adapters throw.
  public func loss(_ part: MicroBatch) throws -> Tensor {
    try loss(part.batch, denominator: part.denominator, masks: part.masks)
  }
}
