import Adapters
import LuaRuntime
import Models
import Tensors

extension Module: LuaObject {
  package static var luaClassName: String { "Module" }
}

extension Engine {
  var moduleClass: NativeClass {
    func property(_ name: String, _ type: String, _ doc: String, _ get: @escaping (LuaState, Module) -> LuaValue)
      -> NativeProperty
    {
      NativeProperty(name, type, doc) { state, object in (object as? Module).map { get(state, $0) } ?? .nil }
    }
    return NativeClass(
      "Module", "A module of the model tree.",
      properties: [
        property("name", "string", "full dotted name") { .string($1.name) },
        property("kind", "string", "linear, embedding, norm, convolution or vector") { .string($1.kind.rawValue) },
        property("role", "string", "last component of the name") { .string($1.role) },
        property("layer", "integer|nil", "number in the tensor names, from 0") {
          $1.layer.map { .integer($0) } ?? .nil
        },
        property("in_features", "integer", "columns of the weight") { .integer($1.inFeatures) },
        property("out_features", "integer", "rows of the weight") { .integer($1.outFeatures) },
        property("params", "integer", "parameters without the adapter") { .integer($1.parameterCount) },
        property("bytes", "integer", "bytes as loaded, or as it will be") { .integer($1.byteCount) },
        property("dtype", "string|nil", "of the weight; nil before loading") {
          ($1.weight?.dtype.name ?? ($1.isLoaded ? $1.storedForm : nil)).map { .string($0) } ?? .nil
        },
        property("quant", "string|nil", "4-bit type, or block format of a kept weight, as loaded or as it will be") {
          $1.storedForm.map { .string($0) } ?? .nil
        },
        property(
          "adapter", "table|nil",
          "of the first adapter in use: kind (\"lora\"), its settings (rank, alpha, dropout), parameters by PEFT's "
            + "name; a and b of a low-rank branch, ids of trained tokens"
        ) { state, module in
          guard let adapter = module.adapter else { return .nil }
          let (table, parameters) = (state.newTable(), state.newTable())
          table["kind"] = .string(adapter.kind)
          for (name, value) in adapter.method.settings { table[name] = state.value(value) }
          for (name, tensor, _) in adapter.parameters where !tensor.isElsewhere {
            parameters[String(name.dropFirst(module.name.count + 1))] = .object(tensor)
          }
          table["parameters"] = .table(parameters)
          if let rows = adapter.method as? TrainedTokens {
            table["ids"] = .table(state.list(rows.tokens.map { .integer(Int($0)) }))
          }
          if let branch = adapter.lowRank, !branch.a.isElsewhere {
            table["a"] = .object(branch.a)
            table["b"] = .object(branch.b)
          }
          return .table(table)
        },
      ],
      methods: [
        NativeFunction("weight", "The weight as f32, dequantized when needed.", returns: "Tensor") { call in
          let module = try call.receiver(as: Module.self)
          return [self.value(try module.denseWeight(), call.state)]
        }
      ])
  }
}
