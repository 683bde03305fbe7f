import CLua
import CLuaTrampoline

extension LuaState {
  /// Runs `body`. The objects that Lua gets meanwhile are freed afterwards, so that what they hold does not wait for
  /// the collector; a program that kept one finds it freed.
  package func lendingObjects<R>(_ body: () throws -> R) rethrows -> R {
    let before = lent
    let list = newTable()
    lent = (list, 0)
    defer {
      let count = lent?.count ?? 0
      lent = before
      for index in 0..<count { freeObject(at: index + 1, of: list) }
    }
    return try body()
  }

  private func freeObject(at index: Int, of list: LuaTable) {
    guard hasRoom(3) else { return }
    list.push()
    lua_rawgeti(L, -1, lua_Integer(index))
    let box = ql_to_box(L, -1)
    let object = box?.pointee.object
    box?.pointee.object = nil
    ql_pop(L, 2)
    if let object { Unmanaged<AnyObject>.fromOpaque(object).release() }
  }

  /// Notes the object on top of the stack.
  func noteLent() {
    guard let (list, count) = lent, hasRoom(3) else { return }
    list.push()
    lua_pushvalue(L, -2)
    lua_rawseti(L, -2, lua_Integer(count + 1))
    ql_pop(L, 1)
    lent = (list, count + 1)
  }
}
