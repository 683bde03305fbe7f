import LuaRuntime
import Models
import Tensors
import Training

extension MergedWeights: LuaObject {
  package static var luaClassName: String { "MergedWeights" }
}

extension Engine {
  /// Weights with the adapters in them, beside the model.
  var mergedClass: NativeClass {
    NativeClass(
      "MergedWeights", "The weights of a model with its adapters added into them; the model keeps its own.",
      properties: [
        NativeProperty("target", "string", "what the adapters were added to") { _, object in
          .string((object as? MergedWeights)?.target.rawValue ?? "")
        },
        NativeProperty("model", "Model", "the model whose adapters they were") { _, object in
          (object as? MergedWeights).map { .object($0.model) } ?? .nil
        },
        NativeProperty("codes", "integer", "4-bit codes of the adapted matrices; 0 where they are not requantized") {
          _, object in .integer((object as? MergedWeights)?.codes ?? 0)
        },
        NativeProperty("changed_codes", "integer", "how many of them are not those of the base") { _, object in
          .integer((object as? MergedWeights)?.changedCodes ?? 0)
        },
      ],
      methods: [
        NativeFunction(
          "run",
          "Runs a function while the model has these weights and no adapters; returns what it returns. A matrix "
            + "is made each time it is computed with.",
          [Parameter("body", .function, "called without arguments")], returns: "any"
        ) { call in
          let (merged, body) = (try call.receiver(as: MergedWeights.self), try call.closure("body"))
          return try merged.run { try body.call() }
        },
        NativeFunction(
          "save",
          "Writes the merged model as a Hugging Face folder, in its dtype or, requantized, in 4 bits; reads it back as "
            + "model:save does. Warns that transformers cannot read 4-bit experts, where there are some.",
          [Parameter("directory", .string, "path of the folder")],
          errors: "as model:save, and when layers of a requantized model are not in 4 bits"
        ) { call in
          let directory = try self.placeToSave(try call.string("directory"))
          for sentence in try call.receiver(as: MergedWeights.self).save(directory: directory) {
            Warnings.show("merge: " + sentence)
          }
          return []
        },
      ], metamethods: [])
  }

  var mergedWeights: NativeFunction {
    NativeFunction(
      "merged_weights",
      "Adds the adapters into weights that stand beside the model: qlora.merge measures and saves them.",
      [
        Parameter(
          "target", .string, choices: MergedWeights.Target.allCases.map(\.rawValue),
          "the 16-bit weights that were quantized, the 4-bit weights made wide, or those quantized again"),
        Parameter(
          "options",
          .options([
            Parameter(
              "original", .string, optional: true, "where the 16-bit weights are; default the model's own path"),
            Self.storedType,
          ]), optional: true, "the options below"),
      ], returns: "MergedWeights",
      errors: "when there are no wider weights for `original`, or matrices in no form of a 4-bit "
        + "checkpoint for `requantized`: in 16 bits, int4, or several forms; when `requantized` is given a dtype"
    ) { call in
      let name = try call.string("target")
      guard let target = MergedWeights.Target(rawValue: name) else { throw call.invalid("target \(name) is not known") }
      let original = try call.options("options").string("original").map { try self.placeToRead($0) }
      let options = call.options("options")
      if target == .requantized, options.string("dtype") != nil {
        throw call.invalid("dtype is of weights that are not in 4 bits; requantized ones are")
      }
      return [
        .object(
          try MergedWeights(try self.model(call), target, original: original, dtype: Self.storedType(options)))
      ]
    }
  }

  /// How weights of a folder are stored that are not in 4 bits.
  static let storedType = Parameter(
    "dtype", .string, optional: true, choices: ["bf16", "f16", "f32"], "how weights are stored; default bf16")

  static func storedType(_ options: Options) -> DType {
    options.string(storedType.name).flatMap(DType.init(name:)) ?? .bf16
  }

