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
    return state.record(
      parameter.type.bounds + [
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
    case .real(.positive): "positive"
    case .real, .element: "number"
    case .whole(let range) where Self.isCount(range): "count"
    case .whole: "integer"
    case .oneOf(let types): types.map(\.kinds).joined(separator: "|")
    default: name
    }
  }

  private static func isCount(_ range: ClosedRange<Int>) -> Bool {
    range.lowerBound == 1 && range.upperBound <= counts.upperBound
  }

  /// What bounds a number, where its kind does not say it: as in stdlib/qlora/strict.lua.
  fileprivate var bounds: [(String, LuaValue)] {
    switch self {
    case .real(.finite), .real(.positive), .whole(Self.counts): []
    case .real(let range):
      [
        (range.includesLower ? "at_least" : "above", range.lower.isFinite ? .number(range.lower) : .nil),
        (range.includesUpper ? "at_most" : "below", range.upper.isFinite ? .number(range.upper) : .nil),
        ("infinite", range.includesUpper && !range.upper.isFinite ? .bool(true) : .nil),
      ]
    case .whole(let range):
      [
        ("at_least", range.lowerBound == .min || Self.isCount(range) ? .nil : .integer(range.lowerBound)),
        ("at_most", [.max, Self.counts.upperBound].contains(range.upperBound) ? .nil : .integer(range.upperBound)),
      ]
    case .element: [("infinite", .bool(true))]
    case .oneOf(let types): types.flatMap(\.bounds)
    default: []
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
