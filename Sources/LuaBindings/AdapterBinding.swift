import Adapters
import LuaRuntime
import Models

extension Engine {
  /// What a LoRA adapter of one module is made from.
  static let adapterFields = [
    Parameter("name", .string, "full dotted name of the module"),
    Parameter("rank", .count, "columns of B and rows of A"),
    Parameter("alpha", .positive, "the branch counts alpha / rank"),
    Parameter("dropout", .real(.rate), default: "0", "share of the branch's inputs that are dropped"),
    Parameter("lr", .positive, default: "1", "factor on the optimizer's learning rate"),
    Parameter(
      "lr_ratio", .positive, default: "1",
      "further factor on the rate of B and of DoRA's magnitudes (LoRA+; 16 in its paper)"),
    Parameter("rslora", .boolean, default: "false", "scale by alpha / sqrt(rank) instead"),
    Parameter(
      "method", .string, default: "\"lora\"", choices: ["lora", "dora"],
      "what is trained: A and B, or with \"dora\" also the lengths of the weight's rows (PEFT's use_dora)"),
    Parameter(
      "init", .string, default: "\"default\"",
      choices: ["default", "gaussian", "pissa", "olora", "loftq", "eva"],
      "how A is drawn, Kaiming-uniform as PEFT or normal, with B zero; or both are taken out of "
        + "the weight: its leading singular vectors (pissa), or the start of its QR decomposition (olora); or the "
        + "weight becomes NF4 and they hold what that loses most (loftq); or A has the directions of the inputs in "
        + "data and B is zero (eva)"),
    Parameter(
      "niter", .amount, default: "0",
      "power iterations that approximate the vectors of \"pissa\" (PEFT's pissa_niter_N), 0 computes them to the last "
        + "bit, which takes minutes for a large matrix; rounds of \"loftq\" (PEFT's loftq_iter), 0 is one"),
    Parameter(
      "tied", .boolean, default: "false",
      "of an embedding that is the output matrix too: the logits change with the rows (PEFT's ensure_weight_tying)"),
  ]

