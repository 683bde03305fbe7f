import Adapters
import Formats
import Glibc
import Models
import Optimizers
import Ranks
import Tensors

/// A directory from which a run continues with the same bits: adapters (or all trained weights), optimizer state, what
/// the training loop keeps, the identity of the run, and a checksum of each file. Complete or absent.
public enum TrainingCheckpoint {
  /// With what the name of a run's checkpoint begins; its step follows.
  package static let namePrefix = "checkpoint-"
  private static let weightsName = "trained.safetensors"
  private static let optimizerName = "optimizer.safetensors"
  private static let stateName = "state.json"
  private static let adapterName = "adapter"
  private static let parts: Set = [weightsName, optimizerName, stateName, adapterName, Checksums.listName]
  private static let format = 2

  /// What a checkpoint gave back.
  public struct Restored: Sendable {
    /// What the loop stored.
    public let state: JSON
    /// What decides the run and is not what it was, as far as it was accepted.
    public let changes: [RunIdentity.Difference]
  }

  /// Writes the checkpoint; an existing one of that name is replaced only once the new one is complete.
  /// - Parameters:
  ///   - directory: parents are made where absent.
  ///   - model: its trained weights are stored in their dtype, its adapters in PEFT's form too.
  ///   - optimizer: its state is stored; nil stores none.
  ///   - identity: what decides how the run goes on; nil takes what model and optimizer tell.
  ///   - state: what the loop needs to go on (step, data position); stored as JSON.
  ///   - ranks: those that hold the stages of the model, which all come here; the first of them writes the whole.
  /// - Throws: `FormatError.foreign`, `.wrongKind` and `.alreadyExists` for a name that something else than a
  ///   checkpoint has; `FormatError.system`;
  ///   `AdapterError.mixedMethods`, `AdapterError.mixedScaling`; `TensorError` when the device or the spill file of a
  ///   paged optimizer fails.
  public static func save(
    _ directory: String, model: LanguageModel, optimizer: Optimizer?, identity: RunIdentity? = nil, state: JSON,
    ranks: Ranks = .alone
  ) throws {
    let identity = try identity ?? RunIdentity(model, optimizer?.options, ranks: ranks)
    guard model.stage?.isFirst ?? true else {
      try model.withAllAdapters(of: ranks) {}
      try optimizer?.sendCheckpointItems(ranks)
      return
    }
    try model.withAllAdapters(of: ranks) { try write(directory, model, optimizer, identity, state, ranks) }
  }

  private static func write(
    _ directory: String, _ model: LanguageModel, _ optimizer: Optimizer?, _ identity: RunIdentity, _ state: JSON,
    _ ranks: Ranks
  ) throws {
    // Only a folder that holds a checkpoint and nothing else is replaced.
    let target = try AtomicDirectory(path: directory, owns: parts.contains)
    guard !FileSystem.exists(directory) || isCheckpoint(directory) else {
      throw FormatError.alreadyExists(path: directory)
    }
    // What killed runs left half-written beside it is of other steps.
    Leftovers.remove(in: FileSystem.directoryName(target.path), prefix: namePrefix)
    let stage = target.stage
    let items = model.trainableParameters.map { name, tensor in
      SafetensorsWriter.Item(name: name, dtype: tensor.dtype, shape: tensor.shape) { sink in
        try tensor.withHostBytes { try sink($0) }
      }
    }
    try SafetensorsWriter.write(path: "\(stage)/\(weightsName)", items)
    // The adapter is also there as PEFT knows it, so that a checkpoint can be used as it is. A file holds one: of
    // several in use the one that is trained, and none where several are.
    let sets = try model.namesInUse.map { try model.adapterSet($0) }
    let trained = sets.count > 1 ? sets.filter(\.isTrained) : sets
    if trained.count == 1 {
      try FileSystem.makeDirectory("\(stage)/\(adapterName)")
      try model.withAdapters([trained[0].name]) { try PEFTFiles.write(model, into: "\(stage)/\(adapterName)") }
    }
    if let optimizer {
      try SafetensorsWriter.write(path: "\(stage)/\(optimizerName)", try optimizer.checkpointItems(of: model, ranks))
    }
    let content: JSON = [
      "format": .int(format), "optimizer_step": .int(optimizer?.stepCount ?? 0),
      "dropout_step": .int(model.dropoutStep), "seed": .string(String(model.seed)),
      "identity": .object(identity.values), "loop": state,
    ]
    try AtomicFile.write("\(stage)/\(stateName)", content.text(.python) + "\n")
    try Checksums.write(stage)
    try target.commit(replacing: true)
  }

