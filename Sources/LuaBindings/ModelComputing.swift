import Autograd
import LuaRuntime
import Models
import Tensors

/// What a model computes, and how: logits, losses, text, recomputation and streaming.
extension Engine {
  /// Ids of a text argument, or of a list.
  func ids(_ call: Call, _ name: String, special: Bool) throws -> [Int32] {
    try ids(call, name, special: special, of: try model(call))
  }

  func ids(_ call: Call, _ name: String, special: Bool, of model: LanguageModel) throws -> [Int32] {
    if call[name].asString != nil {
      guard let tokenizer = model.tokenizer else { throw ModelError.noTokenizer(path: model.path) }
      return try tokenizer.encode(
        try call.string(name), special: special, literal: false, continues: false, reserve: reserveForText)
    }
    if let table = call[name].asTable, let key = table.pairs.lazy.compactMap({ $0.key.asString }).min() {
      throw call.invalid(
        "text or a list of token ids expected first, got a table with '\(key)'; options come behind it: "
          + "(\"text\", { … })")
    }
    guard let list = call[name].asTable?.integers() else {
      guard call[name].asTable?[1].asTable != nil else {
        throw call.invalid("text or a list of token ids expected, got \(call[name].typeName)")
      }
      throw call.invalid(
        "text or a list of token ids expected, got messages; their text is "
          + "model.tokenizer:apply_chat(messages, { add_generation_prompt = true })")
    }
    return try tokenIDs(list, model.spec.vocabularySize)
  }

  func tokenIDs(_ list: [Int], _ vocabulary: Int) throws -> [Int32] {
    try list.map { id in
      guard id >= 0, id < vocabulary else { throw ModelError.tokenOutOfRange(id: id, vocabulary: vocabulary) }
      return Int32(id)
    }
  }

  var computeMethods: [NativeFunction] {
    let input = Self.inputParameter
    return [
      NativeFunction(
        "loss", "Mean cross-entropy over the trained targets of a batch, for backward; dropout is active.",
        [Parameter("batch", .object("Batch"), "what qlora.data.batch { row, … } or data:steps makes")],
        returns: "Tensor"
      ) { call in
        let model = try self.model(call)
        let loss = try self.compute(try call.object("batch", as: BatchObject.self), call) { try model.loss($0) }
        return [self.value(loss, call.state)]
      },
      accumulateMethod,
      NativeFunction(
        "nll", "Summed negative log-likelihood of the trained targets and their number; nothing is recorded.",
        [Parameter("batch", .object("Batch"), "from qlora.data.batch")], returns: "number, integer"
      ) { call in
        let (object, model) = (try call.object("batch", as: BatchObject.self), try self.model(call))
        let count = object.batch.trainedTokenCount
        guard count > 0 else { return [.number(0), .integer(0)] }
        let mean = try self.compute(object, call) { part in
          guard model.stage == nil else { return try self.pipeline(model).evaluate(part.batch) }
          return try GradientMode.disabled { try model.loss(part.batch, isTraining: false).item() }
        }
        return [.number(mean * Double(count)), .integer(count)]
      },
      NativeFunction(
        "logits",
        "Logits of every position, f32 [T, V], or of the last only. Nothing is recorded for "
          + "backward; the recipe dpo.lua shows a loss of your own on logits.",
        [
          input,
          Parameter(
            "options", .options([Parameter("last", .boolean, default: "false", "only the last row")]), optional: true,
            "the options below"),
        ],
        returns: "Tensor"
      ) { call in
        let logits = try self.model(call).logits(try self.ids(call, "input", special: true))
        let rows = logits.shape[0]
        let wanted =
          call.options("options").bool("last") == true ? try logits.narrowed(0, rows - 1..<rows).copied() : logits
        return [self.value(wanted, call.state)]
      },
      NativeFunction("forward", "The same as logits.", [input], returns: "Tensor") { call in
        [self.value(try self.model(call).logits(try self.ids(call, "input", special: true)), call.state)]
      },
      generateMethod, cacheMethod, generatorMethod,
      NativeFunction(
        "checkpointing",
        "Recompute layers in the backward pass instead of keeping activations; only the input "
          + "of every `layers`-th layer is kept, in memory or in a file.",
        [
          Parameter("layers", .oneOf([.boolean, .integer]), "true is 1, false keeps everything"),
          Parameter(
            "options",
            .options([
              Parameter(
                "offload", .oneOf([.boolean, .string]), optional: true,
                "keep the inputs in a temporary file until the backward pass: true, or the directory for it")
            ]), optional: true, "the options below"),
        ]
      ) { call in
        let model = try self.model(call)
        let offload = call.options("options")["offload"]
        let (isOn, interval) = try self.checkpointSettings(call["layers"], model, streams: model.stream != nil)
        let directory = offload.asString ?? (offload.asBool == true ? self.spillDirectory : nil)
        guard isOn || directory == nil else {
          throw call.invalid(
            "offload keeps the inputs that checkpointing recomputes from; set checkpointing = true too")
        }
        model.activationStore = try directory.map { try ActivationStore(directory: $0) }
        (model.checkpointing, model.checkpointInterval) = (isOn, interval)
        return []
      },
      NativeFunction(
        "offloaded", "Bytes that offloading has written, read, and its file at its largest; nil without offload.",
        returns: "table|nil"
      ) { call in
        guard let store = try self.model(call).activationStore else { return [.nil] }
        let table = call.state.newTable()
        table["bytes_written"] = .integer(store.writtenByteCount)
        table["bytes_read"] = .integer(store.readByteCount)
        table["peak"] = .integer(store.peakByteCount)
        return [.table(table)]
      },
      NativeFunction(
        "without_adapters", "Runs a function with the base model alone and returns what it returns.",
        [Parameter("body", .function, "called without arguments")], returns: "any"
      ) { call in
        let body = try call.closure("body")
        return try self.model(call).withoutAdapters { try body.call() }
      },
    ]
  }

  /// Whether layers are recomputed, and how many together, from true, false or a number.
  func checkpointSettings(_ value: LuaValue, _ model: LanguageModel, streams: Bool) throws -> (
    isOn: Bool, interval: Int
  ) {
    let layers = value.asInt
    if streams {
      if value.asBool == false { throw ModelError.streamedNeedsCheckpointing }
      if let layers, layers > 1 { throw ModelError.streamedInterval(layers: layers) }
    }
    guard let layers else { return (value.asBool ?? true, 1) }
    guard (1...model.spec.layerCount).contains(layers) else {
      throw BindingError.invalid(
        function: "checkpointing",
        message: "\(layers) is no number of layers to recompute together; the model has \(model.spec.layerCount): "
          + "true or 1 keeps the input of each layer, 4 of every fourth")
    }
    return (true, layers)
  }
}
