import Adapters
import LuaRuntime
import Models

extension Engine {
  /// Methods of a model that make, write, read and merge adapters.
  var adapterMethods: [NativeFunction] {
    let directory = Parameter("directory", .string, "where")
    return [
      NativeFunction(
        "attach_lora", "Makes LoRA adapters on the named modules; recipes use add_lora.",
        [Parameter("list", .table, "tables with name, rank, alpha, dropout, lr, rslora, init")], returns: "integer"
      ) { call in
        let model = try self.model(call)
        let specifications = try call.table("list").elements.map { try self.specification($0, call) }
        model.seed = self.seed
        return [.integer(try model.attachLoRA(specifications))]
      },
      NativeFunction("remove_adapters", "Takes all adapters off; returns how many modules had one.", returns: "integer")
      {
        call in [.integer(try self.model(call).removeAdapters())]
      },
      NativeFunction(
        "save_adapter", "Writes the adapters as PEFT does, reads them back and compares the logits of a few tokens.",
        [directory]
      ) { call in
        let (model, path) = (try self.model(call), try call.string("directory"))
        try PEFTFiles.save(model, directory: path)
        try PEFTFiles.check(path, against: model)
        return []
      },
      NativeFunction(
        "add_adapter", "Reads adapters that PEFT or save_adapter wrote; returns how many modules got one.",
        [
          directory,
          Parameter(
            "options", .options([Parameter("trainable", .boolean, optional: true, "train them on; default false")]),
            optional: true, "how"),
        ], returns: "integer"
      ) { call in
        let trainable = call.options("options").bool("trainable") ?? false
        return [
          .integer(try PEFTFiles.load(try call.string("directory"), into: try self.model(call), trainable: trainable))
        ]
      },
      NativeFunction(
        "merge", "Adds the adapters into the weights, which become dense; the adapters are removed.", []
      ) { call in
        try self.model(call).mergeAdapters()
        return []
      },
      NativeFunction("save", "Writes config.json, model.safetensors (bf16) and the tokenizer.", [directory]) { call in
        try self.model(call).save(directory: try call.string("directory"))
        return []
      },
    ]
  }

  private func specification(_ value: LuaValue, _ call: Call) throws -> LoRASpecification {
    guard let table = value.asTable else { throw call.invalid("a list of tables expected, got \(value.typeName)") }
    for pair in table.pairs {
      let name = pair.key.asString ?? ""
      guard ["name", "rank", "alpha", "dropout", "lr", "rslora", "init"].contains(name) else {
        throw BindingError.unknownOption(
          function: call.function, option: call.state.describe(pair.key), nearest: nil,
          known: ["rank", "alpha", "dropout", "lr", "rslora", "init"])
      }
    }
    guard let name = table["name"].asString, let rank = table["rank"].asInt, let alpha = table["alpha"].asDouble else {
      throw call.invalid("each entry needs name, rank and alpha")
    }
    let initName = table["init"].asString ?? "default"
    guard let initialization = initName == "default" ? .kaiming : LoRAInitialization(rawValue: initName) else {
      throw call.invalid("init must be \"default\", \"gaussian\" or \"portable\", got \"\(initName)\"")
    }
    return LoRASpecification(
      moduleName: name, rank: rank, alpha: alpha, dropout: table["dropout"].asDouble ?? 0,
      rankStabilised: table["rslora"].asBool ?? false, learningRateFactor: table["lr"].asDouble ?? 1,
      initialization: initialization)
  }
}
