import LuaRuntime

/// The declarations as Lua tables: checks, help, completion, reference and annotations of the library read these.
extension Engine {
  var referenceModule: NativeModule {
    NativeModule(
      "The declarations.",
      [
        NativeFunction(
          "declarations",
          "Every native function and class as it is declared: { modules = { { doc, functions } }, classes = { { name, "
            + "doc, properties, methods } } }.",
          returns: "table", example: "return qlora.native.declarations().classes[1].name"
        ) { call in [self.declarations(call.state)] }
      ])
  }

  private func declarations(_ state: LuaState) -> LuaValue {
    let modules = modules.map { module in
      state.record([
        ("doc", .string(module.doc)), ("functions", state.records(module.functions) { self.record($0, state) }),
      ])
    }
    let classes = classes.map { declared in
      state.record([
        ("name", .string(declared.name)), ("doc", .string(declared.doc)),
        (
          "properties",
          state.records(declared.properties) {
            state.record([
              ("name", .string($0.name)), ("type", .string($0.type)), ("doc", .string($0.doc)),
              ("writable", .bool($0.set != nil)),
            ])
          }
        ),
        ("methods", state.records(declared.methods + [freeMethod]) { self.record($0, state) }),
      ])
    }
    return state.record([("modules", .table(state.list(modules))), ("classes", .table(state.list(classes)))])
  }

  /// Every class has it; `LuaState.install` adds it.
  private var freeMethod: NativeFunction {
    NativeFunction("free", "Releases what the object holds at once, ahead of the collector.") { _ in [] }
  }

  private func record(_ function: NativeFunction, _ state: LuaState) -> LuaValue {
    state.record([
      ("name", .string(function.name)), ("doc", .string(function.doc)),
      ("parameters", state.records(function.parameters) { self.record($0, state) }),
      ("returns", .string(function.returns)), ("errors", .string(function.errors)),
      ("example", function.example.map { .string($0) } ?? .nil),
    ])
  }

  private func record(_ parameter: Parameter, _ state: LuaState) -> LuaValue {
    var (fields, isList) = (LuaValue.nil, false)
    switch parameter.type {
    case .options(let declared): fields = state.records(declared) { record($0, state) }
    case .rows(let declared): (fields, isList) = (state.records(declared) { record($0, state) }, true)
    default: break
    }
    return state.record([
      ("name", .string(parameter.name)), ("kinds", .string(parameter.type.kinds)),
      ("optional", .bool(parameter.isOptional)), ("doc", .string(parameter.doc)),
      ("initial", parameter.initial.map { .string($0) } ?? .nil),
      ("choices", parameter.choices.isEmpty ? .nil : .table(state.list(parameter.choices.map { .string($0) }))),
      ("fields", fields), ("is_list", .bool(isList)),
    ])
  }
}

extension ParameterType {
  /// The kinds by which the library's own options are checked (stdlib/qlora/strict.lua), joined by "|".
  fileprivate var kinds: String {
    switch self {
    case .count: "count"
    case .positive: "positive"
    case .oneOf(let types): types.map(\.kinds).joined(separator: "|")
    default: name
    }
  }
}

extension LuaState {
  fileprivate func record(_ fields: [(String, LuaValue)]) -> LuaValue {
    let table = newTable()
    for (name, value) in fields { table[name] = value }
    return .table(table)
  }

  fileprivate func records<Element>(_ elements: [Element], _ make: (Element) -> LuaValue) -> LuaValue {
    .table(list(elements.map(make)))
  }
}
