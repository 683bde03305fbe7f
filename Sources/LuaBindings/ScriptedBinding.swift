import Adapters
import LuaRuntime
import Models
import Tensors

/// A call of a function of a scripted adapter: what tensors that it makes are made on, its random numbers, and what it
/// must not change.
struct ScriptCall {
  let backend: any Backend
  let stream: (_ index: Int) -> RandomStream
  let constant: Set<ObjectIdentifier>
  var draws = 0

  mutating func nextStream() -> RandomStream {
    draws += 1
    return stream(draws)
  }
}

/// Adapters that are written in Lua.
extension Engine {
  private static let definitionFields = [
    Parameter("parameters", .function, "parameters(module): a table of new f32 tensors by name, which are trained"),
    Parameter(
      "forward", .function,
      "forward(x, base, p, training): the output [T, out] from the input x [T, in], the output of "
        + "the frozen module and the tensors by name"),
    Parameter("source", .string, "Lua text that returns a table of both functions"),
    Parameter(
      "current", .function, optional: true,
      "gives that text anew, with the values that local variables have by now; it is asked before a save"),
    setName,
  ]

  /// Methods of a model that make and read adapters of a definition in Lua.
  var scriptedMethods: [NativeFunction] {
    [
      NativeFunction(
        "attach_module", "Makes adapters of a definition in Lua on the named modules; recipes use add_adapter_module.",
        [
          Parameter("names", .table, "full names of linear modules"),
          Parameter("definition", .options(Self.definitionFields), "the options below"),
        ], returns: "integer", errors: "when the functions make what cannot be used"
      ) { call in
        let model = try self.model(call)
        let names = try call.strings(try call.table("names"), "names")
        let definition = try self.definition(call.options("definition"), call.state)
        model.seed = self.seed
        return [.integer(try model.attach(definition, on: names, set: definition.name))]
      },
      NativeFunction(
        "load_module", "Reads adapters of a definition in Lua; recipes use load_adapter_module.",
        [
          Parameter("directory", .string, "path of the adapter's directory"),
          Parameter(
            "definition",
            .options(Self.definitionFields + [Parameter("trainable", .boolean, default: "false", "train it on")]),
            "the options below"),
        ], returns: "integer", errors: "when the definition is not that of the files"
      ) { call in
        let (model, given) = (try self.model(call), call.options("definition"))
        let definition = try self.definition(given, call.state)
        return [
          .integer(
            try PEFTFiles.load(
              try self.placeToRead(try call.string("directory")), into: model,
              trainable: given.bool("trainable") ?? false, set: definition.name, definition: definition))
        ]
      },
    ]
  }

  private func definition(_ given: Options, _ state: LuaState) throws -> ScriptedDefinition {
    let name = Self.setName(given["name"])
    guard let parameters = given["parameters"].asFunction, let forward = given["forward"].asFunction else {
      throw BindingError.missingOption(function: given.function, option: "forward")
    }
    return ScriptedDefinition(
      name: name, source: given.string("source") ?? "",
      current: given["current"].asFunction.map { current in { try current.call([]).first?.asString } },
      parameters: { [unowned self] module in
        let scope = ScriptCall(
          backend: backend,
          stream: { [seed] in RandomStream(seed: seed, purpose: "script start \($0)", module: module.name) },
          constant: [])
        let what = "scripted adapter '\(name)', parameters on \(module.name)"
        return try running(what, scope, state) {
          try Self.tensors(try parameters.call([.object(module)]).first ?? .nil, what)
        }
      },
      forward: { [unowned self] pass in
        let given = [pass.x, pass.base] + pass.parameters.map(\.tensor)
        let scope = ScriptCall(
          backend: pass.x.backend, stream: pass.stream, constant: Set(given.map { ObjectIdentifier($0.storage) }))
        let what = "scripted adapter '\(name)', forward on \(pass.module)"
        return try running(what, scope, state) {
          let p = state.newTable()
          for (name, tensor) in pass.parameters { p[name] = .object(tensor) }
          let results = try forward.call([.object(pass.x), .object(pass.base), .table(p), .bool(pass.isTraining)])
          guard case .object(let object)? = results.first, let tensor = object as? Tensor else {
            let got = Self.shown(results.first ?? .nil)
            throw BindingError.invalid(function: what, message: "it returned \(got), expected a tensor")
          }
          return tensor
        }
      })
  }

  private static func tensors(_ value: LuaValue, _ what: String) throws -> [(name: String, tensor: Tensor)] {
    guard let table = value.asTable else {
      throw BindingError.invalid(
        function: what, message: "it returned \(shown(value)), expected a table of tensors by name")
    }
    return try table.pairs.map { key, value in
      guard let name = key.asString, case .object(let object) = value, let tensor = object as? Tensor else {
        let name = key.asString ?? key.shown
        throw BindingError.invalid(
          function: what, message: "it returned \(shown(value)) under \(name), expected tensors by name")
      }
      return (name, tensor)
    }
  }

  private static func shown(_ value: LuaValue) -> String { value.isNil ? "nothing" : "a \(value.typeName)" }

  /// Runs a function of the program. Its errors say whose they are; error values that are no text pass as they are.
  private func running<R>(_ what: String, _ scope: ScriptCall, _ state: LuaState, _ body: () throws -> R) throws -> R {
    let before = script
    script = scope
    defer { script = before }
    do {
      return try state.lendingObjects(body)
    } catch let error as LuaError where error.value.isNil {
      throw LuaError(message: "\(what): \(error.message)")
    }
  }
}