  var planMerge: NativeFunction {
    NativeFunction(
      "plan_merge", "The most bytes that qlora.merge has in memory; recipes use qlora.merge with --plan.",
      [
        Parameter(
          "options",
          .options([
            Parameter("lengths", .table, "tokens of the samples that are computed together"),
            Parameter(
              "original", .string, optional: true, "where the 16-bit weights are; default the model's own path"),
            Self.storedType, Parameter("saves", .boolean, default: "true", "whether a target is written"),
          ]), "the options below")
      ], returns: "integer"
    ) { call in
      let (model, options) = (try self.model(call), call.options("options"))
      guard let lengths = options["lengths"].asTable?.integers(), lengths.allSatisfy({ $0 > 0 }), !lengths.isEmpty
      else {
        throw call.invalid("lengths must be whole numbers above 0")
      }
      try self.checkPass(lengths.count, of: lengths.max() ?? 1, model, call)
      let (tokenizer, samples) = (self.tokenizerByteCount(of: model), model.backend.memory.live(.samples))
      let plan = try MergePlan(
        model, lengths: lengths, targets: MergedWeights.Target.allCases,
        original: try options.string("original").map { try self.placeToRead($0) },
        dtype: Self.storedType(options), saves: options.bool("saves") ?? true,
        on: self.device(of: model).rehearse(model.backend),
        programByteCount: self.programByteCount(for: model) + samples, laterByteCount: tokenizer + samples,
        readBackByteCount: PlanConstants.checksumByteCount + tokenizer)
      return [.integer(plan.peak)]
    }
  }

  var byMatrix: NativeFunction {
    NativeFunction(
      "by_matrix",
      "Runs a function with one matrix of the base in memory at a time, where the base lies in a file, and returns "
        + "what it returns; qlora.merge does it.",
      [Parameter("body", .function, "called without arguments")], returns: "any"
    ) { call in
      let (model, body) = (try self.model(call), try call.closure("body"))
      return try model.byMatrix { try body.call() }
    }
  }

  var compareBatch: NativeFunction {
    let side: ParameterType = .oneOf([.object("Model"), .object("MergedWeights"), .string])
    return NativeFunction(
      "compare_batch",
      "Compares one side with others on each sequence of a batch, in one pass of each side; recipes use "
        + "qlora.eval.compare.",
      [
        Parameter("batch", .object("Batch"), "the sequences"),
        Parameter(
          "a", side, "a model, what model:merged_weights gives, or \"base\": the model of the first other side"),
        Parameter("others", .table, "list of sides; \"base\" is the model of a"),
      ],
      returns: "table[]"
    ) { call in
      let batch = try call.object("batch", as: BatchObject.self)
      let values = try call.table("others").elements
      func side(_ value: LuaValue, beside other: LuaValue?) throws -> ComparedSide {
        if case .object(let object) = value {
          if let model = object as? LanguageModel { return .live(model) }
          if let merged = object as? MergedWeights { return .merged(merged) }
        }
        guard value.asString == "base", let other, other.asString == nil else {
          throw call.invalid("a side is a model, merged weights or \"base\" beside one of them")
        }
        return .base(try side(other, beside: nil).model)
      }
      let a = try side(call["a"], beside: values.first)
      let others = try values.map { try side($0, beside: call["a"]) }
      let found = try self.compute([batch], call) { try a.compared(with: others, on: batch.batch) }
      return [
        .table(
          call.state.list(
            found.map { rows in
              let table = call.state.newTable()
              table["kls"] = .table(call.state.list(rows.map { .number($0.divergence / Double($0.rows)) }))
              table["kl"] = .number(rows.reduce(0) { $0 + $1.divergence })
              table["agreements"] = .integer(rows.reduce(0) { $0 + $1.agreements })
              table["loss_a"] = .number(rows.reduce(0) { $0 + $1.losses.a })
              table["loss_b"] = .number(rows.reduce(0) { $0 + $1.losses.b })
              return .table(table)
            }))
      ]
    }
  }
}