  /// Restores model and optimizer. Checksums, the identity of the run, names, types and shapes are checked before
  /// anything changes.
  /// - Parameters:
  ///   - directory: a checkpoint.
  ///   - model: trains what the checkpoint's did.
  ///   - optimizer: gets its state; without one the stored state is not read.
  ///   - identity: of the run that goes on; nil takes what model and optimizer tell.
  ///   - accepted: names from the identity, such as "lr", whose change is no error.
  ///   - ranks: those that hold the stages of the model, which all come here; each reads what is its own.
  /// - Returns: the loop's state and what changed.
  /// - Throws: `FormatError.checksum`, `.unlisted` and `.missingFile` for a damaged checkpoint; `TrainingError.changed`
  ///   and `.unknownPart`; other `FormatError`s and `OptimizerError.stateMismatch` naming file and tensor.
  public static func load(
    _ directory: String, model: LanguageModel, optimizer: Optimizer?, identity: RunIdentity? = nil,
    accepting accepted: Set<String> = [], ranks: Ranks = .alone
  ) throws -> Restored {
    try verify(directory)
    let state = try StoredState(path: "\(directory)/\(stateName)", format: format)
    let own = try identity ?? RunIdentity(model, optimizer?.options, ranks: ranks)
    let changes = own.differences(from: state.identity)
    let file = try SafetensorsFile(path: "\(directory)/\(weightsName)")
    let parameters = model.trainableParameters
    let others = model.parametersElsewhere
    let refused = try refused(changes, state, own, accepted)
    try fitting(["adapters", "base"], changes, refused, directory) {
      try check(file, parameters, besides: Set(others.map(\.name)))
    }
    if let optimizer {
      let arrays = others.flatMap { Optimizer.arrays(of: $0.name, count: $0.elementCount, optimizer.options) }
      let besides = Set(arrays.map(\.name))
      let stored = try SafetensorsFile(path: "\(directory)/\(optimizerName)")
      try fitting(["optimizer"], changes, refused, directory) { try optimizer.check(stored, besides: besides) }
      guard refused.isEmpty else { throw TrainingError.changed(checkpoint: directory, refused) }
      try optimizer.restore(from: stored, stepCount: state.optimizerStep, besides: besides)
    } else if !refused.isEmpty {
      throw TrainingError.changed(checkpoint: directory, refused)
    }
    for (name, tensor) in parameters {
      let bytes = try file.bytes(of: name)
      // The bytes are the file's mapping.
      try withExtendedLifetime(file) { try tensor.write(bytes) }
    }
    model.dropoutStep = state.dropoutStep
    model.seed = state.seed
    return Restored(state: state.loop, changes: changes)
  }

  /// Reads every file of a checkpoint and compares it with its checksum.
  /// - Throws: `FormatError.checksum`, `.unlisted`, `.missingFile`, `.system`.
  public static func verify(_ directory: String) throws(FormatError) { try Checksums.verify(directory) }

  /// Deletes a checkpoint, unless it holds what `save` did not write.
  /// - Returns: whether it is gone.
  /// - Throws: `FormatError.system`.
  public static func remove(_ directory: String) throws(FormatError) -> Bool {
    guard isCheckpoint(directory) else { return false }
    try FileGate.check(directory, .entry)
    // Whoever is ended on the way leaves no half of a checkpoint under the name of a whole one, nor what is put back.
    let old = StageName.stage(of: directory)
    guard rename(directory, old) == 0 else {
      throw .system(path: directory, operation: "rename", code: errno)
    }
    try FileSystem.remove(old)
    return true
  }

