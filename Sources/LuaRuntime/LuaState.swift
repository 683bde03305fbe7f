import CLua
import CLuaTrampoline
import Glibc

/// An error of a Lua program: the message with its position, and the error value when it is not a string. The value
/// belongs to its state, so an error stays on the thread that caught it.
package struct LuaError: Error, CustomStringConvertible, @unchecked Sendable {
  package let message: String
  package let value: LuaValue
  /// Whether an interrupt raised it.
  package let isInterruption: Bool

  package init(message: String, value: LuaValue = .nil, isInterruption: Bool = false) {
    self.message = message
    self.value = value
    self.isInterruption = isInterruption
  }

  package var description: String { message }
}

/// A native function of any arity: arguments in, results out.
package typealias LuaBody = (_ state: LuaState, _ arguments: [LuaValue]) throws -> [LuaValue]

/// One Lua interpreter. Not thread-safe.
///
/// Swift functions are reached through the C trampoline, which raises their errors after the Swift frames are gone;
/// Swift calls Lua only through protected calls.
package final class LuaState {
  private let main: OpaquePointer
  /// The thread that called the running native function. What it calls goes on there, so that Lua counts the depth of
  /// the C stack through coroutines.
  private(set) var L: OpaquePointer
  private(set) var isOpen = true
  /// The text that a Lua program gets of an error of a native function.
  package var wording: (any Error) -> String = { String(describing: $0) }
  /// Whether the process may grow by so many bytes; see `limitMemory`.
  var admits: (Int) -> Bool = { _ in true }
  /// Whether a path may be used; see `restrict`.
  var allows: (_ path: String, _ use: LuaFileUse) -> Bool = { _, _ in false }
  /// The objects that Lua got since `lendingObjects` began, and their number; nil outside of it.
  var lent: (list: LuaTable, count: Int)?
  /// Swift class name -> C string that lives as long as the state, for pushing objects.
  private var classNames: [String: UnsafeMutablePointer<CChar>] = [:]

  package init?() {
    ql_set_dispatcher { L, body in
      guard let L, let context = ql_context(L) else { return 0 }
      let body = body.map { Unmanaged<Body>.fromOpaque($0).takeUnretainedValue() }
      return Unmanaged<LuaState>.fromOpaque(context).takeUnretainedValue().dispatch(on: L, body)
    }
    ql_set_release { object in Unmanaged<AnyObject>.fromOpaque(object!).release() }
    guard let main = ql_new_state() else { return nil }
    self.main = main
    L = main
    ql_set_context(main, Unmanaged.passUnretained(self).toOpaque())
    ql_install_calls(main)
    ql_install_libraries(main)
    ql_install_patterns(main)
    ql_install_loops(main)
  }

  /// Closes the interpreter: finalizers run, objects are released.
  package func close() {
    guard isOpen else { return }
    L = main
    ql_close(main)
    isOpen = false
    for name in classNames.values { free(name) }
  }

  deinit { close() }

  // MARK: Native functions

  /// The closure behind a native function, which goes when Lua collects the function.
  private final class Body {
    let run: LuaBody
    init(_ run: @escaping LuaBody) { self.run = run }
  }

  private func dispatch(on thread: OpaquePointer, _ body: Body?) -> Int32 {
    let before = L
    L = thread
    defer { L = before }
    let count = lua_gettop(L)
    let arguments = count == 0 ? [] : (1...count).map { value(at: $0) }
    let status: Int32
    do {
      guard let body else { throw LuaError(message: "this native function is gone with its interpreter") }
      status = try pushed(try body.run(self, arguments))
    } catch let error as LuaError {
      lua_settop(L, 0)
      if error.value.isNil { pushString(error.message) } else { push(error.value) }
      status = QL_RETHROW
    } catch {
      lua_settop(L, 0)
      pushString(wording(error))
      status = QL_RAISE
    }
    // What memory was missing for is not whole.
    guard ql_take_shortage(L) != 0 else { return status }
    lua_settop(L, 0)
    pushString(wording(shortage))
    return QL_RAISE
  }

  private func pushed(_ results: [LuaValue]) throws -> Int32 {
    guard hasRoom(results.count + 4) else { throw LuaError(message: "too many results") }
    for result in results { push(result) }
    return Int32(results.count)
  }

  /// A Lua function that runs `body`.
  package func function(_ body: @escaping LuaBody) -> LuaValue {
    ql_pushfunction(L, Unmanaged.passRetained(Body(body)).toOpaque())
    return .function(LuaFunction(takingTopOf: self))
  }

  package func newTable() -> LuaTable {
    lua_createtable(L, 0, 0)
    return LuaTable(takingTopOf: self)
  }

  /// A list table.
  package func list(_ values: [LuaValue]) -> LuaTable {
    let table = newTable()
    for (index, value) in values.enumerated() where !isShort { table[index + 1] = value }
    return table
  }

  /// The metatable of a bound class; made on first use.
  package func metatable(_ className: String) -> LuaTable {
    // Pushing an object of the class would make it too; the collector's entry is set there.
    let box = ClassSeed()
    push(box, className: className)
    lua_getmetatable(L, -1)
    ql_remove(L, -2)
    return LuaTable(takingTopOf: self)
  }

  private final class ClassSeed {}

  /// The function behind `:free()`: releases what a bound object holds, ahead of the collector.
  package var freeFunction: LuaValue {
    ql_pushfree(L)
    return .function(LuaFunction(takingTopOf: self))
  }

  package var globals: LuaTable {
    ql_pushglobals(L)
    return LuaTable(takingTopOf: self)
  }

  /// Sets the metatable of a table.
  package func setMetatable(_ table: LuaTable, _ metatable: LuaTable) {
    table.push()
    metatable.push()
    lua_setmetatable(L, -2)
    ql_pop(L, 1)
  }

  // MARK: Running code

  /// Compiles text; precompiled chunks are refused.
  /// - Parameters:
  ///   - source: Lua text.
  ///   - chunkName: `@file` or `=name`, for messages.
  /// - Returns: the main function of the chunk, not yet called.
  /// - Throws: `LuaError` with the syntax error.
  package func load(_ source: [UInt8], chunkName: String) throws -> LuaFunction {
    let status = source.withUnsafeBytes { bytes in
      ql_load(L, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), bytes.count, chunkName)
    }
    guard status == LUA_OK else { throw takeError(status) }
    return LuaFunction(takingTopOf: self)
  }

  /// Calls with a traceback in the message of string errors.
  package func callWithTraceback(_ function: LuaFunction, _ arguments: [LuaValue]) throws -> [LuaValue] {
    try call(function, arguments, traceback: true)
  }

  func call(_ function: LuaFunction, _ arguments: [LuaValue], traceback: Bool) throws -> [LuaValue] {
    guard hasRoom(arguments.count + 5) else { throw LuaError(message: "stack overflow") }
    try checkMemory()
    let base = lua_gettop(L)
    function.push()
    for argument in arguments { push(argument) }
    let status = ql_pcall(L, Int32(arguments.count), LUA_MULTRET, traceback ? 1 : 0)
    guard status == LUA_OK else { throw takeError(status) }
    defer { lua_settop(L, base) }
    let count = lua_gettop(L) - base
    return count <= 0 ? [] : (1...count).map { value(at: base + $0) }
  }

  /// Text of any value as `tostring` gives it.
  package func describe(_ value: LuaValue) -> String {
    guard hasRoom(3) else { return value.typeName }
    push(value)
    ql_tostring(L, -1)
    defer { ql_pop(L, 2) }
    return string(at: -1)
  }

  /// Tells the collector of native memory that a new Lua object holds, and how much is live in all.
  package func account(byteCount: Int, live: Int) { ql_account(L, Int64(byteCount), Int64(live)) }

  private static func shown(_ value: LuaValue) -> String {
    if let text = value.asString { return "\"\(text)\"" }
    if let flag = value.asBool { return String(flag) }
    if let number = value.asInt { return String(number) }
    if let number = value.asDouble { return String(number) }
    return "a \(value.typeName)"
  }

  /// What a table that was raised without a text of its own says: its `message`, or its fields that are no tables.
  private static func text(of error: LuaValue) -> String {
    guard let table = error.asTable else { return "an error without a text" }
    if let message = table["message"].asString { return message }
    let fields = table.pairs.compactMap { key, value -> String? in
      guard let name = key.asString ?? key.asInt.map(String.init) else { return nil }
      return "\(name) = \(shown(value))"
    }
    return "an error that is a table, not a text: { \(fields.sorted().joined(separator: ", ")) }"
  }

  /// The error value on top of the stack, removed.
  func takeError(_ status: Int32) -> LuaError {
    let error = value(at: -1)
    let isInterruption = ql_is_interruption(L, -1) != 0
    ql_tostring(L, -1)
    let message = string(at: -1)
    ql_pop(L, 2)
    if status == LUA_ERRMEM {
      let position = String(cString: ql_memory_position(L))
      return LuaError(message: position + wording(shortage))
    }
    if error.asString != nil { return LuaError(message: message) }
    return LuaError(
      message: message.hasPrefix("table: 0x") ? Self.text(of: error) : message, value: error,
      isInterruption: isInterruption)
  }

  // MARK: Values

  func hasRoom(_ count: Int) -> Bool { count < 1_000_000 && lua_checkstack(L, Int32(count)) != 0 }

  func pushString(_ text: String) {
    var text = text
    text.withUTF8 { push(UnsafeRawBufferPointer($0)) }
  }

  private func push(_ bytes: UnsafeRawBufferPointer) {
    _ = lua_pushlstring(L, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), bytes.count)
  }

  func push(_ value: LuaValue) {
    switch value {
    case .nil, .closed: lua_pushnil(L)
    case .foreign(let value): value.push()
    case .bool(let flag): lua_pushboolean(L, flag ? 1 : 0)
    case .integer(let number): lua_pushinteger(L, lua_Integer(number))
    case .number(let number): lua_pushnumber(L, number)
    case .string(let text): pushString(text)
    case .bytes(let bytes): bytes.withUnsafeBytes { push($0) }
    case .table(let table): ql_pushref(L, table.reference)
    case .function(let function): ql_pushref(L, function.reference)
    case .object(let object):
      push(object, className: type(of: object).luaClassName)
      noteLent()
    }
  }

  private func push(_ object: AnyObject, className: String) {
    let name = classNames[className] ?? strdup(className)!
    classNames[className] = name
    ql_push_object(L, name, Unmanaged.passRetained(object).toOpaque())
  }

  func value(at index: Int32) -> LuaValue {
    switch lua_type(L, index) {
    case LUA_TNIL, LUA_TNONE: return .nil
    case LUA_TBOOLEAN: return .bool(lua_toboolean(L, index) != 0)
    case LUA_TNUMBER:
      if lua_isinteger(L, index) != 0 { return .integer(Int(lua_tointegerx(L, index, nil))) }
      return .number(lua_tonumberx(L, index, nil))
    case LUA_TSTRING:
      let bytes = bytes(at: index)
      return String(validating: bytes, as: UTF8.self).map { .string($0) } ?? .bytes(Array(bytes))
    case LUA_TTABLE: return reference(at: index) { .table(LuaTable(takingTopOf: self)) }
    case LUA_TFUNCTION: return reference(at: index) { .function(LuaFunction(takingTopOf: self)) }
    case LUA_TUSERDATA:
      guard let box = ql_to_box(L, index) else { return foreign(at: index) }
      guard let raw = box.pointee.object else { return .closed(className: String(cString: box.pointee.class_name)) }
      let object = Unmanaged<AnyObject>.fromOpaque(raw).takeUnretainedValue()
      return (object as? any LuaObject).map { .object($0) } ?? foreign(at: index)
    default: return foreign(at: index)
    }
  }

  private func foreign(at index: Int32) -> LuaValue {
    let name = String(cString: lua_typename(L, lua_type(L, index)))
    return reference(at: index) { .foreign(LuaForeign(takingTopOf: self, typeName: name)) }
  }

  /// A copy of the value goes where references are taken from.
  private func reference(at index: Int32, _ make: () -> LuaValue) -> LuaValue {
    guard hasRoom(3) else { return .nil }
    lua_pushvalue(L, index)
    return make()
  }

  private func string(at index: Int32) -> String { String(decoding: bytes(at: index), as: UTF8.self) }

  /// The bytes of a string, as long as it is on the stack. Not of a number: lua_tolstring would make it a string, under
  /// a traversal.
  private func bytes(at index: Int32) -> UnsafeRawBufferPointer {
    var count = 0
    guard let bytes = lua_tolstring(L, index, &count) else { return UnsafeRawBufferPointer(start: nil, count: 0) }
    return UnsafeRawBufferPointer(start: bytes, count: count)
  }
}
