import Formats
import LuaRuntime

extension LuaState {
  /// Installs a class: a metatable whose `__index` knows the declared fields and methods, and the extensions that Lua
  /// adds.
  func install(_ declared: NativeClass) {
    let metatable = metatable(declared.name)
    let methods = newTable()
    for method in declared.methods {
      methods[method.name] = function { state, arguments in
        try method.run(state, arguments, className: declared.name)
      }
    }
    methods["free"] = freeFunction
    metatable["methods"] = .table(methods)
    metatable["__name"] = .string(declared.name)
    metatable["__close"] = freeFunction
    metatable["__metatable"] = .string(declared.name)
    let properties = Dictionary(uniqueKeysWithValues: declared.properties.map { ($0.name, $0) })
    metatable["__index"] = function { state, arguments in
      let key = arguments.count > 1 ? arguments[1] : .nil
      guard let name = key.asString else {
        guard let index = declared.index else {
          throw BindingError.unknownField(className: declared.name, field: state.describe(key), nearest: nil)
        }
        return try index(try call("index", declared.name, state, arguments))
      }
      let method = methods[name]
      if !method.isNil { return [method] }
      guard let property = properties[name] else {
        let names = declared.properties.map(\.name) + methods.pairs.compactMap { $0.key.asString }
        throw BindingError.unknownField(
          className: declared.name, field: name, nearest: nearestName(to: name, among: names))
      }
      let call = try call(name, declared.name, state, arguments)
      return [try property.get(state, try call.receiver(as: (any LuaObject).self))]
    }
    metatable["__newindex"] = function { state, arguments in
      let key = arguments.count > 1 ? arguments[1] : .nil
      let call = try call("index", declared.name, state, arguments)
      guard let name = key.asString else {
        guard let assign = declared.assign else {
          throw BindingError.readOnly(className: declared.name, field: state.describe(key))
        }
        return try assign(call)
      }
      guard let set = properties[name]?.set else {
        throw BindingError.readOnly(className: declared.name, field: name)
      }
      try set(state, try call.receiver(as: (any LuaObject).self), arguments.count > 2 ? arguments[2] : .nil)
      return []
    }
    for method in declared.metamethods {
      metatable[method.name] = function { state, arguments in
        // Operands of arithmetic may come in either order, so these check their own arguments.
        try method.body(
          Call(state: state, function: method.name, parameters: method.parameters, arguments: arguments, receiver: nil))
      }
    }
    if !declared.metamethods.contains(where: { $0.name == "__tostring" }) {
      metatable["__tostring"] = function { _, arguments in
        guard case .object(let object) = arguments.first ?? .nil, let described = object as? any LuaDescribed else {
          return [.string(arguments.first?.typeName ?? declared.name)]
        }
        return [.string(described.luaText)]
      }
    }
    if !declared.metamethods.contains(where: { $0.name == "__eq" }) {
      metatable["__eq"] = function { _, arguments in
        guard arguments.count == 2, case .object(let a) = arguments[0], case .object(let b) = arguments[1] else {
          return [.bool(false)]
        }
        return [.bool(a === b)]
      }
    }
  }

  /// Adds Lua functions to the methods of a class.
  func extend(_ className: String, _ functions: LuaTable) {
    guard let methods = metatable(className)["methods"].asTable else { return }
    for (key, value) in functions.pairs {
      if let name = key.asString, case .function = value { methods[name] = value }
    }
  }

  /// Fills a table with the functions of a module; dotted names go into tables inside.
  func install(_ module: NativeModule, into table: LuaTable) {
    for declared in module.functions {
      var place = table
      let parts = declared.name.split(separator: ".").map(String.init)
      for part in parts.dropLast() {
        if place[part].asTable == nil { place[part] = .table(newTable()) }
        if let inner = place[part].asTable { place = inner }
      }
      place[parts[parts.count - 1]] = function { state, arguments in
        try declared.run(state, arguments, className: nil)
      }
    }
  }
}

private func call(
  _ name: String, _ className: String, _ state: LuaState, _ arguments: [LuaValue]
) throws -> Call {
  guard case .object(let object) = arguments.first ?? .nil, type(of: object).luaClassName == className else {
    throw BindingError.badSelf(method: name, className: className, got: arguments.first?.typeName ?? "no value")
  }
  return Call(
    state: state, function: name, parameters: [], arguments: Array(arguments.dropFirst()), receiver: object)
}
