import Formats
import LuaRuntime
import Synchronization

/// A checked call of a native function: arguments by name.
package struct Call {
  package let state: LuaState
  package let function: String
  let parameters: [Parameter]
  /// Arguments after self.
  package let arguments: [LuaValue]
  let receiver: (any LuaObject)?

  /// The object before the colon.
  package func receiver<Object>(as type: Object.Type) throws -> Object {
    guard let object = receiver as? Object else {
      throw BindingError.badSelf(method: function, className: "\(Object.self)", got: "nil")
    }
    return object
  }

  /// The argument of a declared name; nil where it was left out. For another name see `Undeclared`.
  package subscript(_ name: String) -> LuaValue {
    guard let index = parameters.firstIndex(where: { $0.name == name }) else {
      Undeclared.note("\(function) declares no parameter '\(name)'")
      return .nil
    }
    return index < arguments.count ? arguments[index] : .nil
  }

  /// A string that is text.
  package func string(_ name: String) throws -> String {
    if let problem = self[name].problemAsText(name) { throw invalid(problem) }
    return try required(name, self[name].asString, "string")
  }
  /// A string as it is, text or not.
  package func bytes(_ name: String) throws -> [UInt8] { try required(name, self[name].asBytes, "string") }
  package func int(_ name: String) throws -> Int { try required(name, self[name].asInt, "integer") }
  package func double(_ name: String) throws -> Double { try required(name, self[name].asDouble, "number") }
  package func table(_ name: String) throws -> LuaTable { try required(name, self[name].asTable, "table") }
  package func closure(_ name: String) throws -> LuaFunction { try required(name, self[name].asFunction, "function") }

  package func object<Object>(_ name: String, as type: Object.Type) throws -> Object {
    guard case .object(let object) = self[name], let typed = object as? Object else {
      throw bad(name, "\(Object.self)")
    }
    return typed
  }

  /// The fields of an options argument; empty when it was left out.
  package func options(_ name: String) -> Options {
    var fields: [Parameter] = []
    if case .options(let declared) = parameters.first(where: { $0.name == name })?.type { fields = declared }
    return Options(function: function, fields: fields, table: self[name].asTable)
  }

  /// The fields of a table inside an argument, such as an element of a list, checked as options are.
  /// - Parameters:
  ///   - table: holds the fields.
  ///   - fields: the declaration.
  ///   - what: whose they are, for messages.
  /// - Returns: the checked fields.
  /// - Throws: `BindingError` naming `what` and the field.
  func options(_ table: LuaTable, _ fields: [Parameter], of what: String) throws -> Options {
    try table.check(fields, function: what)
    return Options(function: what, fields: fields, table: table)
  }

  /// The texts of a list; `what` names it in messages.
  func strings(_ list: LuaTable, _ what: String) throws -> [String] {
    try list.elements.enumerated().map { index, value in
      if let problem = value.problemAsText("\(what)[\(index + 1)]") { throw invalid(problem) }
      guard let text = value.asString else { throw invalid("\(what) must be texts, got a \(value.typeName)") }
      return text
    }
  }

  private func required<Value>(_ name: String, _ value: Value?, _ expected: String) throws -> Value {
    guard let value else { throw bad(name, expected) }
    return value
  }

  func bad(_ name: String, _ expected: String) -> BindingError {
    let number = (parameters.firstIndex { $0.name == name } ?? 0) + 1
    return .badArgument(number: number, function: function, expected: expected, got: self[name].typeName)
  }

  package func invalid(_ message: String) -> BindingError { .invalid(function: function, message: message) }
}

/// The fields of an options table, already checked against the declaration.
package struct Options {
  let function: String
  let fields: [Parameter]
  package let table: LuaTable?

  /// The option of a declared name; nil where it was left out. For another name see `Undeclared`.
  package subscript(_ name: String) -> LuaValue {
    if !fields.contains(where: { $0.name == name }) {
      Undeclared.note("\(function) declares no option '\(name)'")
    }
    return table?[name] ?? .nil
  }

  /// The option of a name that only some of the functions declare that share the code which reads it.
  func shared(_ name: String) -> LuaValue { table?[name] ?? .nil }
  package func string(_ name: String) -> String? { self[name].asString }
  package func int(_ name: String) -> Int? { self[name].asInt }
  package func double(_ name: String) -> Double? { self[name].asDouble }
  package func bool(_ name: String) -> Bool? { self[name].asBool }
}

