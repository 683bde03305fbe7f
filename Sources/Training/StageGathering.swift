import Formats
import Models
import Optimizers
import Ranks
import Tensors

// What the stages of a model hold is written by the first of them.

extension LanguageModel {
  /// Runs `body` on the rank that writes, while it has the adapters of all stages; the others send theirs. `ranks` are
  /// those that hold the stages, any for a model in one piece.
  /// - Throws: `RankError`, `TensorError.outOfMemory`; what `body` throws.
  package func withAllAdapters(of ranks: Ranks, _ body: () throws -> Void) throws {
    guard let stage else { return try body() }
    guard stage.isFirst else {
      for (module, adapter) in adapterSets.flatMap(\.members) where holds(module) {
        for tensor in adapter.tensors {
          try tensor.contiguous().withHostBytes { try ranks.post([$0], to: 0, at: "adapters") }
          try ranks.settle()
        }
      }
      return
    }
    try withWholeAdapters(
      { adapter, owner in
        try adapter.replacing { tensor in
          let copy = try Tensor(empty: tensor.shape, dtype: tensor.dtype, category: .adapters, on: backend)
          let bytes = try ranks.receive(from: owner, at: "adapters")
          guard bytes.count == copy.byteCount else {
            throw TrainingError.otherBatch(bytes: bytes.count, expected: copy.byteCount)
          }
          try bytes.withUnsafeBytes { try copy.write($0) }
          copy.requiresGradient = tensor.requiresGradient
          return copy
        }
      }, body)
  }
}

extension Optimizer {
  /// As `checkpointItems`, with those of the other stages of `model`, which come from them as they are written.
  func checkpointItems(of model: LanguageModel, _ ranks: Ranks) throws -> [SafetensorsWriter.Item] {
    try checkpointItems()
      + model.parametersElsewhere.flatMap { name, count, stage in
        Optimizer.arrays(of: name, count: count, options).map { array in
          SafetensorsWriter.Item(name: array.name, dtype: array.dtype, shape: array.shape) { sink in
            var rest = array.shape.reduce(array.dtype.byteCount, *)
            while rest > 0 {
              let bytes = try ranks.receive(from: stage, at: "optimizer")
              rest -= bytes.count
              try bytes.withUnsafeBytes { try sink($0) }
            }
          }
        }
      }
  }

  /// Sends the state to the rank that writes it, in the order of its file.
  func sendCheckpointItems(_ ranks: Ranks) throws {
    for item in SafetensorsWriter.inFileOrder(try checkpointItems()) {
      try item.write { bytes in
        guard !bytes.isEmpty else { return }
        try ranks.post([bytes], to: 0, at: "optimizer")
        try ranks.settle()
      }
    }
  }
}
