/// What a training step and a checkpoint must not do in silence, as data.
public enum TrainingError: Error, Equatable, Sendable {
  /// The loss of a part is NaN or infinite; `microBatch` counts from 1.
  case lossNotFinite(loss: Double, microBatch: Int)
  /// A step over no part at all.
  case noParts
  /// Trained tensors that the first step gave no gradient.
  case missingGradients([String])
  /// The norm of all gradients is NaN or infinite; `names` are the tensors whose gradients have such an element.
  case gradientsNotFinite(norm: Double, names: [String])
  /// What decides how a run goes on is not what it was when the checkpoint was written. `unfit` are the parts that no
  /// one can accept, since what the checkpoint holds has another form.
  case changed(checkpoint: String, [RunIdentity.Difference], unfit: [String] = [])
  /// Processes that cannot share out the parts of a step evenly.
  case partsOfRanks(parts: Int, ranks: Int)
  /// A step of fewer micro-batches than parts.
  case fewMicroBatches(Int, parts: Int)
  /// Not as many parts of a step are added as this process has.
  case partCount(added: Int, of: Int)
  /// The passes of stages are asked for where the model is in one piece, or its stages are others'.
  case noStages
  /// A stage of a model has nothing that is trained, so that no gradient has to come to it.
  case idleStage(rank: Int, layers: Range<Int>)
  /// Another rank sent something of another size, as for another batch.
  case otherBatch(bytes: Int, expected: Int)
  /// A sum over no tensors.
  case noParameters
  /// A change of something is to be accepted that nothing decides by; `known` are the names there are.
  case unknownPart(name: String, known: [String])
}

extension TrainingError: CustomStringConvertible {
  /// The problem in one sentence, with the first names.
  public var description: String {
    switch self {
    case .lossNotFinite(let loss, let microBatch):
      "training: the loss of micro-batch \(microBatch) is \(loss); the weights are those of the last step"
    case .noParts: "training: a step needs at least one micro-batch"
    case .missingGradients(let names):
      "training: no gradient reaches \(names.prefix(3).joined(separator: ", "))\(names.count > 3 ? ", ..." : "") "
        + "(\(names.count) in all); what takes no part in the loss cannot be trained"
    case .gradientsNotFinite(let norm, let names):
      "training: the gradient norm is \(norm); \(names.count) gradients are not finite, the first that of "
        + "\(names.first ?? "none"); the weights are those of the last step"
    case .changed(let checkpoint, let differences, let unfit):
      "\(checkpoint): the run could not go on\(unfit.isEmpty ? " exactly" : ""): "
        + RunIdentity.Difference.text(differences).joined(separator: "; ")
        + (unfit.isEmpty ? "" : "; what the checkpoint holds does not fit other \(unfit.joined(separator: " and "))")
    case .partsOfRanks(let parts, let ranks):
      "training: \(ranks) processes cannot share out \(parts) parts evenly; "
        + "\((1...max(parts, 1)).filter { parts % $0 == 0 }.map(String.init).joined(separator: ", ")) can"
    case .fewMicroBatches(let count, let parts):
      "training: a step has \(parts) parts, but only \(count) micro-batches to put into them"
    case .partCount(let added, let count):
      "training: \(added) parts of a step are added where this process has \(count)"
    case .noStages: "training: the model is in one piece, so that there are no stages to go through"
    case .idleStage(let rank, let layers):
      "training: rank \(rank) holds layers \(layers.lowerBound) to \(layers.upperBound - 1) and "
        + "nothing that is trained; of a pipeline every rank needs an adapter in its layers"
    case .otherBatch(let bytes, let expected):
      "training: another rank sent \(bytes) bytes where \(expected) were expected; all ranks need the same batches and "
        + "adapters"
    case .noParameters: "training: there is nothing to train"
    case .unknownPart(let name, let known):
      "'\(name)' is nothing that decides how a run goes on; that do \(known.joined(separator: ", "))"
    }
  }
}
