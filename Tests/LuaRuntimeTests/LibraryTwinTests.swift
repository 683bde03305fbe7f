import CLua
import LuaRuntime
import Testing

/// The functions of Lua's libraries that this program replaces, against Lua's own in an interpreter without changes.
@Suite struct LibraryTwinTests {
  /// What a program that returns one text gives in Lua itself.
  private func inLua(_ source: String) throws -> String {
    let L = try #require(luaL_newstate())
    defer { lua_close(L) }
    luaL_openlibs(L)
    let status = luaL_loadbufferx(L, source, source.utf8.count, "=t", nil)
    try #require(status == LUA_OK && lua_pcallk(L, 0, 1, 0, 0, nil) == LUA_OK)
    var count = 0
    let bytes = try #require(lua_tolstring(L, -1, &count))
    return bytes.withMemoryRebound(to: UInt8.self, capacity: count) {
      String(decoding: UnsafeBufferPointer(start: $0, count: count), as: UTF8.self)
    }
  }

  private func here(_ source: String) throws -> String {
    let state = try #require(LuaState())
    return try #require(try state.load(Array(source.utf8), chunkName: "=t").call().first?.asString)
  }

  /// `body` makes a text of the random numbers of `pick`; a hash of 20,000 of them, and each that is asked for.
  private func compare(_ body: String) throws {
    let source = """
      local seed = 1
      local function pick(n) seed = (seed * 6364136223846793005 + 1442695040888963407) & ((1 << 63) - 1)
        return (seed >> 33) % n + 1 end
      local function show(...)
        local parts = table.pack(...)
        for i = 1, parts.n do
          local kind = type(parts[i])
          parts[i] = kind == "table" and kind or kind .. ":" .. tostring(parts[i])
        end
        return table.concat(parts, "|")
      end
      \(body)
      local all, errors = {}, 0
      for i = 1, 20000 do
        local text = once()
        if text:match "^boolean:false" then errors = errors + 1 end
        all[i] = text
      end
      return ("%d errors\\n"):format(errors) .. table.concat(all, "\\n")
      """
    let (theirs, ours) = (try inLua(source), try here(source))
    let lines = zip(theirs.split(separator: "\n"), ours.split(separator: "\n"))
    for (theirs, ours) in lines where theirs != ours {
      Issue.record("Lua: \(theirs), here: \(ours)")
      return
    }
    #expect(theirs == ours)
    #expect(!theirs.hasPrefix("0 errors"))
  }

