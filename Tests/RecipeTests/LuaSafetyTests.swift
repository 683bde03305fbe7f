import Foundation
import Testing

/// What a program does to the interpreter ends in an error of the program, never in the end of the process.
@Suite(.serialized) struct LuaSafetyTests {
  private func run(_ recipe: String, _ flags: [String] = []) throws -> Program.Outcome {
    let folder = try Program.temporaryDirectory()
    defer { try? FileManager.default.removeItem(at: folder) }
    try recipe.write(to: folder.appendingPathComponent("recipe.lua"), atomically: true, encoding: .utf8)
    return try Program.run(flags + ["recipe.lua"], in: folder)
  }

  /// Signals the program once when it has said that it is ready.
  private func interrupt(_ recipe: String, after seconds: Double = 0.3) throws -> (code: Int32, isSignal: Bool) {
    let folder = try Program.temporaryDirectory()
    defer { try? FileManager.default.removeItem(at: folder) }
    try recipe.write(to: folder.appendingPathComponent("recipe.lua"), atomically: true, encoding: .utf8)
    let process = Program.process(["recipe.lua"], in: folder)
    let out = Pipe()
    process.standardOutput = out
    process.standardError = FileHandle.nullDevice
    // The threads of the test library block signals, which a program inherits.
    var (none, before) = (sigset_t(), sigset_t())
    sigemptyset(&none)
    pthread_sigmask(SIG_SETMASK, &none, &before)
    try process.run()
    pthread_sigmask(SIG_SETMASK, &before, nil)
    _ = out.fileHandleForReading.availableData
    usleep(useconds_t(seconds * 1e6))
    kill(process.processIdentifier, SIGINT)
    let deadline = Date().addingTimeInterval(30)
    while process.isRunning, Date() < deadline { usleep(10_000) }
    if process.isRunning { kill(process.processIdentifier, SIGKILL) }
    process.waitUntilExit()
    return (process.terminationStatus, process.terminationReason == .uncaughtSignal)
  }

  @Test(arguments: [
    "local q = require 'qlora' local x = q.randn(1000, 100) print 'ready' while true do x:totable() end",
    """
    local q = require 'qlora'
    local lines = {}
    for i = 1, 20000 do lines[i] = '{"a":"' .. ('x'):rep(200) .. '","b":[1,2,{"c":3}]}' end
    q.native.write_file('d.jsonl', table.concat(lines, '\\n'))
    print 'ready'
    while true do q.native.read_records 'd.jsonl' end
    """,
    "local q = require 'qlora' print 'ready' while true do q.native.classes() q.native.members 'Tensor' end",
    """
    local q = require 'qlora'
    local x = q.randn(300, 300)
    print 'ready'
    coroutine.wrap(function() while true do x:totable() end end)()
    """,
    """
    local q = require 'qlora'
    local d = q.native.open_database(':memory:', { create = true })
    print 'ready'
    d:query 'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n'
    """,
    // A minute and more on two cores.
    "local q = require 'qlora' local x = q.ones(16000, 16000) print 'ready' x:matmul(x)",
    "print 'ready' return ('a'):rep(300000):find '.-.-.-.-b'",
  ])
  func oneInterruptWhileNativesWorkIsAnError(recipe: String) throws {
    let end = try interrupt(recipe)
    #expect(!end.isSignal && end.code == 130, "\(end)\n\(recipe)")
  }

  @Test func aProtectedCallThatFailsIsNeverAValue() throws {
    let outcome = try run(
      """
      local n = require 'qlora.native'
      local deepest, wrong, refused = 0, 0, 0
      local function down(d)
        deepest = d
        for _, f in ipairs { n.tensor, n.zeros } do
          local ok, r = pcall(f, { 1, 2 })
          if ok and type(r) ~= 'userdata' then wrong = wrong + 1 end
          if not ok then refused = refused + 1 end
        end
        return (('x'):gsub('x', function() down(d + 1) end))
      end
      local ok, why = pcall(down, 1)
      print(ok, wrong, deepest > 100, why:match 'C stack overflow')
      """)
    #expect(outcome.output == "false\t0\ttrue\tC stack overflow\n", "\(outcome)")
  }

  @Test func callbacksNestedInCoroutinesKeepToTheStack() throws {
    let outcome = try run(
      """
      local q = require 'qlora'
      local depth = 0
      local function down()
        depth = depth + 1
        local co = coroutine.wrap(function()
          q.optim = q.optim
          local t = q.ones(2)
          for _ in pairs { 1 } do table.sort({ 2, 1 }, function(a, b) down() return a < b end) end
        end)
        co()
      end
      print(pcall(down))
      print(depth < 1000)
      """)
    #expect(outcome.code == 0 && outcome.output.contains("C stack overflow") && outcome.output.hasSuffix("true\n"))
  }

