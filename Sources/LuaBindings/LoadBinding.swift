import Adapters
import Autograd
import Formats
import LuaRuntime
import Models
import Quantization
import Tensors
import Tokenizers

extension Engine {
  var modelModule: NativeModule {
    NativeModule(
      "Models, tokenizers and data.",
      [
        NativeFunction(
          "load_model", "Reads a model; recipes use qlora.load.",
          [
            Parameter("path", .string, "directory, .gguf file or hub name"),
            Parameter(
              "options",
              .options([
                Parameter(
                  "quant", .oneOf([.string, .boolean]), default: "false",
                  choices: FourBitKind.allCases.map(\.rawValue) + ["keep", "false"],
                  "4-bit type of the linear layers; \"keep\" trains on the weights of a .gguf file in "
                    + "the formats they are served in; false reads them wide. What a file holds in bitsandbytes' 4 "
                    + "bits stays as it is: another type, block or double_quant is an error"),
                Parameter("module_quant", .table, optional: true, "name -> type or false, where it differs from quant"),
                Parameter("block", .count, default: "64", "elements that share a scale"),
                Parameter.doubleQuantization,
                Parameter(
                  "compute", .string, default: "\"auto\"", choices: ["auto", "bf16", "f32"],
                  "element type of activations, and what products round to; auto is f32 where the "
                    + "processor has no bf16 products or slow ones, else bf16, which takes half the memory for "
                    + "activations"),
                Parameter(
                  "device", .string, optional: true, "where the model computes; default the first device, \"cpu\""),
                Parameter(
                  "stream", .boolean, optional: true,
                  "true leaves the base on disk, false keeps it in memory; without it the base is streamed when it "
                    + "does not fit the limit and its file allows that"),
                Parameter("adapter", .string, optional: true, "PEFT directory to read adapters from"),
                Parameter(
                  "pipeline", .boolean, default: "false",
                  "under several ranks each holds a run of the layers, so that no machine needs room for all"),
                Parameter("smoke", .boolean, default: "false", "a small random model instead"),
                Parameter("header_only", .boolean, default: "false", "read the configuration only, for plans"),
              ]), optional: true, "the options below"),
          ], returns: "Model"
        ) { call in [.object(try self.loadModel(call))] },
        NativeFunction(
          "quantize_checkpoint",
          "Writes a checkpoint in the 4-bit form of bitsandbytes, tensor by tensor, whole or not at "
            + "all; returns its bytes. Prints what there is to say as warnings: transformers cannot read the 4-bit "
            + "experts of a model that has some.",
          [
            Parameter("input", .string, "directory, .gguf file or hub name"),
            Parameter("output", .string, "directory to make"),
            Parameter(
              "options",
              .options([
                Parameter(
                  "quant", .string, default: "\"nf4\"", choices: FourBitKind.stored.map(\.rawValue), "4-bit type"),
                Parameter("block", .count, default: "64", "elements that share a scale"),
                Parameter.doubleQuantization,
                Parameter("dtype", .string, optional: true, "of what stays in floating point; default as stored"),
                Parameter("shard_bytes", .whole(1...(1 << 60)), default: "5000000000", "most bytes of one file"),
                Parameter("on_module", .function, optional: true, "called with name, modules done, modules in all"),
              ]), optional: true, "the options below"),
          ], returns: "integer"
        ) { call in [.integer(try self.quantizeCheckpoint(call))] },
        syntheticModelFunction, fetchFunction,
        NativeFunction(
          "new_model", "A random model with every parameter trainable.",
          [
            Parameter(
              "options",
              .options([
                Parameter("config", .table, "sizes and constants, as in config.json"),
                Parameter("tokenizer", .object("Tokenizer"), optional: true, "tokenizer of the model"),
                Parameter("seed", .integer, default: "0", "seed of the weights"),
              ]), "the options below")
          ], returns: "Model"
        ) { call in
          let options = call.options("options")
          let config = try call.state.json(options["config"], function: "new_model")
          let spec = try DecoderSpec(json: DecoderSpec.withoutTokens(config), path: "config")
          let model = try LanguageModel(
            random: spec, seed: UInt64(bitPattern: Int64(options.int("seed") ?? 0)),
            options: LoadOptions(computeType: .f32), trainsAllParameters: true,
            deviation: options["config"].asTable?["initializer_range"].asDouble ?? 0.02, backend: self.backend)
          if case .object(let object) = options["tokenizer"] { model.tokenizer = object as? Tokenizer }
          self.remember(model)
          return [.object(model)]
        },
        NativeFunction(
          "tokenizer.train", "A byte-level BPE tokenizer from texts.",
          [
            Parameter("texts", .table, "list of texts"),
            Parameter(
              "options", .options([Parameter("vocab_size", .whole(1...1 << 24), "most tokens")]), "the options below"),
          ], returns: "Tokenizer"
        ) { call in
          let texts = try call.strings(try call.table("texts"), "texts")
          let size = call.options("options").int("vocab_size") ?? 1024
          return [
            .object(
              try BPETrainer.train(
                texts: texts, vocabularySize: size, specialTokens: ["<s>", "</s>"], bos: "<s>", eos: "</s>"))
          ]
        },
        NativeFunction(
          "tokenizer.load", "The tokenizer of a directory or GGUF file.",
          [Parameter("path", .string, "directory or .gguf file")],
          returns: "Tokenizer"
        ) { call in
          let path = try call.string("path")
          if path.hasSuffix(".gguf") { return [.object(try Tokenizer(gguf: try GGUFFile(path: path)))] }
          guard let tokenizer = try Tokenizer.find(directory: path) else { throw ModelError.noTokenizer(path: path) }
          return [.object(tokenizer)]
        },
        NativeFunction(
          "batch", "Packs sequences into one batch.",
          [
            Parameter("rows", .rows(Self.batchRowFields), "the sequences"),
            Parameter(
              "options",
              .options([
                Parameter("denominator", .count, optional: true, "divides the loss instead of the batch's own count"),
                Parameter("step", .whole(MaskNumber.steps), optional: true, "keys the dropout masks"),
                Parameter(
                  "micro", .whole(MaskNumber.microBatches), default: "0", "number of the batch inside the step"),
              ]), optional: true, "the options below"),
          ], returns: "Batch", errors: "when a row is empty or its labels have another length"
        ) { call in [.object(try self.makeBatch(call))] },
        NativeFunction("samples", "Packed samples, none yet; qlora.data.load fills them.", returns: "Samples") { _ in
          [.object(Samples(on: self.backend))]
        },
        NativeFunction(
          "compare_logits", "Sum over rows of KL(a || b), rows with the same argmax, number of rows.",
          [Parameter("a", .object("Tensor"), "f32 [T, V]"), Parameter("b", .object("Tensor"), "f32 [T, V]")],
          returns: "number, integer, integer"
        ) { call in try self.compareLogits(call) },
        compareBatch,
      ])
  }

