import CLua
import CLuaTrampoline

/// A Swift object that Lua programs can hold; bound under a class name.
package protocol LuaObject: AnyObject {
  static var luaClassName: String { get }
}

/// A Lua value on the Swift side. Tables and functions are references that stay alive while the Swift value does.
package enum LuaValue {
  case `nil`
  case bool(Bool)
  case integer(Int)
  case number(Double)
  case string(String)
  /// A string whose bytes are no UTF-8.
  case bytes([UInt8])
  case table(LuaTable)
  case function(LuaFunction)
  case object(any LuaObject)
  /// A bound object whose memory was freed.
  case closed(className: String)
  /// A thread, light userdata or userdata of another library.
  case foreign(LuaForeign)

  /// The type as Lua names it, or the class of a bound object.
  package var typeName: String {
    switch self {
    case .nil: "nil"
    case .bool: "boolean"
    case .integer, .number: "number"
    case .string, .bytes: "string"
    case .table: "table"
    case .function: "function"
    case .object(let object): type(of: object).luaClassName
    case .closed(let name): "freed \(name)"
    case .foreign(let value): value.typeName
    }
  }

  package var isNil: Bool { if case .nil = self { true } else { false } }

  /// A number without fraction, as an integer.
  package var asInt: Int? {
    switch self {
    case .integer(let value): value
    case .number(let value): Int(exactly: value)
    default: nil
    }
  }

  package var asDouble: Double? {
    switch self {
    case .integer(let value): Double(value)
    case .number(let value): value
    default: nil
    }
  }

  /// A string as text; U+FFFD stands where its bytes are no UTF-8.
  package var asString: String? {
    switch self {
    case .string(let text): text
    case .bytes(let bytes): String(decoding: bytes, as: UTF8.self)
    default: nil
    }
  }

  /// A string as it is in Lua.
  package var asBytes: [UInt8]? {
    switch self {
    case .string(let text): Array(text.utf8)
    case .bytes(let bytes): bytes
    default: nil
    }
  }

  package var asBool: Bool? { if case .bool(let value) = self { value } else { nil } }
  package var asTable: LuaTable? { if case .table(let value) = self { value } else { nil } }
  package var asFunction: LuaFunction? { if case .function(let value) = self { value } else { nil } }
}

/// Keeps a Lua value alive from Swift.
package class LuaReference {
  package let state: LuaState
  let reference: Int32

  /// Takes the value on top of the stack.
  init(takingTopOf state: LuaState) {
    self.state = state
    reference = ql_ref(state.L)
  }

  deinit { if state.isOpen { ql_unref(state.L, reference) } }

  func push() { ql_pushref(state.L, reference) }
}

/// A value that Swift only hands on.
package final class LuaForeign: LuaReference {
  let typeName: String

  init(takingTopOf state: LuaState, typeName: String) {
    self.typeName = typeName
    super.init(takingTopOf: state)
  }
}

/// A table; access is raw, so that no metamethod can raise through Swift.
package final class LuaTable: LuaReference {
  package subscript(key: String) -> LuaValue {
    get {
      guard state.hasRoom(3) else { return .nil }
      push()
      state.pushString(key)
      lua_rawget(state.L, -2)
      defer { ql_pop(state.L, 2) }
      return state.value(at: -1)
    }
    set {
      guard state.hasRoom(4), !state.isShort else { return }
      push()
      state.pushString(key)
      state.push(newValue)
      lua_rawset(state.L, -3)
      ql_pop(state.L, 1)
    }
  }

  package subscript(index: Int) -> LuaValue {
    get {
      guard state.hasRoom(3) else { return .nil }
      push()
      lua_rawgeti(state.L, -1, lua_Integer(index))
      defer { ql_pop(state.L, 2) }
      return state.value(at: -1)
    }
    set {
      guard state.hasRoom(3), !state.isShort else { return }
      push()
      state.push(newValue)
      lua_rawseti(state.L, -2, lua_Integer(index))
      ql_pop(state.L, 1)
    }
  }

  /// The raw length (border).
  package var count: Int {
    guard state.hasRoom(2) else { return 0 }
    push()
    defer { ql_pop(state.L, 1) }
    return Int(lua_rawlen(state.L, -1))
  }

  /// Elements 1...count.
  package var elements: [LuaValue] {
    let count = count
    guard hasRoom(for: count, of: LuaValue.self) else { return [] }
    return (0..<count).map { self[$0 + 1] }
  }

  /// Whether it has no other keys than 1...count, or is empty.
  package var isList: Bool {
    guard state.hasRoom(5) else { return false }
    var keys = 0
    push()
    let count = Int(lua_rawlen(state.L, -1))
    lua_pushnil(state.L)
    while lua_next(state.L, -2) != 0 {
      keys += 1
      ql_pop(state.L, 1)
    }
    ql_pop(state.L, 1)
    return keys == count
  }

  /// Asks for the memory of a long Swift array; without it the native function ends in an error.
  /// The border of a table with holes may be any integer.
  private func hasRoom<Element>(for count: Int, of type: Element.Type) -> Bool {
    count < 10_000 || state.reserves(min(count, 1 << 48) * MemoryLayout<Element>.stride)
  }

  /// All pairs in Lua's order.
  package var pairs: [(key: LuaValue, value: LuaValue)] {
    guard state.hasRoom(5) else { return [] }
    // A finalizer may change the table, which would end the traversal in an error over Swift's frames. None runs: the
    // collector moves when Lua makes an object, and nothing here does. To stop and restart it would cost a step of its
    // work each time, a hundred times what reading a few options takes.
    var found: [(LuaValue, LuaValue)] = []
    push()
    lua_pushnil(state.L)
    while lua_next(state.L, -2) != 0 {
      found.append((state.value(at: -2), state.value(at: -1)))
      ql_pop(state.L, 1)
    }
    ql_pop(state.L, 1)
    return found
  }

  /// The integers 1...count of a list, without a Swift value each; nil when an element is not an integer.
  package func integers() -> [Int]? {
    guard state.hasRoom(3) else { return nil }
    push()
    defer { ql_pop(state.L, 1) }
    let count = Int(lua_rawlen(state.L, -1))
    guard hasRoom(for: count, of: Int.self) else { return nil }
    var result = [Int]()
    result.reserveCapacity(count)
    for index in 0..<count {
      lua_rawgeti(state.L, -1, lua_Integer(index + 1))
      var isInteger: Int32 = 0
      let value = lua_tointegerx(state.L, -1, &isInteger)
      let isNumber = lua_type(state.L, -1) == LUA_TNUMBER
      ql_pop(state.L, 1)
      guard isInteger != 0, isNumber else { return nil }
      result.append(Int(value))
    }
    return result
  }
}

package final class LuaFunction: LuaReference {
  /// Calls the function; errors of the callee are thrown.
  @discardableResult
  package func call(_ arguments: [LuaValue] = []) throws -> [LuaValue] {
    try state.call(self, arguments, traceback: false)
  }
}