extension NativeFunction {
  /// Checks the arguments against the declaration and runs the body.
  func run(_ state: LuaState, _ arguments: [LuaValue], className: String?) throws -> [LuaValue] {
    var arguments = arguments
    var receiver: (any LuaObject)?
    if let className {
      let first = arguments.isEmpty ? LuaValue.nil : arguments.removeFirst()
      guard case .object(let object) = first, type(of: object).luaClassName == className else {
        throw BindingError.badSelf(method: name, className: className, got: first.typeName)
      }
      receiver = object
    }
    for (index, parameter) in parameters.enumerated() {
      let value = index < arguments.count ? arguments[index] : .nil
      if value.isNil, parameter.isOptional { continue }
      guard parameter.type.accepts(value) else {
        if let problem = value.problemAsText(parameter.name) {
          throw BindingError.invalid(function: name, message: problem)
        }
        // A number out of its range needs a name; what a class holds is not said by its name.
        let got = value.asDouble == nil ? value.typeName : "\(parameter.name) = \(value.shown)"
        let hint = if case .object = parameter.type { "\(parameter.name) is \(parameter.doc)" } else { "" }
        throw BindingError.badArgument(
          number: index + 1, function: name, expected: parameter.type.expected(insteadOf: value),
          got: index < arguments.count ? got : "no value", hint: hint)
      }
      try parameter.checkChoice(value, function: name)
      if case .options(let fields) = parameter.type, let table = value.asTable {
        try table.check(fields, function: name)
      }
    }
    // Lua drops arguments that nobody takes; a table of options among them would be a silent no-op.
    for index in arguments.indices.dropFirst(parameters.count) {
      if case .table = arguments[index] {
        throw BindingError.tooManyArguments(function: name, taken: parameters.map(\.name), number: index + 1)
      }
    }
    return try body(
      Call(state: state, function: name, parameters: parameters, arguments: arguments, receiver: receiver))
  }
}

extension LuaTable {
  /// - Throws: `unknownOption`, `badOption`, `badChoice` or `missingOption` where the table is not what `fields`
  ///   declare.
  fileprivate func check(_ fields: [Parameter], function: String) throws {
    for (key, value) in pairs {
      guard let name = key.asString, let field = fields.first(where: { $0.name == name }) else {
        let name = key.asString ?? state.describe(key)
        throw BindingError.unknownOption(
          function: function, option: name, nearest: nearestName(to: name, among: fields.map(\.name)),
          known: fields.map(\.name))
      }
      guard field.type.accepts(value) else {
        if let problem = value.problemAsText(name) { throw BindingError.invalid(function: function, message: problem) }
        throw BindingError.badOption(
          function: function, option: name, expected: field.type.expected(insteadOf: value), got: value.shown)
      }
      try field.checkChoice(value, function: function)
      if case .options(let inner) = field.type, let nested = value.asTable {
        try nested.check(inner, function: function)
      }
    }
    for field in fields where !field.isOptional && self[field.name].isNil {
      throw BindingError.missingOption(function: function, option: field.name)
    }
  }
}

extension Parameter {
  /// - Throws: `BindingError.badChoice` for a word that is none of the choices.
  fileprivate func checkChoice(_ value: LuaValue, function: String) throws {
    guard let word = value.asString, !choices.isEmpty, !choices.contains(word) else { return }
    throw BindingError.badChoice(
      function: function, option: name, choices: choices, got: word, nearest: nearestName(to: word, among: choices))
  }
}

extension LuaValue {
  /// What is wrong with a string that is no text, where one is wanted: its bytes would be changed to U+FFFD on the way,
  /// and two paths be one. Nil for anything else.
  func problemAsText(_ name: String) -> String? {
    guard case .bytes(let bytes) = self else { return nil }
    let good = zip(String(decoding: bytes, as: UTF8.self).utf8, bytes).prefix { $0 == $1 }.count
    return "\(name) is no UTF-8 text from its byte \(good + 1) on; convert it, or read the file as what it is"
  }
}

/// Names that a binding read and did not declare. Each is a mistake in the binding: debug builds stop at it, and the
/// test that calls the whole API expects none.
enum Undeclared {
  private static let notes = Mutex<Set<String>>([])

  static var found: Set<String> { notes.withLock { $0 } }

  static func note(_ text: String) {
    notes.withLock { _ = $0.insert(text) }
    assertionFailure(text)
  }
}
