import LuaRuntime
import Models

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
          "run", "Runs a function while the model has these weights and no adapters; returns what it returns.",
          [Parameter("body", .function, "called without arguments")], returns: "any"
        ) { call in
          let (merged, body) = (try call.receiver(as: MergedWeights.self), try call.closure("body"))
          return try merged.run { try body.call() }
        },
        NativeFunction(
          "save",
          "Writes the merged model as a Hugging Face folder, in bf16 or, requantized, in 4 bits; reads it back as "
            + "model:save does.",
          [Parameter("directory", .string, "path of the folder")],
          errors: "as model:save, and when layers of a requantized model are not in 4 bits"
        ) { call in
          let directory = try self.placeToSave(try call.string("directory"))
          try call.receiver(as: MergedWeights.self).save(directory: directory)
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
            Parameter("original", .string, optional: true, "where the 16-bit weights are; default the model's own path")
          ]), optional: true, "the options below"),
      ], returns: "MergedWeights",
      errors: "when there are no wider weights for `original`, or matrices that are not in 4 bits for `requantized`"
    ) { call in
      let name = try call.string("target")
      guard let target = MergedWeights.Target(rawValue: name) else { throw call.invalid("target \(name) is not known") }
      let original = try call.options("options").string("original").map { try self.placeToRead($0) }
      return [.object(try MergedWeights(try self.model(call), target, original: original))]
    }
  }
}