  @Test func patternFunctionsEqualLuas() throws {
    try compare(
      #"""
      local pieces = { "a", "b", ".", "%a", "%d", "%s", "%w", "%A", "%W", "%p", "%x", "%z", "[ab]", "[^ab]", "[a-c1-3]",
        "[%d%s]", "[]]", "[^]a]", "[a-]", "[%]b]", "*", "+", "-", "?", "*", "+", "-", "(", ")", "()", "(a*)", \#
      "(.-)", "%1", "%2", "%b()",
        "%bxy", "%f[%w]", "%f[^a]", "^", "$", "%", "[", "[a", "%b", "%bx", "%f", "%0", "%g", "%u", "%L", "\0", \#
      "[%z]", "é", "%%" }
      local letters = { "a", "b", "c", "1", "2", " ", "(", ")", "x", "y", "A", "%", "]", "-", "\0", "é", "\n", "_" }
      local function join(list, most)
        local parts = {}
        for i = 1, pick(most) - 1 do parts[i] = list[pick(#list)] end
        return table.concat(parts)
      end
      local answers = { a = "<a>", b = 7, c = false, [1] = "one" }
      function once()
        local text, pattern, start = join(letters, 14), join(pieces, 6), pick(9) - 5
        local kind = pick(8)
        if kind == 1 then return show(pcall(string.find, text, pattern, start)) end
        if kind == 2 then return show(pcall(string.find, text, pattern, start, true)) end
        if kind == 3 then return show(pcall(string.match, text, pattern, start)) end
        if kind == 4 then
          return show(pcall(function()
            local found = {}
            for a, b in string.gmatch(text, pattern, start) do found[#found + 1] = show(a, b) end
            return table.concat(found, ",")
          end))
        end
        local most = pick(4) > 1 and pick(4) - 2 or nil
        if kind == 5 then return show(pcall(string.gsub, text, pattern, join({ "%0", "%1", "%2", "%%", "x", "%", \#
      "%a", "" }, 5), most)) end
        if kind == 6 then return show(pcall(string.gsub, text, pattern, answers, most)) end
        if kind == 7 then return show(pcall(string.gsub, text, pattern, \#
      pick(9) > 1 and function(a) return answers[a] end or true, most)) end
        return show(pcall(string.gsub, text, pattern, pick(100), most))
      end
      """#)
  }

  @Test func listFunctionsEqualLuas() throws {
    try compare(
      #"""
      local function list()
        local t = {}
        for i = 1, pick(6) - 1 do t[i] = pick(9) end
        if pick(8) == 1 then return pick(2) == 1 and "text" or setmetatable({}, { __len = function() return 3 end }) end
        return t
      end
      local function all(t)
        local parts = {}
        if type(t) ~= "table" then return tostring(t) end
        for i = -3, 12 do parts[#parts + 1] = tostring(rawget(t, i)) end
        return table.concat(parts, " ")
      end
      local far = { math.maxinteger, math.mininteger, math.maxinteger - 1 }
      local function number() return pick(30) == 1 and far[pick(3)] or pick(9) - 3 end
      function once()
        local t, kind = list(), pick(4)
        if kind == 1 then
          if pick(3) == 1 then return show(pcall(table.insert, t, 7)) .. all(t) end
          return show(pcall(table.insert, t, number(), 7)) .. all(t)
        end
        if kind == 2 then
          if pick(3) == 1 then return show(pcall(table.remove, t)) .. all(t) end
          -- Versions of Lua differ in the number of the argument.
          return show(pcall(table.remove, t, number())):gsub("#%d", "#2") .. all(t)
        end
        if kind == 3 then
          local to = pick(2) == 1 and list() or nil
          local from, last, at = pick(6) - 2, pick(9) - 3, number()
          local ok, result = pcall(table.move, t, from, last, at, to)
          return show(ok, ok and (result == t) or result) .. all(t) .. all(to)
        end
        return show(pcall(string.rep, pick(2) == 1 and "" or "ab", pick(5) - 2, pick(2) == 1 and "-" or nil))
      end
      """#)
  }

  /// All fields but the functions themselves, in a sandbox.
  @Test func getinfoEqualsLuas() throws {
    let source = """
      local function shown(info)
        local fields = {}
        for name, value in pairs(info) do fields[#fields + 1] = name .. " = " .. tostring(value) end
        table.sort(fields)
        return table.concat(fields, ", ")
      end
      local function inner(a, ...)
        local info = debug.getinfo(1, "Slnut")
        return shown(info)
      end
      local function outer() return inner(1) end
      local called, tail = inner(1), outer()
      local of_inner, of_print = debug.getinfo(inner, "Su"), debug.getinfo(print, "t")
      return table.concat({ called, tail, shown(of_inner), shown(of_print) }, "; ")
      """
    let state = try #require(LuaState())
    state.restrict { _, _ in false }
    let ours = try state.load(Array(source.utf8), chunkName: "=t").call().first?.asString
    let theirs = try inLua(source)
    #expect(ours == theirs)
    #expect(theirs.contains("istailcall = true") && theirs.contains("isvararg = true"))
  }

  @Test func aLimitOnInstructionsEndsAPattern() throws {
    let state = try #require(LuaState())
    state.limitInstructions(1_000_000)
    #expect(throws: (any Error).self) {
      try state.load(Array("return ('a'):rep(100000):find '.-.-.-.-b'".utf8), chunkName: "=t").call()
    }
  }
}
