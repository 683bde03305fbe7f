import Glibc
import LuaRuntime
import Synchronization
import Testing

private final class Counter: LuaObject {
  static let luaClassName = "Counter"
  nonisolated(unsafe) static var live = 0
  init() { Self.live += 1 }
  deinit { Self.live -= 1 }
}

private func run(_ source: String, in state: LuaState, name: String = "=test") throws -> [LuaValue] {
  try state.load(Array(source.utf8), chunkName: name).call()
}

private func message(_ source: String, in state: LuaState) -> String? {
  do { _ = try run(source, in: state, name: "@recipe.lua") } catch let error as LuaError { return error.message } catch
  { return "other" }
  return nil
}

@Suite(.serialized) struct LuaStateTests {
  let state: LuaState
  init() throws { state = try #require(LuaState()) }

  @Test func valuesCrossInBothDirections() throws {
    state.globals["echo"] = state.function { _, arguments in arguments }
    let results = try run(
      "return echo(nil, true, 3, -0.5, 'a\\0b', {1, 2, x = 'y'}, print, math.mininteger, math.huge)", in: state)
    #expect(results.count == 9 && results[0].isNil && results[1].asBool == true && results[2].asInt == 3)
    #expect(results[3].asDouble == -0.5 && results[4].asString == "a\0b")
    let table = try #require(results[5].asTable)
    #expect(table.count == 2 && table[2].asInt == 2 && table["x"].asString == "y" && table.pairs.count == 3)
    #expect(results[7].asInt == Int.min && results[8].asDouble == .infinity)
    #expect(try run("return select('#', echo())", in: state)[0].asInt == 0)
    // More than the stack holds at first.
    #expect(try run("return select('#', echo(table.unpack({}, 1, 5000)))", in: state)[0].asInt == 5000)
  }

  @Test func bytesThatAreNoTextCrossUnchanged() throws {
    var seen: [LuaValue] = []
    state.globals["echo"] = state.function { _, arguments in
      seen = arguments
      return arguments
    }
    let same = try run("local s = 'a\\xff\\0\\xc3' return echo(s) == s, echo('ü') == 'ü'", in: state)
    #expect(same[0].asBool == true && same[1].asBool == true)
    _ = try run("echo('a\\xff\\0')", in: state)
    #expect(seen[0].asBytes == [97, 255, 0] && seen[0].asString == "a\u{FFFD}\0" && seen[0].typeName == "string")
    let table = state.newTable()
    table["x"] = seen[0]
    #expect(table["x"].asBytes == [97, 255, 0])
    #expect(message("error('\\xff', 0)", in: state) == "\u{FFFD}")
  }

  @Test func errorsCarryFileAndLineAndKeepTheirValue() throws {
    struct Wrong: Error, CustomStringConvertible { let description = "seven is wrong" }
    state.globals["fail"] = state.function { _, _ in throw Wrong() }
    #expect(message("local x = 1\n\nfail()", in: state) == "recipe.lua:3: seven is wrong")
    #expect(
      message("local t = nil\nt.x = 1", in: state)?.hasPrefix("recipe.lua:2: attempt to index a nil value") == true)
    #expect(message("x = = 1", in: state)?.hasPrefix("recipe.lua:1: ") == true)
    #expect(message("load('\\27Lua', 'x', 'b')()", in: state) != nil)
    #expect(throws: LuaError.self) { try state.load([27, 76, 117, 97, 84, 0], chunkName: "=x") }
    // An error that is no text comes back as itself, through native frames too.
    state.globals["call"] = state.function { _, arguments in try #require(arguments[0].asFunction).call() }
    for value in ["{code = 7}", "coroutine.create(print)", "io.stdout", "print", "false"] {
      let caught = try run(
        "local e = \(value)\nlocal ok, got = pcall(call, function() error(e) end)\nreturn ok, got == e", in: state)
      #expect(caught[0].asBool == false && caught[1].asBool == true, "\(value)")
    }
    #expect(message("error(setmetatable({}, {__tostring = function() error('again') end}))", in: state) != nil)
    #expect(message("error()", in: state) != nil)
  }

  @Test func callbacksNestOnlyAsDeepAsLuaAllows() throws {
    state.globals["call"] = state.function { _, arguments in try #require(arguments[0].asFunction).call() }
    let text = try #require(message("local function f() return call(f) end\nreturn call(f)", in: state))
    #expect(text.contains("overflow"))
    #expect(message("local function f() return 1 + f() end f()", in: state)?.contains("overflow") == true)
    #expect(
      message("return (('x'):rep(1 << 20)):gsub('.', function() error('deep') end)", in: state)?.contains("deep")
        == true)
    #expect(try run("return 1 + 1", in: state)[0].asInt == 2)
  }

  @Test func coroutinesCallNativeFunctions() throws {
    state.globals["double"] = state.function { _, arguments in [.integer((arguments[0].asInt ?? 0) * 2)] }
    let results = try run(
      """
      local co = coroutine.wrap(function(x) while true do x = coroutine.yield(double(x)) end end)
      return co(1), co(5), select(2, pcall(coroutine.wrap(function() error("inside", 0) end)))
      """, in: state)
    #expect(results[0].asInt == 2 && results[1].asInt == 10 && results[2].asString == "inside")
    state.globals["call"] = state.function { _, arguments in try #require(arguments[0].asFunction).call() }
    #expect(message("coroutine.wrap(function() call(coroutine.yield) end)()", in: state)?.contains("yield") == true)
  }

  @Test func objectsAreReleasedByTheCollectorAndByFree() throws {
    let start = Counter.live
    state.globals["new"] = state.function { _, _ in [.object(Counter())] }
    let methods = state.metatable("Counter")
    methods["free"] = state.freeFunction
    methods["__index"] = .table(methods)
    _ = try run("for i = 1, 100 do local c = new() end\nkept = new()", in: state)
    _ = try run("collectgarbage() collectgarbage()", in: state)
    #expect(Counter.live == start + 1)
    let results = try run("kept:free()\nkept:free()\nreturn kept", in: state)
    #expect(Counter.live == start)
    if case .closed(let name) = results[0] { #expect(name == "Counter") } else { Issue.record("not closed") }
    #expect(message("new().x.y = 1", in: state) != nil)
    // A metatable that a program bends does not confuse the type of an object.
    #expect(message("local m = getmetatable(new())\nif m then m.__gc(setmetatable({}, m)) end", in: state) != "other")
  }

  /// Reading a table makes no Lua object, so no finalizer runs meanwhile, which would change it.
  @Test func finalizersDoNotRunWhileATableIsRead() throws {
    var counts: Set<Int> = []
    state.globals["read"] = state.function { _, arguments in
      counts.insert(arguments[0].asTable?.pairs.count ?? -1)
      return []
    }
    let ran =
      try run(
        """
        local t, ran = {}, 0
        local function empty() ran = ran + 1 for k in pairs(t) do t[k] = nil end end
        collectgarbage('incremental', 100, 1000, 40) -- each step is a whole collection
        for round = 1, 200 do
          collectgarbage('stop')
          for i = 1, 100 do t['k' .. i] = { print, {}, 'text' .. i } end
          setmetatable({}, { __gc = empty })
          collectgarbage('restart')
          read(t)
          local next = {} -- an object: this brings the finalizer
        end
        return ran
        """, in: state)[0].asInt ?? 0
    #expect(counts == [100] && ran > 0)
  }

  @Test func closingReleasesEverythingThatIsLeft() throws {
    let start = Counter.live
    let other = try #require(LuaState())
    other.globals["new"] = other.function { _, _ in [.object(Counter())] }
    _ = try run(
      "a = new()\nsetmetatable({}, {__gc = function() error('in a finalizer') end})\nb = {new(), new()}", in: other)
    #expect(Counter.live == start + 3)
    other.close()
    other.close()
    #expect(Counter.live == start)
  }

  @Test(arguments: [
    "while true do end",
    "coroutine.wrap(function() while true do end end)()",
    "local co = coroutine.wrap(function() while true do coroutine.yield() end end) while true do co() end",
    "repeat until false",
    // Loops in C of Lua's libraries, which no hook sees.
    "return ('a'):rep(300000):find '.-.-.-.-b'",
    "return ('a'):rep(300000):gsub('.-.-.-.-b', '')",
    "return ('a'):rep(300000):gmatch '.*.*.*.*b' ()",
    "return ('%('):rep(1000000):find('%b()%b()')",
    "return ('a'):rep(4000000):find(('a'):rep(2000000) .. 'b', 1, true)",
    // A program sees it as a table that reads as a text.
    """
    local ok, e = pcall(function() while true do end end)
    assert(e.exit_code == 130 and 'at ' .. e == 'at ' .. tostring(e) and tostring(e) == e.message)
    error(e, 0)
    """,
    "table.move({}, 1, 1 << 62, 2)",
    "table.insert(setmetatable({}, { __len = function() return 1 << 62 end }), 1, 0)",
    "table.remove(setmetatable({}, { __len = function() return 1 << 62 end }), 1)",
  ])
  func anInterruptStopsAnyLoop(source: String) throws {
    try expectInterrupt(of: source, in: state)
    _ = LuaState.takeInterrupt()
    #expect(try run("return 1", in: state)[0].asInt == 1)
  }

  @Test func anInterruptTellsNoPlaceInTheLibrary() throws {
    LuaState.setLibraryPrefix("@library/")
    defer { LuaState.setLibraryPrefix("") }
    state.globals["spin"] = try run("return function() while true do end end", in: state, name: "@library/spin.lua")[0]
    #expect(try expectInterrupt(of: "spin()", in: state) == "recipe.lua:1: interrupted")
    _ = LuaState.takeInterrupt()
    #expect(try expectInterrupt(of: "spin()", in: state, name: "@library/command.lua") == "interrupted")
  }

  @Test func theSecondInterruptOfAProgramThatCatchesErrorsIsTold() throws {
    let source = "while true do pcall(function() while true do end end) end"
    #expect(try expectInterrupt(of: source, in: state, times: 2) == "recipe.lua:1: interrupted")
    _ = LuaState.takeInterrupt()
    #expect(try run("return 1", in: state)[0].asInt == 1)
  }

  @Test func aTextIsNoInterruption() throws {
    for source in ["error 'the download was interrupted'", "error('interrupted', 0)", "error { exit_code = 130 }"] {
      let error = #expect(throws: LuaError.self) { try run(source, in: state, name: "@recipe.lua") }
      #expect(error?.isInterruption == false)
    }
  }

  @Test func aNewStateDoesNotPollForTheOneBefore() throws {
    LuaState.setPolling(true)
    LuaState.interrupt()
    let next = try #require(LuaState())
    #expect(!LuaState.takeInterrupt())
    try expectInterrupt(of: "while true do end", in: next)
    next.close()
  }

  /// Interrupts `source` every 0.1 s, so many times, and returns the message. A loop that does not stop would block
  /// every test after it, so it is interrupted again, which nothing holds back, and reported.
  @discardableResult
  private func expectInterrupt(
    of source: String, in state: LuaState, name: String = "@recipe.lua", times: Int = 1
  ) throws -> String? {
    let stopped = Atomic(false)
    let late = Atomic(false)
    let interrupter = Thread {
      for _ in 0..<times {
        usleep(100_000)
        LuaState.interrupt()
      }
      for _ in 0..<1000 where !stopped.load(ordering: .acquiring) { usleep(10_000) }
      guard !stopped.load(ordering: .acquiring) else { return }
      late.store(true, ordering: .releasing)
      LuaState.interrupt()
    }
    let error = #expect(throws: LuaError.self) { try run(source, in: state, name: name) }
    stopped.store(true, ordering: .releasing)
    interrupter.join()
    #expect(error?.isInterruption == true && error?.message.hasSuffix("interrupted") == true)
    let wasLate = late.load(ordering: .acquiring)
    #expect(!wasLate, "the first interrupt was not honoured")
    return error?.message
  }
}

/// A plain thread that can be waited for.
private final class Thread {
  private var handle = pthread_t()
  private final class Body {
    let run: @Sendable () -> Void; init(_ run: @escaping @Sendable () -> Void) { self.run = run }
  }

  init(_ run: @escaping @Sendable () -> Void) {
    let body = Unmanaged.passRetained(Body(run)).toOpaque()
    pthread_create(
      &handle, nil,
      {
        Unmanaged<Body>.fromOpaque($0!).takeRetainedValue().run(); return nil
      }, body)
  }
  func join() { pthread_join(handle, nil) }
}
