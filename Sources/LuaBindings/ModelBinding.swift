import LuaRuntime
import Models
import Tensors
import Training

extension LanguageModel: LuaObject {
  package static var luaClassName: String { "Model" }
}

extension Engine {
  func model(_ call: Call) throws -> LanguageModel { try call.receiver(as: LanguageModel.self) }

  var modelClass: NativeClass {
    NativeClass(
      "Model", "A causal language model: frozen, maybe quantized weights and trained adapters.",
      properties: [
        NativeProperty("config", "table", "sizes and constants, as in config.json") { state, object in
          (object as? LanguageModel).map { state.value($0.spec.toJSON()) } ?? .nil
        },
        NativeProperty(
          "positions", "integer",
          "most tokens of one sequence: max_position_embeddings, or what yarn and dynamic scaling stretch it to"
        ) { _, object in
          ((object as? LanguageModel)?.spec.positionLimit).map { .integer($0) } ?? .nil
        },
        NativeProperty("tokenizer", "Tokenizer|nil", "its tokenizer") { _, object in
          ((object as? LanguageModel)?.tokenizer).map { .object($0) } ?? .nil
        },
        NativeProperty(
          "notices", "string[]", "what there is to say about its files, such as fields that are passed over"
        ) {
          state, object in
          .table(state.list(((object as? LanguageModel)?.notices ?? []).map { .string($0) }))
        },
        NativeProperty(
          "turn_end", "integer|nil",
          "id of the token with which its chat template ends an answer; generation stops there, as at "
            + "those of its files",
          set: { _, object, value in
            guard let id = value.asInt.flatMap({ Int32(exactly: $0) }) ?? (value.isNil ? -1 : nil) else {
              throw BindingError.invalid(function: "turn_end", message: "turn_end is a token id or nil")
            }
            (object as? LanguageModel)?.turnEnd = id < 0 ? nil : id
          }
        ) { _, object in
          ((object as? LanguageModel)?.turnEnd).map { .integer(Int($0)) } ?? .nil
        },
        NativeProperty(
          "merged", "boolean",
          "whether its weights are others than those it was loaded with: adapters were merged, or LoftQ replaced them"
        ) { _, object in
          .bool((object as? LanguageModel)?.hasOtherWeights ?? false)
        },
        NativeProperty("name", "string", "where it was read from") { _, object in
          .string((object as? LanguageModel)?.path ?? "")
        },
        NativeProperty("stages", "integer", "ranks that hold its layers, 1 for a model in one piece") { _, object in
          .integer((object as? LanguageModel)?.stage?.count ?? 1)
        },
        NativeProperty("compute", "string", "\"f32\" or \"bf16\": what it computes in") { _, object in
          .string((object as? LanguageModel)?.computeType.name ?? "")
        },
      ],
      methods: (treeMethods + computeMethods + adapterMethods + adapterSetMethods + adapterStartMethods
        + scriptedMethods
        + variantMethods + explorationMethods + planMethods).map(Self.refusingStages),
      metamethods: [
        NativeFunction("__tostring", "The tree of modules.", returns: "string") { call in
          guard case .object(let object) = call.arguments.first ?? .nil, let model = object as? LanguageModel else {
            return [.string("Model")]
          }
          return [.string(model.treeText(depth: 5))]
        }
      ])
  }