  /// The memory of texts, of tables, of what natives build from tensors and from files, and of a coroutine.
  @Test(arguments: [
    ("local t = {}\nfor i = 1, 10 do\n  t[i] = ('x'):rep(5e7)\nend", 3),
    ("local t = {}\nfor i = 1, 1e8 do\n  t[i] = { i }\nend", 3),
    ("local x, t = require 'qlora'.zeros(1000, 1000), {}\n\nfor i = 1, 100 do\n  t[i] = x:totable()\nend", 4),
    ("local s = ''\nfor i = 1, 40 do\n  s = s .. s .. 'xxxxxxxx'\nend", 3),
    ("local t = {}\ncoroutine.wrap(function()\n  for i = 1, 1e8 do t[i] = 'x' .. i end\nend)()", 2),
  ])
  func memoryOfLuaIsCountedAndItsLineNamed(recipe: String, line: Int) throws {
    let outcome = try run(recipe, ["--memory", "150MB"])
    #expect(outcome.code == 1, "\(outcome)")
    #expect(outcome.errors.contains("recipe.lua:\(line): not enough memory for Lua"), "\(outcome.errors)")
    #expect(recipe.contains("coroutine") || outcome.errors.contains("for Lua, which wants "), "\(outcome.errors)")
  }

  @Test func memoryThatWasMissingCanBeCaughtAndGivenBack() throws {
    let outcome = try run(
      """
      local ok, why = pcall(function() local t = {} for i = 1, 100 do t[i] = ('x'):rep(2e7) .. i end end)
      collectgarbage()
      local after = #('y'):rep(3e7)
      local peak
      for l in io.lines '/proc/self/status' do peak = peak or l:match 'VmHWM:%s*(%d+)' end
      print(ok, why, after, tonumber(peak) < 200000)
      """, ["--memory", "150MB"])
    #expect(outcome.output.hasPrefix("false\t") && outcome.output.hasSuffix("30000000\ttrue\n"), "\(outcome)")
  }

  /// Each ends with "survived".
  @Test(arguments: [
    """
    local f = string.dump(function() local a = 1 return a end)
    assert(not load(f)) assert(not load(f, 'x', 'b')) assert(not load(f, 'x', 'bt'))
    assert(not load(function() local g = f f = nil return g end))
    f = string.dump(function() end)
    local file = io.open('chunk', 'wb') file:write(f) file:close()
    assert(not loadfile 'chunk') assert(not pcall(dofile, 'chunk'))
    package.path = './?' assert(not pcall(require, 'chunk'))
    assert(load('return 1 + 1')() == 2 and load('return x', 'c', 't', { x = 3 })() == 3)
    """,
    "assert(not pcall(package.loadlib, 'libc.so.6', 'abort'))",
    "local n = require 'qlora.native' pcall(debug.setupvalue, n.zeros, 1, 999999) assert(n.zeros(2, 2))",
    "assert(not pcall(debug.getregistry))",
    """
    local q = require 'qlora'
    local t = q.randn(2, 2)
    pcall(debug.setmetatable, t, debug.getmetatable(io.stdout))
    assert(not pcall(function() return t:write 'x' end))
    t = nil collectgarbage()
    """,
    """
    local n = require 'qlora.native'
    local _, body = debug.getupvalue(n.zeros, 1)
    local meta = debug.getmetatable(body)
    if meta then meta.__gc(body) end
    pcall(n.zeros, 2, 2)
    local q = require 'qlora'
    pcall(debug.getmetatable(q.ones(2)).__gc, io.stdout)
    """,
    "for i = 1, 3 do for j = -9, 9 do pcall(debug.setlocal, i, j, 7) end end",
  ])
  func precompiledChunksAndTheDebugLibraryDoNotEndTheProcess(recipe: String) throws {
    let outcome = try run(recipe + "\nprint 'survived'")
    #expect(outcome.code == 0 && outcome.output.hasSuffix("survived\n"), "\(outcome)")
  }

  @Test(arguments: [
    "function() end", "function(m) m:find 'q_proj' end", "function(m) for _ in m:modules() do break end end",
    "function(m) local next = m:modules() next() end", "function(m) m:module(m:find('q_proj')[1].name) end",
    "function(m) m:add_lora { select = { 'q_proj' }, rank = 2, quiet = true } end",
  ])
  func aModelWhoseModulesWereListedIsFreed(use: String) throws {
    let outcome = try run(
      """
      local q = require 'qlora'
      local use = \(use)
      local function live(times)
        for _ = 1, times do
          do use(q.load(q.resource 'models/tiny', { quant = 'nf4' })) end
          collectgarbage() collectgarbage()
        end
        return q.memory().weights
      end
      local once = live(1)
      print(live(5) <= once)
      """)
    #expect(outcome.output == "true\n", "\(outcome)")
  }
}
