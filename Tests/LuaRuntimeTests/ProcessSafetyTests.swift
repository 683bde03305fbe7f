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

  /// Each question costs a measurement of the process, and each refusal a collection of everything. Lua's table of
  /// strings doubles at 131,072 strings; one of these limits lies where it may not and small strings still fit.
  @Test(arguments: 10...22)
  func aProgramThatGrowsToItsLimitAsksOncePerStride(halves: Int) throws {
    let limit = state.byteCount + (halves << 19)
    var questions = 0
    state.limitMemory { [weak state] growth in
      questions += 1
      return questions < 1000 && growth <= limit - (state?.byteCount ?? 0)
    }
    let ends = try run(
      """
      return pcall(function()
        local rows = {}
        for i = 1, 1e8 do
          if i % 256 == 1 then rows[#rows + 1] = {} end
          rows[#rows][i % 256 + 1] = ("x%d"):format(i)
        end
      end)
      """)
    #expect(ends.first?.asBool == false && questions > 3 && questions < 60, "\(questions)")
  }
}