  private var treeMethods: [NativeFunction] {
    [
      NativeFunction("modules", "Iterates over the modules in checkpoint order.", returns: "fun():Module") { call in
        let modules = try self.model(call).modules
        var next = 0
        return [
          call.state.function { _, _ in
            guard next < modules.count else { return [.nil] }
            next += 1
            return [.object(modules[next - 1])]
          }
        ]
      },
      NativeFunction(
        "module", "The module of a name.", [Parameter("name", .string, "full dotted name")], returns: "Module",
        errors: "when there is no such module, with the nearest name"
      ) {
        call in
        [.object(try self.module(try call.string("name"), of: try self.model(call)))]
      },
      NativeFunction(
        "find", "Modules whose name contains a Lua pattern.", [Parameter("pattern", .string, "Lua pattern")],
        returns: "Module[]"
      ) { call in
        guard let find = call.state.globals["string"].asTable?["find"].asFunction else { return [.nil] }
        let pattern = call["pattern"]
        let found = try self.model(call).modules.filter {
          try !(find.call([.string($0.name), pattern]).first?.isNil ?? true)
        }
        return [.table(call.state.list(found.map { .object($0) }))]
      },
      NativeFunction(
        "tree", "The modules as text, with parameters, bytes and adapters.",
        [Parameter("depth", .count, default: "5", "levels shown, counted in parts of the names")],
        returns: "string"
      ) { call in [.string(try self.model(call).treeText(depth: call["depth"].asInt ?? 5))] },
      NativeFunction("parameters", "All tensors by name.", returns: "table<string, Tensor>") { call in
        let table = call.state.newTable()
        for module in try self.model(call).modules {
          if let weight = module.weight { table[module.weightName] = .object(weight) }
          if let bias = module.bias { table[module.name + ".bias"] = .object(bias) }
          for adapter in module.adapters {
            for (name, tensor, _) in adapter.parameters { table[adapter.uniqueName(name)] = .object(tensor) }
          }
        }
        return [.table(table)]
      },
      NativeFunction("trainable", "The trained tensors in order.", returns: "Tensor[]") { call in
        let model = try self.model(call), trained = model.trainableParameters
        if trained.isEmpty, let stage = model.stage, !model.parametersElsewhere.isEmpty {
          throw TrainingError.idleStage(rank: stage.index, layers: stage.layers)
        }
        return [.table(call.state.list(trained.map { .object($0.tensor) }))]
      },
      NativeFunction(
        "missing_gradients",
        "Names of trained parameters whose gradient is absent or zero; an adapter counts when none of its "
          + "tensors has one, and each tensor of it that the backward pass did not reach.", returns: "string[]"
      ) { call in
        let model = try self.model(call)
        return [.table(call.state.list(try self.all(try model.missingGradients(), of: model).map { .string($0) }))]
      },
      NativeFunction(
        "nonfinite_gradients", "Names of trained parameters whose gradient holds a NaN or an infinity.",
        returns: "string[]"
      ) { call in
        let model = try self.model(call)
        return [.table(call.state.list(try self.all(try model.nonFiniteGradients(), of: model).map { .string($0) }))]
      },
      NativeFunction("is_header_only", "Whether only the configuration was read.", returns: "boolean") { call in
        [.bool(try !self.model(call).isLoaded)]
      },
      NativeFunction(
        "streaming", "What streaming has done: bytes, largest, peak, read, seconds_waited; nil for a resident model.",
        returns: "table|nil"
      ) { call in
        guard let stream = try self.model(call).stream else { return [.nil] }
        let table = call.state.newTable()
        table["bytes"] = .integer(stream.byteCount)
        table["largest"] = .integer(stream.largestByteCount)
        table["peak"] = .integer(stream.peakByteCount)
        table["read"] = .integer(stream.readByteCount)
        table["seconds_waited"] = .number(stream.secondsWaited)
        return [.table(table)]
      },
      NativeFunction(
        "can_stream", "Whether the base can stay on disk: its layers are stored in the form they are used in.",
        returns: "boolean"
      ) { call in
        let model = try self.model(call)
        return [.bool(model.isLoaded ? model.canStream : Rehearsal.canStream(model))]
      },
      NativeFunction(
        "set_streaming", "Leaves the base on disk from the next pass on, or has it in memory; results are the same.",
        [Parameter("enabled", .boolean, "on or off")]
      ) { call in
        try self.model(call).setStreaming(call["enabled"].asBool ?? true)
        return []
      },
      NativeFunction("memory", "Live bytes by category.", returns: "table") { call in [self.memoryTable(call.state)] },
    ]
  }
}
