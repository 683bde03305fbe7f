import LuaRuntime
import Models
import Tensors

extension Module: LuaObject {
  public static var luaClassName: String { "Module" }
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
        property("kind", "string", "linear, embedding or norm") { .string($1.kind.rawValue) },
        property("role", "string", "last component of the name") { .string($1.role) },
        property("layer", "integer|nil", "number in the tensor names, from 0") {
          $1.layer.map { .integer($0) } ?? .nil
        },
        property("in_features", "integer", "columns of the weight") { .integer($1.inFeatures) },
        property("out_features", "integer", "rows of the weight") { .integer($1.outFeatures) },
        property("params", "integer", "parameters without the adapter") { .integer($1.parameterCount) },
        property("bytes", "integer", "bytes as loaded, or as it will be") { .integer($1.byteCount) },
        property("dtype", "string|nil", "of the weight; nil before loading") {
          ($1.weight?.dtype.name ?? $1.quantized?.kind.rawValue).map { .string($0) } ?? .nil
        },
        property("quant", "string|nil", "4-bit type, as loaded or as it will be") {
          ($1.quantization?.rawValue).map { .string($0) } ?? .nil
        },
        property("lora", "table|nil", "rank, alpha, dropout, a and b of its adapter") { state, module in
          guard let adapter = module.adapter else { return .nil }
          let table = state.newTable()
          table["rank"] = .integer(adapter.rank)
          table["alpha"] = .number(adapter.alpha)
          table["dropout"] = .number(adapter.dropout)
          table["a"] = .object(adapter.a)
          table["b"] = .object(adapter.b)
          return .table(table)
        },
      ],
      methods: [
        NativeFunction("weight", "The weight as f32, dequantized when needed.", returns: "Tensor") { call in
          let module = try call.receiver(as: Module.self)
          if let quantized = module.quantized { return [self.value(try quantized.dequantized(), call.state)] }
          guard let weight = module.weight else { throw ModelError.notLoaded(module: module.name) }
          return [self.value(try weight.converted(to: .f32), call.state)]
        }
      ])
  }
}
