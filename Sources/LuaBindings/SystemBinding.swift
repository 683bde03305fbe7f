import Adapters
import Autograd
import CPUBackend
import Formats
import Glibc
import LuaRuntime
import Models
import Optimizers
import Tensors
import Tokenizers
import Training

extension Tokenizer: LuaObject {
  public static var luaClassName: String { "Tokenizer" }
}

extension Engine {
  var tokenizerClass: NativeClass {
    func id(_ name: String, _ doc: String, _ get: @escaping (Tokenizer) -> Int32?) -> NativeProperty {
      NativeProperty(name, "integer|nil", doc) { _, object in
        (object as? Tokenizer).flatMap(get).map { .integer(Int($0)) } ?? .nil
      }
    }
    func text(_ name: String, _ doc: String, _ get: @escaping (Tokenizer) -> String?) -> NativeProperty {
      NativeProperty(name, "string|nil", doc) { _, object in
        (object as? Tokenizer).flatMap(get).map { .string($0) } ?? .nil
      }
    }
    return NativeClass(
      "Tokenizer", "Text to token ids and back.",
      properties: [
        NativeProperty("vocab_size", "integer", "number of tokens") { _, object in
          .integer((object as? Tokenizer)?.vocabularySize ?? 0)
        },
        id("bos", "id of the token that opens a text") { $0.bos }, id("eos", "id of the token that ends a text") { $0.eos },
        id("pad", "id of the padding token") { $0.pad },
        text("bos_token", "its text") { tokenizer in tokenizer.bos.flatMap { tokenizer.token($0) } },
        text("eos_token", "its text") { tokenizer in tokenizer.eos.flatMap { tokenizer.token($0) } },
        text("chat_template", "Jinja source of the chat template") { $0.chatTemplate },
      ],
      methods: [
        NativeFunction(
          "encode", "The ids of a text.",
          [
            Parameter("text", .string, "any text"),
            Parameter(
              "options",
              .options([
                Parameter("special", .boolean, optional: true, "add BOS and EOS as the model does; default true"),
                Parameter("literal", .boolean, optional: true, "do not recognise special tokens in the text"),
                Parameter("continues", .boolean, optional: true, "the text goes on after earlier text: no leading space added"),
              ]), optional: true, "how"),
          ], returns: "integer[]"
        ) { call in
          let options = call.options("options")
          let ids = try call.receiver(as: Tokenizer.self).encode(
            try call.string("text"), special: options.bool("special") ?? true, literal: options.bool("literal") ?? false,
            continues: options.bool("continues") ?? false)
          return [.table(call.state.list(ids.map { .integer(Int($0)) }))]
        },
        NativeFunction("decode", "The text of ids.", [Parameter("ids", .table, "token ids")], returns: "string") { call in
          let tokenizer = try call.receiver(as: Tokenizer.self)
          guard let list = try call.table("ids").integers() else { throw call.invalid("ids must be integers") }
          return [.string(try tokenizer.decode(try self.tokenIDs(list, tokenizer.vocabularySize)))]
        },
      ])
  }

  var batchClass: NativeClass {
    func number(_ name: String, _ doc: String, _ get: @escaping (Batch) -> Int) -> NativeProperty {
      NativeProperty(name, "integer", doc) { _, object in
        .integer((object as? BatchObject).map { get($0.batch) } ?? 0)
      }
    }
    return NativeClass(
      "Batch", "Sequences laid end to end; each attends to itself only.",
      properties: [
        number("rows", "number of sequences") { $0.segments.count - 1 },
        number("length", "tokens of the longest sequence") { $0.longestSequence },
        number("tokens", "tokens in all") { $0.tokenCount },
        number("trained", "targets that count in the loss") { $0.trainedTokenCount },
      ], methods: [])
  }

  func memoryTable(_ state: LuaState) -> LuaValue {
    let table = state.newTable()
    table["live"] = .integer(backend.memory.total)
    table["peak"] = .integer(backend.memory.peak)
    table["held"] = .integer(backend.residentByteCount)
    table["rss"] = .integer(ProcessMemory.read("VmRSS"))
    table["peak_rss"] = .integer(ProcessMemory.read("VmHWM"))
    table["limit"] = backend.memory.limit.map { .integer($0) } ?? .nil
    table["program"] = .integer(program.byteCount(backend: backend.residentByteCount))
    for category in MemoryCategory.allCases { table[category.name] = .integer(backend.memory.live(category)) }
    return .table(table)
  }

