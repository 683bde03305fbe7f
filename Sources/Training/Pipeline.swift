import Autograd
import Models
import Optimizers
import Ranks
import Tensors

/// The passes of a model whose layers lie on several processes: what a stage leaves goes to the next, the gradient of
/// it comes back.
///
/// Each micro-batch goes backward as soon as it can (1F1B, Narayanan et al. 2019): stage s of S has at most S - s of
/// them in flight, however many a step has. They go backward in their order, so that gradients add up as in one
/// process.
public struct Pipeline {
  private let model: LanguageModel
  private let ranks: Ranks
  private let stage: Stage

  /// A micro-batch between its forward and its backward pass.
  private struct Flight {
    let entry: GradientEntry?
    let output: Tensor
  }

  /// The passes of a model in stages, which these processes hold in their order.
  /// - Throws: `TrainingError.noStages` for a model in one piece, or stages of other processes.
  public init(_ model: LanguageModel, _ ranks: Ranks) throws(TrainingError) {
    guard let stage = model.stage, stage.count == ranks.size, stage.index == ranks.rank else { throw .noStages }
    (self.model, self.ranks, self.stage) = (model, ranks, stage)
  }

  /// Forward and backward passes; the gradients are added to those that are there. All ranks give the same parts, as
  /// for `Trainer.step`.
  /// - Returns: the loss of each part, on all ranks.
  /// - Throws: `TrainingError.lossNotFinite`; `RankError` where another process fails; as `LanguageModel.loss`.
  public func accumulate(_ parts: [MicroBatch]) throws -> [Double] {
    model.beforeLayer = { [ranks] in try ranks.progress() }
    defer { model.beforeLayer = nil }
    var (flying, losses): ([Flight], [Double]) = ([], [])
    let ahead = stage.count - 1 - stage.index
    for part in parts {
      flying.append(try forward(part))
      if flying.count > ahead { losses.append(try backward(flying.removeFirst(), losses.count + 1)) }
    }
    while !flying.isEmpty { losses.append(try backward(flying.removeFirst(), losses.count + 1)) }
    try ranks.settle()
    return losses
  }

  /// The mean loss of a batch without dropout, on all ranks; nothing is recorded.
  /// - Throws: as `accumulate`.
  public func evaluate(_ batch: Batch) throws -> Double {
    try GradientMode.disabled {
      let flight = try forward(MicroBatch(batch), isTraining: false)
      let loss = stage.isLast ? try flight.output.item() : 0
      let all = try ranks.gather([loss], at: "evaluation")
      try ranks.settle()
      return all[stage.count - 1][0]
    }
  }

  private func forward(_ part: MicroBatch, isTraining: Bool = true) throws -> Flight {
    var entry: GradientEntry?
    if !stage.isFirst {
      let bytes = try ranks.receive(from: stage.index - 1, at: "layers")
      let values = try Tensor(
        empty: [part.batch.tokenCount, model.spec.hiddenSize], dtype: model.computeType, on: model.backend)
      try write(bytes[...], into: values)
      entry = GradientEntry(values)
    }
    let output = try model.pass(
      part.batch, from: entry?.tensor, denominator: part.denominator, masks: part.masks, isTraining: isTraining)
    if !stage.isLast {
      try output.contiguous().withHostBytes { try ranks.post([$0], to: stage.index + 1, at: "layers") }
    }
    return Flight(entry: entry, output: output)
  }

  private func backward(_ flight: Flight, _ number: Int) throws -> Double {
    let loss: Double
    if stage.isLast {
      loss = try flight.output.item()
      guard loss.isFinite else { throw TrainingError.lossNotFinite(loss: loss, microBatch: number) }
      try flight.output.backward()
    } else {
      // The loss travels with the gradient, before it.
      let bytes = try ranks.receive(from: stage.index + 1, at: "gradients")
      loss = [Double](littleEndianBytes: bytes.prefix(8)).first ?? .nan
      let seed = try Tensor(empty: flight.output.shape, dtype: flight.output.dtype, on: model.backend)
      try write(bytes.dropFirst(8), into: seed)
      try flight.output.backward(seed: seed)
    }
    if let entry = flight.entry {
      guard let gradient = entry.gradient else { throw TrainingError.missingGradients(["the layers before"]) }
      try gradient.contiguous().withHostBytes { bytes in
        try loss.littleEndianBytes.withUnsafeBytes {
          try ranks.post([$0, bytes], to: stage.index - 1, at: "gradients")
        }
      }
    }
    return loss
  }

  private func write(_ bytes: ArraySlice<UInt8>, into tensor: Tensor) throws {
    guard bytes.count == tensor.byteCount else {
      throw TrainingError.otherBatch(bytes: bytes.count, expected: tensor.byteCount)
    }
    try bytes.withUnsafeBytes { try tensor.write($0) }
  }
}

extension Gradients {
  /// The norm over the gradients of all ranks, whose tensors follow each other, with the bits of one process that has
  /// all of them.
  /// - Throws: `RankError`; as `norm(of:)`.
  public static func norm(of tensors: [Tensor], over ranks: Ranks) throws -> Double {
    guard ranks.size > 1 else { return try norm(of: tensors) }
    let own = try tensors.compactMap(\.gradient).map { try $0.backend.sumOfSquares([$0]) }
    return try ranks.gather(own, at: "gradient norm").flatMap { $0 }.reduce(0, +).squareRoot()
  }
}