  /// Methods of a model that make, write, read and merge adapters.
  var adapterMethods: [NativeFunction] {
    let directory = Parameter("directory", .string, "path of the adapter's directory")
    return [
      NativeFunction(
        "attach_lora", "Makes LoRA adapters on the named modules; recipes use add_lora.",
        [Parameter("list", .rows(Self.adapterFields), "one table for each module"), Self.setName], returns: "integer"
      ) { call in
        let model = try self.model(call)
        let adapters = try call.table("list").elements.map { try self.lora($0, call) }
        model.seed = self.seed
        return [.integer(try model.attach(adapters, set: Self.setName(call["name"])))]
      },
      NativeFunction(
        "attach_ia3", "Makes (IA)³ adapters on the named modules; recipes use add_ia3.",
        [Parameter("list", .rows(Self.factorFields), "one table for each module"), Self.setName], returns: "integer"
      ) { call in
        let adapters = try call.table("list").elements.map { value in
          let given = try self.entry(value, Self.factorFields, call)
          let method = IA3(
            scalesInput: given.bool("feedforward") ?? false, learningRateFactor: given.double("lr") ?? 1)
          return (given.string("name") ?? "", method as any AdapterMethod)
        }
        return [.integer(try self.model(call).attach(adapters, set: Self.setName(call["name"])))]
      },
      NativeFunction(
        "train_parts", "Trains whole modules and biases of the base beside the adapters; recipes use add_lora.",
        [
          Parameter("modules", .table, "full names, or ends of them"),
          Parameter(
            "bias", .string, default: "\"none\"", choices: BiasTraining.allCases.map(\.rawValue),
            "the biases of all modules, or of those with an adapter"),
        ], returns: "integer", errors: "when no module has a name, or it is stored in 4 bits"
      ) { call in
        let bias = call["bias"].asString.flatMap(BiasTraining.init) ?? .none
        return [
          .integer(
            try self.model(call).trainParts(
              modules: try call.strings(try call.table("modules"), "modules"), bias: bias))
        ]
      },
      NativeFunction(
        "remove_adapters", "Takes an adapter off, or all; returns how many modules had one.",
        [
          Parameter("name", .string, optional: true, "of the adapter; default all"),
          Parameter("modules", .table, optional: true, "full names of those that lose it; default all it has"),
        ], returns: "integer", errors: "for a name that no adapter has"
      ) { call in
        let model = try self.model(call)
        guard let name = call["name"].asString else { return [.integer(model.removeAdapters())] }
        guard !call["modules"].isNil else { return [.integer(try model.removeAdapters(name))] }
        let modules = Set(try call.strings(try call.table("modules"), "modules"))
        return [.integer(try model.removeAdapters(name, ofModules: modules))]
      },
      NativeFunction(
        "save_adapter",
        "Writes an adapter as PEFT does, by default the one in use, reads it back and compares the logits of a few "
          + "tokens. Beside it lie the tokenizer, its chat template and a model card. In an "
          + "existing directory an older adapter is replaced, everything else stays. Returns, and prints as a "
          + "warning, what vLLM and llama.cpp's converter would scale wrongly.",
        [
          directory,
          Parameter(
            "options",
            .options([
              Parameter("name", .string, optional: true, "of the adapter; default the one in use"),
              Parameter(
                "as", .string, optional: true, choices: ["peft", "gguf", "mlx"],
                "form of the files: PEFT's, one GGUF file for llama.cpp, or mlx-lm's; default peft, and gguf where the "
                  + "name ends with .gguf"),
              Parameter(
                "fold", .boolean, default: "false",
                "write one rank and one scaling, lora_alpha / r, for readers that know no other (vLLM, llama.cpp's "
                  + "converter): ranks are filled up with zeros, and what is left of the scaling goes into B"),
            ]), optional: true, "the options below"),
        ], returns: "string|nil",
        errors: "when there is no adapter, or several are in use, the directory is a file, or the files read back give "
          + "other logits"
      ) { call in
        let (model, place) = (try self.model(call), try call.string("directory"))
        let options = call.options("options")
        let names = options.string("name").map { [$0] } ?? model.namesInUse
        let form = options.string("as")
        if options.bool("fold") ?? false, form ?? (place.hasSuffix(".gguf") ? "gguf" : "peft") != "peft" {
          throw call.invalid("fold is for as = \"peft\"; the other forms are always folded")
        }
        if model.stage != nil {
          guard options.bool("fold") != true else { throw call.invalid("fold is for a model in one piece") }
          return try self.saveStages(model, place, names, form, call)
        }
        if let other = try model.withAdapters(names, { try self.saveAdapter(model, place, as: form, call) }) {
          return other
        }
        let path = try self.placeToSave(place)
        try model.withAdapters(names) { try self.warnOfBase(model, path) }
        if options.bool("fold") ?? false {
          try model.withAdapters(names) {
            try self.byFirst(call) {
              self.tellOfStaying(try PEFTFiles.saveFolded(model, directory: path).staying, path)
              for note in PEFTFiles.notes(model) { Warnings.show("save_adapter: \(path): \(note)") }
            }
          }
          return [.nil]
        }
        let apart = try model.withAdapters(names) {
          try self.byFirst(call) { try self.savePEFT(model, path) }
          return try PEFTFiles.modulesScaledApart(model)
        }
        return [self.tellOfScales(apart, path)]
      },
      NativeFunction(
        "note_training",
        "Says how the adapters in use were trained, for the model card and the chat template that save_adapter writes. "
          + "qlora.train does it; a loop of your own may.",
        [
          Parameter(
            "rows",
            .rows([
              Parameter("name", .string, "what it is, such as \"data\""), Parameter("text", .string, "its value"),
            ]), "rows of the card's table"),
          Parameter(
            "options",
            .options([
              Parameter(
                "chat_template", .string, optional: true,
                "Jinja source of the chat template of the data: save_adapter writes it beside the "
                  + "adapter, and chat and serve render it; default what the adapter came with, or the model's own")
            ]), optional: true, "the options below"),
        ]
      ) { call in
        if let template = call.options("options").string("chat_template") {
          try self.model(call).note(chatTemplate: template)
        }
        try self.model(call).note(
          try call.table("rows").elements.map { value in
            let row = value.asTable
            return (row?["name"].asString ?? "", row?["text"].asString ?? "")
          })
        return []
      },
      NativeFunction(
        "add_adapter",
        "Reads an adapter that PEFT, mlx-lm or save_adapter wrote and uses it; returns how many modules got one.",
        [
          directory,
          Parameter(
            "options",
            .options([Parameter("trainable", .boolean, default: "false", "train it on"), Self.setName]),
            optional: true, "the options below"),
        ], returns: "integer", errors: "when the files do not fit the model"
      ) { call in
        let options = call.options("options")
        let path = try self.placeToRead(try call.string("directory"))
        return [
          .integer(
            try self.addAdapter(
              path, to: try self.model(call), trainable: options.bool("trainable") ?? false,
              set: Self.setName(options["name"])))
        ]
      },
      NativeFunction(
        "merge", "Adds the adapters in use into the weights, which become dense; the adapters are removed.",
        errors: "when there are adapters that are not in use, which were made for the base as it is"
      ) { call in
        try self.model(call).mergeAdapters()
        return []
      },
      NativeFunction(
        "save",
        "Writes config.json, model.safetensors, and the tokenizer and generation settings that the model came "
          + "with, reads them back and compares. In an existing directory an older model is replaced, everything else "
          + "stays. Inside model:without_adapters it saves the base alone.",
        [
          directory,
          Parameter(
            "options",
            .options([
              Self.storedType,
              Parameter(
                "shard", .count, default: "5000000000", "most bytes of one file; more files have an index beside them"),
            ]), optional: true, "the options below"),
        ],
        errors: "when adapters are attached (merge them or save them apart), or the directory is a file, or holds an "
          + "adapter or weights of another form, or a tokenizer where the model has none"
      ) { call in
        let (model, path) = (try self.model(call), try self.placeToSave(try call.string("directory")))
        let options = call.options("options")
        let (dtype, shard) = (Self.storedType(options), options.int("shard") ?? ModelFolder.shardByteCount)
        try self.byFirst(call) { try model.save(directory: path, dtype: dtype, shardByteCount: shard) }
        return []
      },
      saveGGUF, mergedWeights, planMerge, byMatrix,
    ]
  }