  func remember(_ model: LanguageModel) {
    models.removeAll { $0.model == nil }
    models.append(WeakModel(model))
  }

  private func loadModel(_ call: Call) throws -> LanguageModel {
    let options = call.options("options")
    var load = LoadOptions(
      blockSize: options.int("block"), headerOnly: options.bool("header_only") ?? false,
      smoke: options.bool("smoke") ?? false)
    if let name = options.string("quant") {
      load.keepsBlocks = name == "keep"
      if !load.keepsBlocks { load.quantization = try fourBitKind(name, call, others: ["keep"]) }
    }
    (load.wantsDoubleQuantization, load.scaleRule) = try scaleRule(options, call)
    for (key, value) in options["module_quant"].asTable?.pairs ?? [] {
      guard let module = key.asString else { throw call.invalid("module_quant needs names of modules as keys") }
      guard value.asString != nil || value.asBool == false else {
        throw call.invalid("module_quant of \(module) must be a type or false, got a \(value.typeName)")
      }
      load.moduleQuantization[module] = .some(try value.asString.map { try fourBitKind($0, call) })
    }
    let device = try self.device(named: options.string("device"), call)
    load.streams = options.bool("stream")
    let name = options.string("compute") ?? "auto"
    if name == "auto" {
      load.computeType = LoadOptions.defaultComputeType(on: backend(on: device))
    } else {
      guard let dtype = DType(name: name) else {
        throw call.invalid("compute must be \"auto\", \"bf16\" or \"f32\", got \"\(name)\"")
      }
      load.computeType = dtype
    }
    try placeStage(&load, options, call)
    load.readsTokenizer = self.options.plan  // for the lengths of the data
    load.smokeTokenizer = resourceRoot + "/models/tiny"
    let model = try ModelLoader(backend: backend(on: device), options: load).load(
      try placeToRead(try call.string("path")))
    model.seed = seed
    if let adapter = options.string("adapter"), !load.smoke {
      try addAdapter(try placeToRead(adapter), to: model)
    }
    remember(model)
    return model
  }

