import CLua
import CLuaTrampoline
import Glibc

/// An error of a Lua program: the message with its position, and the error value when it is not a string. The value
/// belongs to its state, so an error stays on the thread that caught it.
package struct LuaError: Error, CustomStringConvertible, @unchecked Sendable {
  package let message: String
  package let value: LuaValue

  package init(message: String, value: LuaValue = .nil) {
    self.message = message
    self.value = value
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
  let L: OpaquePointer
  private(set) var isOpen = true
  private var bodies: [LuaBody] = []
  /// The text that a Lua program gets of an error of a native function.
  package var wording: (any Error) -> String = { String(describing: $0) }
  /// Swift class name -> C string that lives as long as the state, for pushing objects.
  private var classNames: [String: UnsafeMutablePointer<CChar>] = [:]

  package init?() {
    guard let L = luaL_newstate() else { return nil }
    self.L = L
    luaL_openlibs(L)
    ql_set_context(L, Unmanaged.passUnretained(self).toOpaque())
    ql_set_main(L)
    ql_set_dispatcher { L, number in
      guard let context = ql_context(L) else { return 0 }
      return Unmanaged<LuaState>.fromOpaque(context).takeUnretainedValue().dispatch(on: L!, Int(number))
    }
    ql_set_release { object in Unmanaged<AnyObject>.fromOpaque(object!).release() }
    ql_install_coroutines(L)
  }

  /// Closes the interpreter: finalizers run, objects are released.
  package func close() {
    guard isOpen else { return }
    lua_close(L)
    isOpen = false
    for name in classNames.values { free(name) }
  }

  deinit { close() }

  // MARK: Native functions

  private func dispatch(on L: OpaquePointer, _ number: Int) -> Int32 {
    let count = lua_gettop(L)
    // Values are read from the calling stack and results pushed there, which may be a coroutine's.
    let arguments = count == 0 ? [] : (1...count).map { value(at: $0, on: L) }
    do {
      // The number is an upvalue, which `debug.setupvalue` can change.
      guard bodies.indices.contains(number) else { throw LuaError(message: "no native function \(number)") }
      let results = try bodies[number](self, arguments)
      guard lua_checkstack(L, Int32(results.count + 4)) != 0 else {
        lua_settop(L, 0)
        push("too many results", on: L)
        return QL_RAISE
      }
      for result in results { push(result, on: L) }
      return Int32(results.count)
    } catch let error as LuaError {
      lua_settop(L, 0)
      if error.value.isNil { push(error.message, on: L) } else { push(error.value, on: L) }
      return QL_RETHROW
    } catch {
      lua_settop(L, 0)
      push(wording(error), on: L)
      return QL_RAISE
    }
  }

  /// A Lua function that runs `body`.
  package func function(_ body: @escaping LuaBody) -> LuaValue {
    bodies.append(body)
    ql_pushfunction(L, Int32(bodies.count - 1))
    return .function(LuaFunction(takingTopOf: self))
  }

  package func newTable() -> LuaTable {
    lua_createtable(L, 0, 0)
    return LuaTable(takingTopOf: self)
  }

  /// A list table.
  package func list(_ values: [LuaValue]) -> LuaTable {
    let table = newTable()
    for (index, value) in values.enumerated() { table[index + 1] = value }
    return table
  }

  /// The metatable of a bound class; made on first use.
  package func metatable(_ className: String) -> LuaTable {
    // Pushing an object of the class would make it too; the collector's entry is set there.
    let box = ClassSeed()
    push(box, className: className, on: L)
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
    guard status == LUA_OK else { throw takeError() }
    return LuaFunction(takingTopOf: self)
  }

  /// Calls with a traceback in the message of string errors.
  package func callWithTraceback(_ function: LuaFunction, _ arguments: [LuaValue]) throws -> [LuaValue] {
    guard hasRoom(arguments.count + 5) else { throw LuaError(message: "stack overflow") }
    let base = lua_gettop(L)
    function.push()
    for argument in arguments { push(argument) }
    guard ql_pcall(L, Int32(arguments.count), LUA_MULTRET, 1) == LUA_OK else { throw takeError() }
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
    return string(at: -1, on: L)
  }

  /// Tells the collector of native memory that a new Lua object holds, and how much is live in all.
  package func account(byteCount: Int, live: Int) { ql_account(L, Int64(byteCount), Int64(live)) }

  /// Runs the collector to the end.
  package func collectGarbage() { ql_collect(L) }

  /// The error value on top of the stack, removed.
  func takeError() -> LuaError {
    let error = value(at: -1)
    ql_tostring(L, -1)
    let message = string(at: -1, on: L)
    ql_pop(L, 2)
    if error.asString != nil { return LuaError(message: message) }
    return LuaError(message: message, value: error)
  }

  // MARK: Values

  func hasRoom(_ count: Int) -> Bool { count < 1_000_000 && lua_checkstack(L, Int32(count)) != 0 }

  func pushString(_ text: String) { push(text, on: L) }

  private func push(_ text: String, on L: OpaquePointer) {
    var text = text
    text.withUTF8 { push(UnsafeRawBufferPointer($0), on: L) }
  }

  private func push(_ bytes: UnsafeRawBufferPointer, on L: OpaquePointer) {
    _ = lua_pushlstring(L, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), bytes.count)
  }

  func push(_ value: LuaValue) { push(value, on: L) }

  private func push(_ value: LuaValue, on L: OpaquePointer) {
    switch value {
    case .nil, .closed, .foreign: lua_pushnil(L)
    case .bool(let flag): lua_pushboolean(L, flag ? 1 : 0)
    case .integer(let number): lua_pushinteger(L, lua_Integer(number))
    case .number(let number): lua_pushnumber(L, number)
    case .string(let text): push(text, on: L)
    case .bytes(let bytes): bytes.withUnsafeBytes { push($0, on: L) }
    case .table(let table): ql_pushref(L, table.reference)
    case .function(let function): ql_pushref(L, function.reference)
    case .object(let object): push(object, className: type(of: object).luaClassName, on: L)
    }
  }

  private func push(_ object: AnyObject, className: String, on L: OpaquePointer) {
    let name = classNames[className] ?? strdup(className)!
    classNames[className] = name
    let retained = Unmanaged<AnyObject>.passRetained(object)
    if ql_push_object(L, name, retained.toOpaque()) != LUA_OK {
      retained.release()
    }
  }

  func value(at index: Int32) -> LuaValue { value(at: index, on: L) }

  private func value(at index: Int32, on L: OpaquePointer) -> LuaValue {
    switch lua_type(L, index) {
    case LUA_TNIL, LUA_TNONE: return .nil
    case LUA_TBOOLEAN: return .bool(lua_toboolean(L, index) != 0)
    case LUA_TNUMBER:
      if lua_isinteger(L, index) != 0 { return .integer(Int(lua_tointegerx(L, index, nil))) }
      return .number(lua_tonumberx(L, index, nil))
    case LUA_TSTRING:
      let bytes = bytes(at: index, on: L)
      return String(validating: bytes, as: UTF8.self).map { .string($0) } ?? .bytes(Array(bytes))
    case LUA_TTABLE: return reference(at: index, on: L) { .table(LuaTable(takingTopOf: self)) }
    case LUA_TFUNCTION: return reference(at: index, on: L) { .function(LuaFunction(takingTopOf: self)) }
    case LUA_TUSERDATA:
      guard let box = ql_to_box(L, index) else { return .foreign(typeName: "userdata") }
      guard let raw = box.pointee.object else { return .closed(className: String(cString: box.pointee.class_name)) }
      let object = Unmanaged<AnyObject>.fromOpaque(raw).takeUnretainedValue()
      return (object as? any LuaObject).map { .object($0) } ?? .foreign(typeName: "userdata")
    case let type: return .foreign(typeName: String(cString: lua_typename(L, type)))
    }
  }

  /// Moves a copy of the value to the main stack, where references are taken.
  private func reference(at index: Int32, on L: OpaquePointer, _ make: () -> LuaValue) -> LuaValue {
    guard lua_checkstack(L, 1) != 0, lua_checkstack(self.L, 4) != 0 else { return .nil }
    lua_pushvalue(L, index)
    if L != self.L { lua_xmove(L, self.L, 1) }
    return make()
  }

  private func string(at index: Int32, on L: OpaquePointer) -> String {
    String(decoding: bytes(at: index, on: L), as: UTF8.self)
  }

  /// The bytes of a string, as long as it is on the stack. Not of a number: lua_tolstring would make it a string, under
  /// a traversal.
  private func bytes(at index: Int32, on L: OpaquePointer) -> UnsafeRawBufferPointer {
    var count = 0
    guard let bytes = lua_tolstring(L, index, &count) else { return UnsafeRawBufferPointer(start: nil, count: 0) }
    return UnsafeRawBufferPointer(start: bytes, count: count)
  }
}

extension LuaState {
  /// Ctrl-C handling, safe in a signal handler.
  /// - Returns: how many interrupts nobody has taken yet, this one included.
  @discardableResult
  package static func interrupt() -> Int { Int(ql_interrupt()) }

  /// While polling, the first interrupt is left to `takeInterrupt`.
  package static func setPolling(_ polls: Bool) { ql_set_polling(polls ? 1 : 0) }

  package static func takeInterrupt() -> Bool { ql_take_interrupt() != 0 }

  /// Forgets the interrupts so far: a prompt does before each statement.
  package static func forgetInterrupts() { ql_forget_interrupts() }

  /// Whether an interrupt is about to stop the running code; native functions that take long ask.
  package static var isStopping: Bool { ql_is_stopping() != 0 }

  /// Errors in chunks whose name starts with this are positioned at their caller.
  package static func setLibraryPrefix(_ prefix: String) { ql_set_library_prefix(prefix) }
}
