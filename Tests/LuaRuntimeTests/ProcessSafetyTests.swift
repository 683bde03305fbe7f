import LuaRuntime
import Testing

/// Programs that ended the process once.
@Suite struct ProcessSafetyTests {
  let state: LuaState
  init() throws { state = try #require(LuaState()) }

  private func run(_ source: String) throws -> [LuaValue] { try state.load(Array(source.utf8), chunkName: "=t").call() }

  @Test func closingMethodsThatCloseCoroutinesEndInAnError() throws {
    let results = try run(
      """
      local all, deepest, why = {}, 0, nil
      for i = 1, 20000 do
        all[i] = coroutine.create(function()
          local x <close> = setmetatable({}, { __close = function()
            deepest = i
            local ok, message = pcall(coroutine.close, all[i + 1])
            why = why or not ok and message
          end })
          coroutine.yield()
        end)
        coroutine.resume(all[i])
      end
      coroutine.close(all[1])
      return deepest > 10 and deepest < 20000 and why
      """)
    #expect(results.first?.asString?.contains("C stack overflow") == true)
  }

  @Test func anErrorOfAClosingMethodTakesThePlaceOfTheFirst() throws {
    let results = try run(
      """
      local seen
      local f = coroutine.wrap(function()
        local x <close> = setmetatable({}, { __close = function(_, e) seen = e; error("second", 0) end })
        error("first", 0)
      end)
      local ok, message = pcall(f)
      return seen .. " " .. message:match("%a+$")
      """)
    #expect(results.first?.asString == "first second")
  }

  @Test func aBorderMayBeTheLargestInteger() throws {
    state.limitMemory { $0 < 1 << 40 }
    state.globals["read"] = state.function { _, arguments in
      let table = arguments.first?.asTable
      return [.integer(table?.elements.count ?? -1), .bool(table?.integers() == nil)]
    }
    let made = try run(
      """
      local parts = { "[math.maxinteger] = 1" }
      for i = 0, 62 do parts[#parts + 1] = ("[%d] = 1"):format(1 << i) end
      local t = load("return {" .. table.concat(parts, ",") .. "}")()
      return #t == math.maxinteger, pcall(read, t)
      """)
    #expect(made.count == 3 && made[0].asBool == true && made[1].asBool == false)
  }
}