  /// Reads an adapter, and tells what of it is not for the model.
  @discardableResult
  func addAdapter(
    _ path: String, to model: LanguageModel, trainable: Bool = false, set: String = AdapterSet.defaultName
  ) throws -> Int {
    let count = try AdapterFiles.load(path, into: model, trainable: trainable, set: set)
    for notice in try AdapterFiles.notices(path, of: model) { Warnings.show("add_adapter: " + notice) }
    return count
  }

  /// Saves the adapters in use as PEFT does, and tells what PEFT does otherwise and what stays of files that the
  /// directory had.
  func savePEFT(_ model: LanguageModel, _ path: String) throws {
    tellOfStaying(try PEFTFiles.save(model, directory: path), path)
    for note in PEFTFiles.notes(model) { Warnings.show("save_adapter: \(path): \(note)") }
  }

  private func tellOfStaying(_ staying: [String], _ path: String) {
    guard !staying.isEmpty else { return }
    let (names, verb) = (staying.joined(separator: ", "), staying.count == 1 ? "was" : "were")
    Warnings.show("save_adapter: \(path): \(names) \(verb) not written by a save, or changed since, and stay")
  }

  /// What other programs would scale wrongly in a saved adapter, as a warning too; nil for nothing.
  func tellOfScales(_ apart: [String], _ path: String) -> LuaValue {
    guard let first = apart.first else { return .nil }
    let warning =
      "\(path): \(apart.count) modules, \(first) the first, are scaled by another factor than lora_alpha / r "
      + "(alpha_pattern, rank_pattern, use_rslora). PEFT reads that; vLLM and llama.cpp's converter would scale "
      + "them wrongly: for those give fold = true, or call model:merge() and model:save(directory)"
    Warnings.show("save_adapter: " + warning)
    return .string(warning)
  }
}