  /// Names and learning rate factors of the trained tensors of every loaded model.
  var parameterNames: [ObjectIdentifier: (name: String, factor: Double)] {
    var names: [ObjectIdentifier: (name: String, factor: Double)] = [:]
    for model in models.compactMap(\.model) {
      for (name, tensor) in model.trainableParameters { names[ObjectIdentifier(tensor)] = (name, 1) }
      for adapter in model.adapters {
        for (name, tensor) in adapter.parameters {
          names[ObjectIdentifier(tensor)] = (name, adapter.learningRateFactor)
        }
      }
    }
    return names
  }

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
                Parameter("quant", .oneOf([.string, .boolean]), optional: true, "\"nf4\", \"fp4\", \"int4\" or false"),
                Parameter("module_quant", .table, optional: true, "name -> type or false, where it differs from quant"),
                Parameter("block", .integer, optional: true, "elements per scale; default 64"),
                Parameter("double_quant", .boolean, optional: true, "quantize the scales; default true"),
                Parameter("compute", .string, optional: true, "\"bf16\" (default) or \"f32\""),
                Parameter("device", .string, optional: true, "\"cpu\""),
                Parameter("stream", .boolean, optional: true, "leave the base on disk and read it layer by layer"),
                Parameter("adapter", .string, optional: true, "PEFT directory"),
                Parameter("smoke", .boolean, optional: true, "a small random model instead"),
                Parameter("header_only", .boolean, optional: true, "read the configuration only"),
              ]), optional: true, "how"),
          ], returns: "Model"
        ) { call in [.object(try self.loadModel(call))] },
        NativeFunction(
          "quantize_checkpoint",
          "Writes a checkpoint in the 4-bit form of bitsandbytes, tensor by tensor, whole or not at all; returns its bytes.",
          [
            Parameter("input", .string, "directory, .gguf file or hub name"),
            Parameter("output", .string, "directory to make"),
            Parameter(
              "options",
              .options([
                Parameter("quant", .string, optional: true, "\"nf4\" (default) or \"fp4\""),
                Parameter("block", .integer, optional: true, "elements per scale; default 64"),
                Parameter("double_quant", .boolean, optional: true, "quantize the scales; default true"),
                Parameter("dtype", .string, optional: true, "of what stays in floating point; default as stored"),
                Parameter("shard_bytes", .integer, optional: true, "most bytes of one file; default 5e9"),
                Parameter("on_module", .function, optional: true, "called with name, modules done, modules in all"),
              ]), optional: true, "how"),
          ], returns: "integer"
        ) { call in [.integer(try self.quantizeCheckpoint(call))] },
        syntheticCheckpointFunction,
        NativeFunction(
          "new_model", "A random model with every parameter trainable.",
          [
            Parameter(
              "options",
              .options([
                Parameter("config", .table, "as config.json"),
                Parameter("tokenizer", .object("Tokenizer"), optional: true, "its tokenizer"),
                Parameter("seed", .integer, optional: true, "of the weights"),
              ]), "what")
          ], returns: "Model"
        ) { call in
          let options = call.options("options")
          let config = try ModelConfig(json: try call.state.json(options["config"], function: "new_model"), path: "config")
          let model = try LanguageModel(
            random: config, seed: UInt64(bitPattern: Int64(options.int("seed") ?? 0)),
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
            Parameter("options", .options([Parameter("vocab_size", .integer, "most tokens")]), "how"),
          ], returns: "Tokenizer"
        ) { call in
          let texts = try call.table("texts").elements.compactMap(\.asString)
          let size = call.options("options").int("vocab_size") ?? 1024
          return [.object(try BPETrainer.train(
            texts: texts, vocabularySize: size, specialTokens: ["<s>", "</s>"], bos: "<s>", eos: "</s>"))]
        },
        NativeFunction(
          "tokenizer.load", "The tokenizer of a directory or GGUF file.", [Parameter("path", .string, "where")],
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
            Parameter("rows", .table, "list of { ids = {…}, labels = {…} }; labels default to ids, -100 is not trained"),
            Parameter(
              "options",
              .options([
                Parameter("denominator", .integer, optional: true, "divides the loss instead of the batch's own count"),
                Parameter("step", .integer, optional: true, "keys the dropout masks"),
                Parameter("micro", .integer, optional: true, "number of the batch inside the step"),
              ]), optional: true, "how"),
          ], returns: "Batch"
        ) { call in [.object(try self.makeBatch(call))] },
        NativeFunction(
          "compare_logits", "Sum over rows of KL(a || b), rows with the same argmax, number of rows.",
          [Parameter("a", .object("Tensor"), "f32 [T, V]"), Parameter("b", .object("Tensor"), "f32 [T, V]")],
          returns: "number, integer, integer"
        ) { call in try self.compareLogits(call) },
      ])
  }

  func remember(_ model: LanguageModel) {
    models.removeAll { $0.model == nil }
    models.append(WeakModel(model))
  }

  private func loadModel(_ call: Call) throws -> LanguageModel {
    let options = call.options("options")
    var load = LoadOptions(
      blockSize: options.int("block") ?? 64, doubleQuantization: options.bool("double_quant") ?? true,
      headerOnly: options.bool("header_only") ?? false, smoke: options.bool("smoke") ?? false)
    if let name = options.string("quant") { load.quantization = try fourBitKind(name, call) }
    for (key, value) in options["module_quant"].asTable?.pairs ?? [] {
      guard let module = key.asString else { throw call.invalid("module_quant needs names of modules as keys") }
      load.moduleQuantization[module] = .some(try value.asString.map { try fourBitKind($0, call) })
    }
    if let name = options.string("compute") {
      guard let dtype = DType(name: name) else { throw call.invalid("compute must be \"bf16\" or \"f32\", got \"\(name)\"") }
      load.computeType = dtype
    }
    if let device = options.string("device"), device != "cpu" { throw call.invalid("device \"\(device)\" is not supported; only \"cpu\" is") }
    load.streams = options.bool("stream")
    load.smokeTokenizer = resourceRoot + "/models/tiny"
    let model = try ModelLoader(backend: backend, options: load).load(try call.string("path"))
    model.seed = seed
    if let adapter = options.string("adapter"), model.isLoaded, !load.smoke { try PEFTFiles.load(adapter, into: model) }
    remember(model)
    return model
  }

  private func quantizeCheckpoint(_ call: Call) throws -> Int {
    let given = call.options("options")
    let options = try checkpointOptions(call)
    let report = given["on_module"].asFunction
    return try CheckpointQuantizer(backend: backend, options: options).convert(
      try call.string("input"), to: try call.string("output")
    ) { name, done, count in
      _ = try report?.call([.string(name), .integer(done), .integer(count)])
    }
  }

  func checkpointOptions(_ call: Call) throws -> CheckpointQuantizer.Options {
    let given = call.options("options")
    var options = CheckpointQuantizer.Options()
    if let name = given.string("quant") { options.kind = try fourBitKind(name, call) }
    options.blockSize = given.int("block") ?? options.blockSize
    options.doubleQuantization = given.bool("double_quant") ?? true
    if let name = given.string("dtype") {
      guard let dtype = DType(name: name), dtype.isFloat else {
        throw call.invalid("dtype must be \"f32\", \"bf16\" or \"f16\", got \"\(name)\"")
      }
      options.denseType = dtype
    }
    options.shardByteCount = max(1, given.int("shard_bytes") ?? options.shardByteCount)
    return options
  }

  private func fourBitKind(_ name: String, _ call: Call) throws -> FourBitKind {
    guard let kind = FourBitKind(rawValue: name) else {
      throw call.invalid("quant must be \"nf4\", \"fp4\", \"int4\" or false, got \"\(name)\"")
    }
    return kind
  }

  private func makeBatch(_ call: Call) throws -> BatchObject {
    let rows = try call.table("rows").elements.map { value -> (ids: [Int32], labels: [Int32]?) in
      guard let row = value.asTable, let ids = row["ids"].asTable?.integers() else {
        throw call.invalid("each row needs a list of integers `ids`")
      }
      for pair in row.pairs {
        let key = pair.key.asString ?? call.state.describe(pair.key)
        guard ["ids", "labels"].contains(key) else {
          throw BindingError.unknownOption(
            function: "batch: a row", option: key, nearest: nearestName(to: key, among: ["ids", "labels"]),
            known: ["ids", "labels"])
        }
      }
      let labels = row["labels"].asTable?.integers()
      if labels == nil, !row["labels"].isNil { throw call.invalid("labels must be integers") }
      guard (labels ?? ids).count == ids.count else { throw call.invalid("labels and ids have different lengths") }
      guard (ids + (labels ?? [])).allSatisfy({ $0 >= -100 && $0 < 1 << 24 }) else {
        throw call.invalid("a token id is out of range")
      }
      return (ids.map { Int32($0) }, labels?.map { Int32($0) })
    }
    let options = call.options("options")
    if let denominator = options.int("denominator"), denominator < 1 {
      throw call.invalid("denominator is \(denominator), expected at least 1")
    }
    let step = options.int("step").map { ($0 &* 4096) &+ (options.int("micro") ?? 0) }
    return BatchObject(try Batch(rows), denominator: options.int("denominator"), dropoutStep: step)
  }

  private func compareLogits(_ call: Call) throws -> [LuaValue] {
    let (a, b) = (try call.object("a", as: Tensor.self), try call.object("b", as: Tensor.self))
    guard a.shape == b.shape, a.rank == 2 else {
      throw TensorError.shapeMismatch(operation: "compare_logits", lhs: a.shape, rhs: b.shape)
    }
    return try GradientMode.disabled {
      let (p, q) = (try softmax(a, logarithm: true), try softmax(b, logarithm: true))
      let terms = try binary(.multiply, try unary(.exp, p), try binary(.subtract, p, q))
      let divergence = try reduce(.sum, terms).item()
      let (x, y) = (try reduce(.argmax, a, axis: 1).integers(), try reduce(.argmax, b, axis: 1).integers())
      return [.number(divergence), .integer(zip(x, y).reduce(0) { $0 + ($1.0 == $1.1 ? 1 : 0) }), .integer(x.count)]
    }
  }
}

/// A model that does not live longer because it is known by name.
final class WeakModel {
  weak var model: LanguageModel?
  init(_ model: LanguageModel) { self.model = model }
}
