import Adapters
import LuaRuntime
import Models
import Ranks
import Tensors
import Training

/// Models whose layers lie on several ranks.
extension Engine {
  /// The methods of a model that need no layers of other ranks, or ask those for what they need. All others are
  /// refused.
  private static let stageMethods: Set = [
    "modules", "module", "find", "tree", "trainable", "missing_gradients", "nonfinite_gradients", "is_header_only",
    "streaming", "can_stream", "memory", "accumulate", "nll", "checkpointing", "offloaded", "attach_lora",
    "attach_ia3", "remove_adapters", "save_adapter", "note_training", "adapters", "adapter_norms", "hook", "plan_step",
  ]

  /// The method with an error for a model in stages, unless it is one of `stageMethods`.
  static func refusingStages(_ method: NativeFunction) -> NativeFunction {
    if stageMethods.contains(method.name) { return method }
    return NativeFunction(
      method.name, method.doc, method.parameters, returns: method.returns, errors: method.errors,
      example: method.example
    ) { call in
      try call.receiver(as: LanguageModel.self).requireWhole(method.name)
      return try method.body(call)
    }
  }

  /// Which part of a model this process is to read.
  func placeStage(_ load: inout LoadOptions, _ options: Options, _ call: Call) throws {
    guard options.bool("pipeline") == true, team.size > 1 else { return }
    guard load.streams != true else {
      throw call.invalid("pipeline and stream do not go together: with pipeline each rank holds its layers in memory")
    }
    guard options.string("adapter") == nil else {
      throw call.invalid("pipeline and adapter do not go together: load without pipeline, or merge the adapter first")
    }
    _ = try team.gather([], at: "load_model")
    sharesWork = true
    load.stage = (team.rank, team.size)
  }

  /// The ranks that hold the stages of a model; this one alone for a model in one piece.
  func stages(of model: LanguageModel) -> Ranks { model.stage == nil ? .alone : team }

  /// Whether tensors are what a stage of a model trains.
  func isOfStage(_ tensors: [Tensor]) -> Bool {
    guard let first = tensors.first else { return false }
    return models.compactMap(\.model).contains { model in
      model.stage != nil && model.trainableParameters.contains { $0.tensor === first }
    }
  }

  /// The ranks that train the stages of which these tensors are one.
  func stages(of tensors: [Tensor]) -> Ranks { isOfStage(tensors) ? team : .alone }

  func pipeline(_ model: LanguageModel) throws -> Pipeline { try Pipeline(model, team) }

  /// The names that all stages give, in their order.
  func all(_ names: [String], of model: LanguageModel) throws -> [String] {
    try all(names.map { ($0, 0) }, of: model).map(\.0)
  }

  /// The named numbers that all stages give, in their order.
  func all(_ own: [(String, Double)], of model: LanguageModel) throws -> [(String, Double)] {
    guard model.stage != nil else { return own }
    let text = own.map { "\($0.0)\t\($0.1.bitPattern)\n" }.joined()
    return try team.gather(Array(text.utf8), at: "stages").flatMap { bytes in
      String(decoding: bytes, as: UTF8.self).split(separator: "\n").compactMap { line in
        let parts = line.split(separator: "\t")
        return UInt64(parts[1]).map { (String(parts[0]), Double(bitPattern: $0)) }
      }
    }
  }

  /// Saves the adapters of all stages as PEFT does.
  func saveStages(
    _ model: LanguageModel, _ place: String, _ names: [String], _ form: String?, _ call: Call
  ) throws -> [LuaValue] {
    guard (form ?? (place.hasSuffix(".gguf") ? "gguf" : "peft")) == "peft" else {
      throw call.invalid(
        "an adapter of a pipeline is saved as PEFT does; load it on a model without pipeline = true "
          + "to write another form"
      )
    }
    let path = try placeToSave(place)
    var apart: [String] = []
    try model.withAllAdapters(of: team) {
      try model.withAdapters(names) {
        try savePEFT(model, path)
        apart = try PEFTFiles.modulesScaledApart(model)
      }
    }
    _ = try team.gather([], at: call.function)
    return [tellOfScales(apart, path)]
  }

  var accumulateMethod: NativeFunction {
    NativeFunction(
      "accumulate",
      "Forward and backward over batches, whose gradients add up; returns the sum of their losses. Of a model with "
        + "pipeline = true all ranks call it with the same batches, of which several are on their way at once.",
      [Parameter("batches", .table, "list of batches, such as data:steps gives")], returns: "number",
      errors: "when a loss is not finite",
      example: "assert(model:accumulate { qlora.data.batch { { ids = { 5, 6, 7 } } } } > 0)"
    ) { call in
      let model = try self.model(call)
      let batches = try call.table("batches").elements.map { value in
        guard case .object(let object) = value, let batch = object as? BatchObject else {
          throw call.invalid("batches must be a list of batches, got \(value.typeName)")
        }
        return batch
      }
      guard model.stage == nil else {
        return [.number(try self.pipeline(model).accumulate(batches.map(\.part)).reduce(0, +))]
      }
      var sum = 0.0
      for (number, batch) in batches.enumerated() {
        let loss = try self.compute(batch, call) { try model.loss($0) }
        let value = try loss.item()
        guard value.isFinite else { throw TrainingError.lossNotFinite(loss: value, microBatch: number + 1) }
        try loss.backward()
        sum += value
      }
      return [.number(sum)]
    }
  }
}
