import Adapters
import Formats
import Models
import Optimizers
import Tensors

/// A directory from which a run continues with the same bits: adapters (or all trained weights), optimizer state, and what
/// the training loop keeps. Complete or absent.
public enum TrainingCheckpoint {
  private static let weightsName = "trained.safetensors"
  private static let optimizerName = "optimizer.safetensors"
  private static let stateName = "state.json"

  /// Writes the checkpoint; an existing one of that name is replaced only once the new one is complete.
  /// - Parameters:
  ///   - directory: parents are made where absent.
  ///   - model: its trained weights are stored in their dtype, its adapters in PEFT's form too.
  ///   - optimizer: its state is stored; nil stores none.
  ///   - state: what the loop needs to go on (step, data position); stored as JSON.
  /// - Throws: `FormatError.system`; `AdapterError.mixedMethods`, `AdapterError.mixedScaling`; `TensorError` when the
  ///   device or the spill file of a paged optimizer fails.
  public static func save(
    _ directory: String, model: LanguageModel, optimizer: Optimizer?, state: JSON
  ) throws {
    // Only a folder that holds a checkpoint and nothing else is replaced.
    let parts: Set<String> = [weightsName, optimizerName, stateName, "adapter"]
    let target = try AtomicDirectory(path: directory, owns: parts.contains)
    // What killed runs left half-written beside it has other numbers.
    Leftovers.remove(in: FileSystem.directoryName(target.path), prefix: "checkpoint-")
    let stage = target.stage
    let items = model.trainableParameters.map { name, tensor in
      SafetensorsWriter.Item(name: name, dtype: tensor.dtype, shape: tensor.shape) { sink in
        try tensor.withHostBytes { try sink($0) }
      }
    }
    try SafetensorsWriter.write(path: "\(stage)/\(weightsName)", items)
    // The adapter is also there as PEFT knows it, so that a checkpoint can be used as it is.
    if !model.adapters.isEmpty {
      try FileSystem.makeDirectory("\(stage)/adapter")
      try PEFTFiles.write(model, into: "\(stage)/adapter")
    }
    if let optimizer {
      try SafetensorsWriter.write(path: "\(stage)/\(optimizerName)", optimizer.checkpointItems())
    }
    let content: JSON = [
      "format": 1, "optimizer_step": .int(optimizer?.stepCount ?? 0), "dropout_step": .int(model.dropoutStep),
      "seed": .string(String(model.seed)), "loop": state,
    ]
    try AtomicFile.write("\(stage)/\(stateName)", content.text(.python) + "\n")
    try target.commit(replacing: true)
  }

  /// Restores model and optimizer, and returns the loop's state. Shapes and names are checked before anything changes.
  ///
  /// Without an optimizer its stored state is not read. A tensor of the file that the model does not train is ignored.
  /// - Throws: `FormatError`, `OptimizerError.stateMismatch` naming file and tensor.
  public static func load(_ directory: String, model: LanguageModel, optimizer: Optimizer?) throws -> JSON {
    let path = "\(directory)/\(stateName)"
    let content = try JSON.read(path: path)
    guard content["format"]?.int == 1, let step = content["optimizer_step"]?.int, step >= 0,
      let dropoutStep = content["dropout_step"]?.int, let seed = content["seed"]?.string.flatMap({ UInt64($0) })
    else {
      throw FormatError.badField(
        path: path, field: "format", value: content.text(), expected: "a checkpoint of this version")
    }
    let file = try SafetensorsFile(path: "\(directory)/\(weightsName)")
    let parameters = model.trainableParameters
    for (name, tensor) in parameters {
      guard let entry = file.entry(name) else { throw FormatError.missingTensor(path: file.path, tensor: name) }
      guard entry.shape == tensor.shape, entry.type.dtype == tensor.dtype else {
        throw FormatError.shape(path: file.path, tensor: name, expected: tensor.shape, actual: entry.shape)
      }
    }
    if let optimizer {
      try optimizer.restore(from: try SafetensorsFile(path: "\(directory)/\(optimizerName)"), stepCount: step)
    }
    for (name, tensor) in parameters {
      let bytes = try file.bytes(of: name)
      // The bytes are the file's mapping.
      try withExtendedLifetime(file) { try tensor.write(bytes) }
    }
    model.dropoutStep = dropoutStep
    model.seed = seed
    return content["loop"] ?? .null
  }
}