  private func device(named name: String?, _ call: Call) throws -> Device {
    guard let name else { return devices[0] }
    guard let device = devices.first(where: { $0.name == name }) else {
      let known = devices.map { "\"\($0.name)\"" }.joined(separator: ", ")
      throw call.invalid("device \"\(name)\" is not there; this machine has \(known)")
    }
    return device
  }

  private func quantizeCheckpoint(_ call: Call) throws -> Int {
    let given = call.options("options")
    let options = try checkpointOptions(call)
    let report = given["on_module"].asFunction
    let (input, output) = (try placeToRead(try call.string("input")), try placeToSave(try call.string("output")))
    // What an earlier run without results left is in nobody's way.
    if input != output, let scratch = try scratch(), scratch.holds(output), FileSystem.exists(output) {
      try FileSystem.remove(output)
    }
    if self.options.plan {
      // Hours of work that a plan does not do, and what follows would need its result.
      Warnings.show("--plan: nothing is quantized, so the plan ends here")
      throw Self.leaving(code: 0, call.state)
    }
    let written = try ModelQuantizer(backend: backend, options: options).convert(
      try located(input), to: output
    ) { name, done, count in
      _ = try report?.call([.string(name), .integer(done), .integer(count)])
    }
    for sentence in written.said { Warnings.show("quantize: " + sentence) }
    return written.byteCount
  }

  func checkpointOptions(_ call: Call) throws -> ModelQuantizer.Options {
    let given = call.options("options")
    var options = ModelQuantizer.Options()
    if let name = given.string("quant") { options.kind = try fourBitKind(name, call) }
    options.blockSize = given.int("block") ?? options.blockSize
    let (double, rule) = try scaleRule(given, call)
    (options.doubleQuantization, options.scaleRule) = (double ?? true, rule)
    if let name = given.shared("dtype").asString {
      guard let dtype = DType(name: name), dtype.isFloat else {
        throw call.invalid("dtype must be \"f32\", \"bf16\" or \"f16\", got \"\(name)\"")
      }
      options.denseType = dtype
    }
    options.shardByteCount = given.int("shard_bytes") ?? options.shardByteCount
    return options
  }

  /// What `double_quant` says: whether scales are quantized too, nil for nothing said, and by which rule.
  private func scaleRule(_ options: Options, _ call: Call) throws -> (Bool?, ScaleRule) {
    guard let name = options.string("double_quant") else { return (options.bool("double_quant"), .nearest) }
    guard name == ScaleRule.bitsandbytes.rawValue else {
      throw call.invalid("double_quant must be true, false or \"bitsandbytes\", got \"\(name)\"")
    }
    return (true, .bitsandbytes)
  }

  private func fourBitKind(_ name: String, _ call: Call, others: [String] = []) throws -> FourBitKind {
    guard let kind = FourBitKind(rawValue: name) else {
      let choices = (FourBitKind.allCases.map(\.rawValue) + others).map { "\"\($0)\"" }.joined(separator: ", ")
      throw call.invalid("quant must be \(choices) or false, got \"\(name)\"")
    }
    return kind
  }

  private func compareLogits(_ call: Call) throws -> [LuaValue] {
    let found = try LogitComparison(
      try call.object("a", as: Tensor.self), try call.object("b", as: Tensor.self))
    return [.number(found.divergence), .integer(found.agreements), .integer(found.rows)]
  }
}

extension Parameter {
  static let doubleQuantization = Parameter(
    "double_quant", .oneOf([.boolean, .string]), default: "true", choices: ["true", "false", "bitsandbytes"],
    "quantize the scales too, each to the nearest 8-bit code; \"bitsandbytes\" takes the codes of its CPU kernel, "
      + "which are not the nearest for 0.2 to 0.3 % of the scales")
}

/// A model that does not live longer because it is known by name.
final class WeakModel {
  weak var model: LanguageModel?
  init(_ model: LanguageModel) { self.model = model }
}
