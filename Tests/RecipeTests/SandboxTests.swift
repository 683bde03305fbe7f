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
      for folder in ["home", "home/data", "work/recipe/sub", "work/runs"] {
        try FileManager.default.createDirectory(
          at: root.appendingPathComponent(folder), withIntermediateDirectories: true)
      }
      try write("SECRET", "home/secret.txt")
      try write("{\"text\": \"SECRET\"}\n", "home/data/records.jsonl")
      try write("return 'SECRET'", "home/module.lua")
      try write("mine", "work/recipe/own.txt")
      try write("return { two = 2 }", "work/recipe/sub/part.lua")
      let links = [
        "work/recipe/link.txt": "home/secret.txt", "work/recipe/folder": "home", "work/runs/out.txt": "home/secret.txt",
        "work/runs/nowhere": "home/new.txt", "work/runs/home": "home",
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

    /// Everything in `home`, by name.
    func home() throws -> [String: Data] {
      var found: [String: Data] = [:]
      let folder = root.appendingPathComponent("home")
      for name in try FileManager.default.subpathsOfDirectory(atPath: folder.path) {
        found[name] = FileManager.default.contents(atPath: folder.appendingPathComponent(name).path) ?? Data()
      }
      return found
    }

    func run(_ recipe: String, _ flags: [String] = [], environment: [String: String] = [:]) throws -> Program.Outcome {
      try write(recipe, "work/recipe/recipe.lua")
      return try Program.run(["--sandbox"] + flags + ["recipe/recipe.lua"], in: work, environment: environment)
    }
  }

  /// Each is an expression or statements that are to fail or to give nothing; HOME stands for the folder outside.
  static let escapes = [
    // Lua's own files
    "return io.open 'HOME/secret.txt'", "return io.open('HOME/secret.txt', 'w')", "return io.open('HOME/new', 'a')",
    "return io.open('HOME/secret.txt', 'r+')", "return io.lines 'HOME/secret.txt'",
    "io.input 'HOME/secret.txt' return 1",
    "io.output 'HOME/secret.txt' return 1", "return io.open '../home/secret.txt'",
    "return io.open 'recipe/../../home/secret.txt'", "return io.open 'recipe/link.txt'",
    "return io.open 'recipe/folder/secret.txt'", "return io.open('runs/out.txt', 'w')",
    "return io.open('runs/nowhere', 'w')", "return io.open('runs/home/new', 'w')",
    "return io.open('recipe/own.txt', 'w')", "return io.open '/proc/self/environ'",
    "return io.open '/proc/self/cwd/../home/secret.txt'",
    "return io.open '/proc/self/root/etc/passwd'", "return io.open '/etc/passwd'", "return io.open '/dev/stdin'",
    "return io.open 'runs/none/../../../home/secret.txt'",
    "return os.remove 'HOME/secret.txt'", "return os.remove 'runs/home/secret.txt'",
    "return os.rename('HOME/secret.txt', 'runs/x')", "return os.rename('runs/home/secret.txt', 'runs/x')",
    "io.open('runs/a', 'w'):close() return os.rename('runs/a', 'HOME/secret.txt')",
    "return os.tmpname()", "return io.tmpfile()",
    // Code from elsewhere
    "return loadfile 'HOME/module.lua'", "return dofile 'HOME/module.lua'",
    "package.path = 'HOME/?.lua' return require 'module'", "return package.searchpath('secret', 'HOME/?.txt')",
    "package.searchpath = function() return 'HOME/module.lua' end return require 'module'",
    "package.path = 'recipe/folder/?.lua' return require 'module'",
    "return package.searchers[3]", "return package.searchers[4]",
    "return package.loadlib('libc.so.6', '*')", "package.cpath = '/usr/lib/?.so' return require 'c'",
    "return load(string.dump(function() end))", "return load('\\27Lua', 'x', 'b')",
    // Other programs, the environment, the interpreter
    "return os.execute()", "return os.execute 'true'", "return io.popen 'true'", "return os.getenv 'HOME'",
    "os.exit(0)", "return os.setlocale 'C'", "return package.loaded.io.popen 'true'",
    "return package.loaded.os.getenv 'HOME'", "return package.loaded._G.os.execute 'true'",
    "return debug.getregistry()", "return debug.getupvalue(io.open, 1)", "return debug.sethook()",
    "return debug.getmetatable('')", "return debug.getinfo(io.open, 'f').func", "return debug.getinfo(1, 'f').func",
    "return debug.getlocal(1, 1)", "return debug.setmetatable(1, {})",
    "return getmetatable(io.stdout).__index", "return getmetatable(io.stdout).__gc",
    "return setmetatable({}, { __gc = function() end })",
    // Natives
    "return native.read_records 'HOME/data/records.jsonl'", "native.write_file('HOME/secret.txt', 'x') return 1",
    "native.write_file('runs/out.txt', 'x') return 1", "native.write_file('runs/nowhere', 'x') return 1",
    "native.write_file('recipe/own.txt', 'x') return 1", "native.mkdir 'HOME/new' return 1",
    "native.remove_tree 'HOME/data' return 1", "native.remove_tree 'runs/home/data' return 1",
    "return native.list_dir('HOME')[1]", "return native.exists 'HOME/secret.txt' or nil",
    "return native.exists '/etc/passwd' or nil", "return qlora.load(qlora.resource '../../' .. 'HOME')",
    "return native.read_records(qlora.resource '../' .. '../HOME/data/records.jsonl')",
    "return qlora.load 'HOME/data'", "return qlora.tokenizer.load 'HOME'",
    "return qlora.data.load('HOME/data/records.jsonl', { tokenizer = tokenizer() })",
    "qlora.load(qlora.resource 'models/tiny'):save 'HOME/model' return 1",
    "qlora.load(qlora.resource 'models/tiny'):save 'runs/home/model' return 1",
    "return native.load_tensors 'HOME/x.safetensors'",
    "native.save_tensors('HOME/x.safetensors', { a = qlora.ones(2) }) return 1",
    "native.spill_directory 'HOME' return qlora.load(qlora.resource 'models/tiny'):checkpointing(true, { offload = 'HOME' })",
    "qlora.run { dir = 'HOME/run' } return 1", "qlora.run { dir = '../home/run' } return 1",
    // SQL
    "return native.open_database 'HOME/d.db'", "return native.open_database('HOME/new.db', { create = true })",
    "return native.open_database('file:HOME/d.db?mode=ro')",
    "return db():query \"ATTACH 'HOME/d.db' AS x\"", "return db():query \"ATTACH 'file:HOME/d.db' AS x\"",
    "return db():query(\"ATTACH ? AS x\", { 'HOME/d.db' })", "return db():query \"ATTACH 'HO' || 'ME' AS x\"",
    "return db():query \"VACUUM INTO 'HOME/new.db'\"", "return db():query \"SELECT load_extension('HOME/x.so')\"",
    "return db():query \"PRAGMA temp_store_directory = 'HOME'\"",
    "return db():query \"SELECT readfile('HOME/secret.txt')\"",
    "return db():query \"SELECT writefile('HOME/secret.txt', 'x')\"",
  ]

  @Test func noEscapeReachesAFileOrAProgram() throws {
    let place = try Place()
    defer { try? FileManager.default.removeItem(at: place.root) }
    let before = try place.home()
    #expect(Self.escapes.count >= 40 && before.count >= 4)
    let home = place.root.appendingPathComponent("home").path
    let tries = Self.escapes.map { text in
      let code = text.replacingOccurrences(of: "HOME", with: text.contains("getenv") ? "HOME" : home)
      return "{ [=[\(code)]=], function() \(code) end },"
    }
    let outcome = try place.run(
      """
      local qlora = require "qlora"
      local native = require "qlora.native"
      local count = 0
      local function tokenizer() return qlora.tokenizer.load(qlora.resource "models/tiny") end
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
      """)
    #expect(outcome.code == 0 && outcome.output.hasSuffix("end\n"), "\(outcome.errors)")
    #expect(!outcome.output.contains("ESCAPED") && !outcome.output.contains("READ"), "\(outcome.output)")
    #expect(try place.home() == before)
    #expect(FileManager.default.contents(atPath: place.work.path + "/recipe/own.txt") == Data("mine".utf8))
  }

  /// The same ways lead somewhere without a sandbox: the test above sees what it looks for.
  @Test func withoutASandboxTheSameReadsSucceed() throws {
    let place = try Place()
    defer { try? FileManager.default.removeItem(at: place.root) }
    try place.write(
      "assert(io.open '../home/secret.txt') assert(io.open 'recipe/link.txt') assert(os.getenv 'PATH') print 'open'",
      "work/recipe/recipe.lua")
    #expect(try Program.run(["recipe/recipe.lua"], in: place.work).output == "open\n")
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
