import Foundation
import Testing

/// A stranger's recipe under `--sandbox`: what it may do, and the ways out that it may not take.
@Suite(.serialized) struct SandboxTests {
  /// A folder that comes from a stranger may hold a link named `runs`.
  @Test func aLinkNamedRunsOpensNothing() throws {
    let (directory, files) = (try Program.temporaryDirectory(), FileManager.default)
    let secret = directory.appendingPathComponent("secret")
    try files.createDirectory(at: secret, withIntermediateDirectories: true)
    try files.createSymbolicLink(atPath: directory.path + "/runs", withDestinationPath: "secret")
    try "print(io.open('runs/x', 'w'))".write(
      to: directory.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
    let outcome = try Program.run(["--sandbox", "r.lua"], in: directory)
    #expect(outcome.output.contains("runs/x: this sandbox does not let it be written"), "\(outcome.output)")
    #expect(try files.contentsOfDirectory(atPath: secret.path).isEmpty)
  }

  /// A folder `work` to start in with the recipe in `work/recipe`, beside a folder `home` with what must stay.
  private struct Place {
    let root: URL
    var work: URL { root.appendingPathComponent("work") }
    var secret: URL { root.appendingPathComponent("home/secret.txt") }

    init() throws {
      root = URL(fileURLWithPath: try Program.temporaryDirectory().path).resolvingSymlinksInPath()
      for folder in [
        "home", "home/data", "home/checkpoint-000002", "work/recipe/sub", "work/recipe/checkpoint-000002",
        "work/runs/linked",
      ] {
        try FileManager.default.createDirectory(
          at: root.appendingPathComponent(folder), withIntermediateDirectories: true)
      }
      try write("SECRET", "home/secret.txt")
      try write("{\"text\": \"SECRET\"}\n", "home/data/records.jsonl")
      try write("return 'SECRET'", "home/module.lua")
      for folder in ["home", "work/recipe"] { try write("{}", "\(folder)/checkpoint-000002/state.json") }
      try FileManager.default.copyItem(
        at: Program.root.appendingPathComponent("models/tiny"), to: root.appendingPathComponent("home/tiny"))
      // Beside it a model is saved file by file.
      try write("mine", "work/runs/linked/notes.txt")
      try write("mine", "work/recipe/own.txt")
      try write("return { two = 2 }", "work/recipe/sub/part.lua")
      let links = [
        "work/recipe/link.txt": "home/secret.txt", "work/recipe/folder": "home", "work/runs/out.txt": "home/secret.txt",
        "work/runs/nowhere": "home/new.txt", "work/runs/home": "home",
        "work/runs/linked/model.safetensors": "home/secret.txt",
      ]
      for (link, target) in links {
        try FileManager.default.createSymbolicLink(
          at: root.appendingPathComponent(link), withDestinationURL: root.appendingPathComponent(target))
      }
      let file = "\(root.path)/home/d.db"
      _ = try Program.run([
        "-e", "require 'qlora'.native.open_database('\(file)', { create = true }):query 'CREATE TABLE t(a)'",
      ])
    }

    func write(_ text: String, _ path: String) throws {
      try text.write(to: root.appendingPathComponent(path), atomically: true, encoding: .utf8)
    }

    /// Everything in `home` and beside the recipe, by name.
    func kept() throws -> [String: Data] {
      try content("home").merging(try content("work/recipe").filter { $0.key != "work/recipe/recipe.lua" }) { $1 }
    }

    private func content(_ place: String) throws -> [String: Data] {
      var found: [String: Data] = [:]
      let folder = root.appendingPathComponent(place)
      for name in try FileManager.default.subpathsOfDirectory(atPath: folder.path) {
        let file = folder.appendingPathComponent(name).path
        found[place + "/" + name] = FileManager.default.contents(atPath: file) ?? Data()
      }
      return found
    }

    func run(_ recipe: String, _ flags: [String] = [], environment: [String: String] = [:]) throws -> Program.Outcome {
      try write(recipe, "work/recipe/recipe.lua")
      return try Program.run(["--sandbox"] + flags + ["recipe/recipe.lua"], in: work, environment: environment)
    }
  }

  /// Ways to read what is outside: each leads there without a sandbox. HOME stands for the folder outside.
  static let reads = [
    "return io.open 'HOME/secret.txt'", "return io.lines 'HOME/secret.txt'", "io.input 'HOME/secret.txt' return 1",
    "return io.open '../home/secret.txt'", "return io.open 'recipe/../../home/secret.txt'",
    "return io.open 'recipe/link.txt'", "return io.open 'recipe/folder/secret.txt'",
    "return io.open '/proc/self/environ'", "return io.open '/proc/self/cwd/../home/secret.txt'",
    "return io.open '/proc/self/root/etc/passwd'", "return io.open '/etc/passwd'", "return io.open '/dev/stdin'",
    "return loadfile 'HOME/module.lua'", "return dofile 'HOME/module.lua'",
    "package.path = 'HOME/?.lua' return require 'module'", "return package.searchpath('secret', 'HOME/?.txt')",
    "return native.read_records 'HOME/data/records.jsonl'", "return native.list_dir('HOME')[1]",
    "return native.exists 'HOME/secret.txt' or nil", "return native.exists '/etc/passwd' or nil",
    "return qlora.load 'HOME/tiny'", "return qlora.load(qlora.resource '../../../../../../../../../..' .. 'HOME/tiny')",
    "return native.read_records(qlora.resource '../../../../../../../../../..' .. 'HOME/data/records.jsonl')",
    "return qlora.tokenizer.load 'HOME/tiny'", "return native.load_tensors 'HOME/tiny/model.safetensors'",
    "return qlora.data.load('HOME/data/records.jsonl', { format = 'completion', tokenizer = tokenizer() })",
    "return native.open_database 'HOME/d.db'", "return db():query \"ATTACH 'HOME/d.db' AS x\"",
  ]

  /// Each is an expression or statements that are to fail or to give nothing.
  private static let others = [
    // Lua's own files
    "return io.open('HOME/secret.txt', 'w')", "return io.open('HOME/new', 'a')",
    "return io.open('HOME/secret.txt', 'r+')", "io.output 'HOME/secret.txt' return 1",
    "return io.open('runs/out.txt', 'w')", "return io.open('runs/nowhere', 'w')",
    "return io.open('runs/home/new', 'w')", "return io.open('recipe/own.txt', 'w')",
    "return io.open 'runs/none/../../../home/secret.txt'", "return os.remove 'HOME/secret.txt'",
    "return os.remove 'runs/home/secret.txt'", "return os.remove 'recipe/own.txt'",
    "return os.remove 'recipe/link.txt'", "return os.rename('recipe/own.txt', 'runs/x')",
    "return os.rename('HOME/secret.txt', 'runs/x')", "return os.rename('runs/home/secret.txt', 'runs/x')",
    "io.open('runs/a', 'w'):close() return os.rename('runs/a', 'HOME/secret.txt')", "return os.tmpname()",
    "return io.tmpfile()",
    // Code from elsewhere
    "package.searchpath = function() return 'HOME/module.lua' end return require 'module'",
    "package.path = 'recipe/folder/?.lua' return require 'module'", "return package.searchers[3]",
    "return package.searchers[4]", "return package.loadlib('libc.so.6', '*')",
    "package.cpath = '/usr/lib/?.so' return require 'c'", "return load(string.dump(function() end))",
    "return load('\\27Lua', 'x', 'b')",
    // Other programs, the environment, the interpreter
    "return os.execute()", "return os.execute 'true'", "return io.popen 'true'", "return os.getenv 'HOME'",
    "os.exit(0)", "return os.setlocale 'C'", "return package.loaded.io.popen 'true'",
    "return package.loaded.os.getenv 'HOME'", "return package.loaded._G.os.execute 'true'",
    "return debug.getregistry()", "return debug.getupvalue(io.open, 1)", "debug.sethook() return 1",
    "return debug.getmetatable('')", "return debug.getinfo(io.open, 'f').func", "return debug.getinfo(1, 'f').func",
    "local x = 1 return debug.getlocal(1, 1)", "return debug.setmetatable(1, {})",
    "return getmetatable(io.stdout).__index", "return getmetatable(io.stdout).__gc",
    "return setmetatable({}, { __gc = function() end })",
    // Natives
    "native.write_file('HOME/secret.txt', 'x') return 1", "native.write_file('runs/out.txt', 'x') return 1",
    "native.write_file('runs/nowhere', 'x') return 1", "native.write_file('recipe/own.txt', 'x') return 1",
    "native.mkdir 'HOME/new' return 1", "native.remove_tree 'HOME/secret.txt' return 1",
    "native.remove_tree 'recipe/sub' return 1", "native.remove_tree 'HOME/data' return 1",
    "native.remove_tree 'runs/home/data' return 1",
    "qlora.load(qlora.resource 'models/tiny'):save 'HOME/model' return 1",
    "qlora.load(qlora.resource 'models/tiny'):save 'runs/home/model' return 1",
    "native.save_tensors('HOME/x.safetensors', { a = qlora.ones(2) }) return 1",
    "native.spill_directory 'HOME' model():checkpointing(true, { offload = 'HOME' }) return 1",
    "native.lock_directory 'recipe' return 1", "model():save 'runs/linked' return 1",
    "native.save_checkpoint('recipe/new', { model = model(), state = {} }) return 1",
    "native.remove_checkpoint 'recipe/checkpoint-000002' return 1",
    // Whether there is one is not told.
    "if not pcall(native.remove_checkpoint, 'HOME/checkpoint-000002') then return 1 end",
    "qlora.run { dir = 'HOME/run' } return 1", "qlora.run { dir = '../home/run' } return 1",
    // SQL
    "return native.open_database('HOME/new.db', { create = true })",
    "return native.open_database('file:HOME/d.db?mode=ro')", "return db():query \"ATTACH 'file:HOME/d.db' AS x\"",
    "return db():query(\"ATTACH ? AS x\", { 'HOME/d.db' })", "return db():query \"ATTACH 'HO' || 'ME' AS x\"",
    "return db():query \"VACUUM INTO 'HOME/new.db'\"", "return db():query \"SELECT load_extension('HOME/x.so')\"",
    "return db():query \"PRAGMA temp_store_directory = 'HOME'\"",
    "return db():query \"SELECT readfile('HOME/secret.txt')\"",
    "return db():query \"SELECT writefile('HOME/secret.txt', 'x')\"",
  ]

  /// Prints those that succeed.
  private static func recipe(trying texts: [String], in place: Place) -> String {
    let home = place.root.appendingPathComponent("home").path
    let tries = texts.map { text in
      let code = text.replacingOccurrences(of: "HOME", with: text.contains("getenv") ? "HOME" : home)
      return "{ [=[\(code)]=], function() \(code) end },"
    }
    return """
      local qlora = require "qlora"
      local native = require "qlora.native"
      local count = 0
      local function tokenizer() return qlora.tokenizer.load(qlora.resource "models/tiny") end
      local function model() return qlora.load(qlora.resource "models/tiny") end
      local function db()
        count = count + 1
        return native.open_database("runs/" .. count .. ".db", { create = true })
      end
      for _, try in ipairs {
      \(tries.joined(separator: "\n"))
      } do
        local ok, value = pcall(try[2])
        if ok and value ~= nil then print("ESCAPED", try[1], value) end
        if tostring(value):find "SECRET" then print("READ", try[1], value) end
      end
      print "end"
      """
  }

  @Test func noEscapeReachesAFileOrAProgram() throws {
    let place = try Place()
    defer { try? FileManager.default.removeItem(at: place.root) }
    let before = try place.kept()
    #expect(before.count >= 8)
    let outcome = try place.run(Self.recipe(trying: Self.reads + Self.others, in: place))
    #expect(outcome.code == 0 && outcome.output.hasSuffix("end\n"), "\(outcome.errors)")
    #expect(!outcome.output.contains("ESCAPED") && !outcome.output.contains("READ"), "\(outcome.output)")
    let after = try place.kept()
    let changed = Set(before.keys).union(after.keys).filter { before[$0] != after[$0] }
    #expect(changed.isEmpty, "\(changed.sorted())")
  }

  /// Temporary names beside it are the engine's own.
  @Test func aRefusalNamesThePathThatWasGiven() throws {
    let place = try Place()
    defer { try? FileManager.default.removeItem(at: place.root) }
    let outcome = try place.run(
      """
      local qlora, native = require "qlora", require "qlora.native"
      local model = qlora.load(qlora.resource "models/tiny")
      print(select(2, pcall(native.write_file, "recipe/a", "x")))
      print(select(2, pcall(native.mkdir, "recipe/a")))
      print(select(2, pcall(native.remove_tree, "recipe/a")))
      print(select(2, pcall(native.save_checkpoint, "recipe/a", { model = model, state = {} })))
      """)
    let lines = outcome.output.split(separator: "\n")
    #expect(lines.count == 4, "\(outcome)")
    for line in lines { #expect(line.contains("recipe/a: ") && !line.contains(".qlora-"), "\(line)") }
  }

  /// What a dead process left is put back where a program may write, only.
  @Test func leftoversOfOthersStay() throws {
    let place = try Place()
    defer { try? FileManager.default.removeItem(at: place.root) }
    // No process has this number.
    let dead = "2147483647"
    for name in ["checkpoint-000006.qlora-old-\(dead)", "checkpoint-000008.qlora-tmp-\(dead)"] {
      try FileManager.default.createDirectory(
        at: place.work.appendingPathComponent("recipe/\(name)"), withIntermediateDirectories: true)
    }
    let before = try place.kept()
    let saves = """
      local qlora = require "qlora"
      local model = qlora.load(qlora.resource "models/tiny")
      qlora.native.save_checkpoint("recipe/checkpoint-000004", { model = model, state = {} })
      print "saved"
      """
    let outcome = try place.run(saves, ["--allow-write", "recipe/checkpoint-000004"])
    #expect(outcome.output.hasSuffix("saved\n"), "\(outcome)")
    let new = "work/recipe/checkpoint-000004"
    #expect(try place.kept().filter { !$0.key.hasPrefix(new) } == before)
    #expect(try place.run(saves, ["--allow-write", "recipe"]).output.hasSuffix("saved\n"))
    let after = Set(try place.kept().keys.filter { !$0.hasPrefix(new) })
    #expect(after == Set(before.keys.filter { !$0.contains(dead) } + ["work/recipe/checkpoint-000006"]))
  }

  /// The same ways lead somewhere without a sandbox: the test above sees what it looks for.
  @Test func withoutASandboxTheSameReadsSucceed() throws {
    let place = try Place()
    defer { try? FileManager.default.removeItem(at: place.root) }
    try place.write(
      "assert(io.open '../home/secret.txt') assert(io.open 'recipe/link.txt') assert(os.getenv 'PATH') print 'open'",
      "work/recipe/recipe.lua")
    #expect(try Program.run(["recipe/recipe.lua"], in: place.work).output == "open\n")
    try place.write(Self.recipe(trying: Self.reads, in: place), "work/recipe/recipe.lua")
    let outcome = try Program.run(["recipe/recipe.lua"], in: place.work)
    let escaped = outcome.output.split(separator: "\n").filter { $0.hasPrefix("ESCAPED") }.count
    #expect(escaped == Self.reads.count, "\(outcome)")
  }

  @Test func aRecipeDoesItsWorkInASandbox() throws {
    let place = try Place()
    defer { try? FileManager.default.removeItem(at: place.root) }
    let outcome = try place.run(
      """
      local qlora = require "qlora"
      assert(require "sub.part".two == 2)
      assert(io.open("recipe/own.txt"):read "a" == "mine")
      local file = assert(io.open("runs/note.txt", "w"))
      file:write "x" file:close()
      assert(os.rename("runs/note.txt", "runs/other.txt") and os.remove "runs/other.txt")
      local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4" })
      model:add_lora { select = { "q_proj" }, rank = 2, quiet = true }
      local records = {}
      for i = 1, 8 do records[i] = { text = "one two three " .. i } end
      local data = qlora.data.load(records, { format = "completion", tokenizer = model.tokenizer })
      local optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3 })
      qlora.train { model = model, data = data, optimizer = optimizer, steps = 2, dir = "runs/a" }
      model:save_adapter "runs/adapter"
      assert(qlora.native.exists "runs/a/summary.json")
      print "done"
      """)
    #expect(outcome.code == 0 && outcome.output.contains("done"), "\(outcome.errors)")
  }

  @Test func namedPathsAreOpenAsFarAsTheyAreNamed() throws {
    let place = try Place()
    defer { try? FileManager.default.removeItem(at: place.root) }
    let recipe = """
      print(io.open "../home/secret.txt" ~= nil, io.open("../home/secret.txt", "a") ~= nil,
        require "qlora.native".exists "../home/data/records.jsonl")
      """
    #expect(try place.run(recipe).output == "false\tfalse\tfalse\n")
    #expect(try place.run(recipe, ["--allow-read", "../home/secret.txt"]).output == "true\tfalse\tfalse\n")
    #expect(try place.run(recipe, ["--allow-read", "../home"]).output == "true\tfalse\ttrue\n")
    #expect(try place.run(recipe, ["--allow-write", "../home/secret.txt"]).output == "true\ttrue\tfalse\n")
    let saves = "require 'qlora'.load(require 'qlora'.resource 'models/tiny'):save '../home/model' print 'saved'"
    #expect(try place.run(saves, ["--allow-write", "../home/model"]).output.hasSuffix("saved\n"))
  }

  @Test func timeAndMemoryOfLuaHaveALimit() throws {
    let place = try Place()
    defer { try? FileManager.default.removeItem(at: place.root) }
    for recipe in [
      "while true do end", "while true do pcall(function() while true do end end) end",
      "coroutine.wrap(function() while true do end end)()",
      "while true do coroutine.wrap(function() for i = 1, 1000 do end end)() end",
      "xpcall(error, function() while true do end end)",
      "xpcall(function() while true do end end, function() while true do end end)",
      """
      local closes = setmetatable({}, { __close = function() while true do end end })
      local c = coroutine.create(function() local x <close> = closes; while true do end end)
      coroutine.resume(c)
      pcall(coroutine.close, c)
      pcall(coroutine.wrap(function() local x <close> = closes; while true do end end))
      while true do end
      """,
    ] {
      let outcome = try place.run(recipe, ["--instructions", "1e7"])
      #expect(outcome.code == 1 && outcome.errors.contains("more than 10000000 instructions"), "\(recipe): \(outcome)")
    }
    let memory = try place.run("local t = {} for i = 1, 1e9 do t[i] = i end", ["--lua-memory", "50MB"])
    #expect(memory.code == 1 && memory.errors.contains("recipe.lua:1: not enough memory for Lua"), "\(memory)")
  }

  @Test func theEnvironmentRunsNoCode() throws {
    let place = try Place()
    defer { try? FileManager.default.removeItem(at: place.root) }
    let outcome = try place.run(
      "print(pcall(require, 'module'))",
      environment: ["LUA_INIT": "print 'init'", "LUA_PATH": place.root.path + "/home/?.lua"])
    #expect(outcome.output.hasPrefix("false\t") && !outcome.output.contains("init\n"), "\(outcome)")
  }

  @Test(arguments: [
    ["--sandbox"], ["--sandbox", "-e", "print(1)"], ["--sandbox", "-i", "x.lua"], ["--allow-read", "x", "x.lua"],
    ["--sandbox", "x.lua", "--instructions", "0"], ["--sandbox", "x.lua", "--lua-memory", "much"],
    ["--lua-memory", "1GB", "x.lua"], ["--sandbox", "-"],
  ])
  func flagsThatMeanNothingAreRefused(arguments: [String]) throws {
    let outcome = try Program.run(arguments)
    #expect(outcome.code == 2 && outcome.output.isEmpty, "\(outcome)")
  }
}
