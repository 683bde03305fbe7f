import Formats
import LuaRuntime
import Models
import Tensors
import Tokenizers

extension Engine {
  /// `synthetic_checkpoint`: models that exist in shape only.
  var syntheticModelFunction: NativeFunction {
    NativeFunction(
      "synthetic_checkpoint",
      "Writes a checkpoint with random weights directly in the 4-bit form of bitsandbytes, whole or "
        + "not at all; returns its bytes. For trying memory and time of a model of that shape; it has learnt nothing.",
      [
        Parameter("output", .string, "directory to make"),
        Parameter(
          "options",
          .options([
            Parameter("config", .table, "sizes and constants, as in config.json"),
            Parameter("tokenizer", .object("Tokenizer"), optional: true, "saved beside it"),
            Parameter("quant", .string, default: "\"nf4\"", choices: FourBitKind.stored.map(\.rawValue), "4-bit type"),
            Parameter("block", .count, default: "64", "elements that share a scale"),
            Parameter("double_quant", .boolean, default: "true", "quantize the scales too"),
            Parameter("shard_bytes", .whole(1...(1 << 60)), default: "5000000000", "most bytes of one file"),
            Parameter("seed", .integer, default: "0", "seed of the weights"),
            Parameter("on_module", .function, optional: true, "called with name, modules done, modules in all"),
          ]), "the options below"),
      ], returns: "integer"
    ) { call in
      let given = call.options("options")
      let spec = try DecoderSpec(json: try call.state.json(given["config"], function: call.function), path: "config")
      var tokenizer: Tokenizer?
      if case .object(let object) = given["tokenizer"] { tokenizer = object as? Tokenizer }
      let report = given["on_module"].asFunction
      let checkpoint = SyntheticModel(
        backend: self.backend, options: try self.checkpointOptions(call),
        seed: UInt64(bitPattern: Int64(given.int("seed") ?? 0)))
      let byteCount = try checkpoint.write(
        spec, tokenizer: tokenizer, to: try self.placeToSave(try call.string("output"))
      ) {
        name, done, count in
        _ = try report?.call([.string(name), .integer(done), .integer(count)])
      }
      return [.integer(byteCount)]
    }
  }
}