  /// Whether a folder holds nothing but files of a checkpoint, its adapter's folder included.
  private static func isCheckpoint(_ directory: String) -> Bool {
    let adapter = "\(directory)/\(adapterName)"
    guard let names = try? FileSystem.list(directory), names.contains(stateName), parts.isSuperset(of: names) else {
      return false
    }
    guard names.contains(adapterName) else { return true }
    return (try? FileSystem.list(adapter)).map(PEFTFiles.fileNames.isSuperset) ?? false
  }

  /// Does `body`, which compares what the checkpoint holds with what takes it. Where it throws because one of `parts`
  /// is another now, the error says so, and that no one can accept it.
  private static func fitting(
    _ parts: [String], _ changes: [RunIdentity.Difference], _ refused: [RunIdentity.Difference], _ directory: String,
    _ body: () throws -> Void
  ) throws {
    do { try body() } catch {
      let unfit = parts.filter { part in changes.contains { $0.path.first == part } }
      guard !unfit.isEmpty else { throw error }
      let told = changes.filter { refused.contains($0) || unfit.contains($0.path.first ?? "") }
      throw TrainingError.changed(checkpoint: directory, told, unfit: unfit)
    }
  }

  /// The changes that were not accepted.
  private static func refused(
    _ changes: [RunIdentity.Difference], _ state: StoredState, _ own: RunIdentity, _ accepted: Set<String>
  ) throws -> [RunIdentity.Difference] {
    let known = Set(own.values.keys + state.identity.keys + RunIdentity.parts)
    for name in accepted.sorted() where !known.contains(name.split(separator: ".").first.map(String.init) ?? "") {
      throw TrainingError.unknownPart(name: name, known: known.sorted())
    }
    return changes.filter { change in
      !change.path.indices.contains { accepted.contains(change.path[...$0].joined(separator: ".")) }
    }
  }

  private static func check(
    _ file: SafetensorsFile, _ parameters: [(name: String, tensor: Tensor)], besides others: Set<String>
  ) throws {
    for (name, tensor) in parameters {
      guard let entry = file.entry(name) else { throw FormatError.missingTensor(path: file.path, tensor: name) }
      guard entry.type.dtype == tensor.dtype else {
        throw FormatError.dtype(
          path: file.path, tensor: name, expected: tensor.dtype.name, actual: entry.type.rawValue.lowercased())
      }
      guard entry.shape == tensor.shape else {
        throw FormatError.shape(path: file.path, tensor: name, expected: tensor.shape, actual: entry.shape)
      }
    }
    let names = others.union(parameters.map(\.name))
    for entry in file.entries where !names.contains(entry.name) {
      throw FormatError.unexpectedTensor(path: file.path, tensor: entry.name)
    }
  }
}

/// `state.json`, each field checked.
private struct StoredState {
  let optimizerStep: Int
  let dropoutStep: Int
  let seed: UInt64
  let identity: JSONObject
  let loop: JSON

  init(path: String, format: Int) throws(FormatError) {
    let content = try JSON.read(path: path)
    func field<Value>(_ name: String, _ expected: String, _ read: (JSON) -> Value?) throws(FormatError) -> Value {
      guard let stored = content[name], let value = read(stored) else {
        throw .badField(path: path, field: name, value: content[name]?.text() ?? "absent", expected: expected)
      }
      return value
    }
    // Counters are added to, so that the largest integers are none.
    func counter(_ name: String) throws(FormatError) -> Int {
      try field(name, "a whole number from 0 to 2^53") { $0.int.flatMap { (0...1 << 53).contains($0) ? $0 : nil } }
    }
    _ = try field("format", "\(format), as this version writes it") { $0.int == format ? format : nil }
    optimizerStep = try counter("optimizer_step")
    dropoutStep = try counter("dropout_step")
    seed = try field("seed", "a whole number below 2^64, as text") { $0.string.flatMap { UInt64($0) } }
    identity = try field("identity", "an object") { $0.object }
    loop = try field("loop", "what the training loop stored") { $0 }
  }
}
