import Foundation
import LuaRuntime
import Tensors
import Testing

@testable import LuaBindings

let packageRoot = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent().path

/// A state with everything bound, as qlora-run makes it.
func makeState(_ options: RunOptions = RunOptions()) throws -> (LuaState, Engine) {
  let state = try #require(LuaState())
  let engine = Engine(options: options, resourceRoot: packageRoot)
  engine.install(in: state)
  let package = try #require(state.globals["package"].asTable)
  package["path"] = .string("\(packageRoot)/stdlib/?.lua;\(packageRoot)/stdlib/?/init.lua")
  return (state, engine)
}

/// Every bound function, method, field and operator against every kind of wrong argument: the process survives, and what
/// comes back is a result or an error with a text.
@Suite struct HostileArgumentTests {
  /// Functions that leave, wait or delete are called with wrong types only.
  private let sweep = """
    local native, tensor, model, names = ...
    local skip = { exit = true, remove_tree = true, write_file = true, mkdir = true, save_tensors = true, save = true,
      save_adapter = true, save_checkpoint = true }
    local junk = {
      function() return nil end, function() return true end, function() return 0 end, function() return -1 end,
      function() return math.maxinteger end, function() return math.mininteger end, function() return 0/0 end,
      function() return math.huge end, function() return -math.huge end, function() return 1.5 end,
      function() return "" end, function() return "\\0\\255junk" end, function() return {} end,
      function() return { 1, 2, 3 } end, function() return { {}, { {} } } end, function() return { x = 1 } end,
      function() return { math.maxinteger } end, function() return { -5 } end, function() return print end,
      function() return coroutine.create(print) end, function() return tensor() end,
      function() local t = tensor(); t:free(); return t end, function() return model end,
      function() return setmetatable({}, { __index = function() error "boom" end }) end,
    }
    local calls = 0
    local function try(f, ...)
      calls = calls + 1
      local ok, message = pcall(f, ...)
      if not ok then assert(type(message) == "string" or type(message) == "table", "error is a " .. type(message)) end
    end
    local function attack(f, first)
      local function args(...) if first then return first(), ... end return ... end
      try(f) ; try(f, args())
      for _, a in ipairs(junk) do
        try(f, args(a()))
        for _, b in ipairs(junk) do try(f, args(a(), b())) end
        try(f, args(a(), a(), a()))
      end
    end
    local function walk(t)
      for name, f in pairs(t) do
        if not skip[name] then
          if type(f) == "table" and f ~= native.options then walk(f) elseif type(f) == "function" then attack(f) end
        end
      end
    end
    walk(native)
    for class, members in pairs(names) do
      local make = class == "Tensor" and tensor or function() return model end
      for _, name in ipairs(members) do
        if not skip[name] then
          local object = make()
          local ok, f = pcall(function() return object[name] end)
          if ok and type(f) == "function" then attack(f, make) end
        end
      end
    end
    for _, a in ipairs(junk) do
      local t = tensor()
      try(function() return t[a()] end) ; try(function() t[a()] = a() end)
      try(function() return t + a() end) ; try(function() return a() * t end) ; try(function() return -t, #t, t / a() end)
      try(function() t.requires_grad = a() end) ; try(function() t.grad = a() end) ; try(function() t.nothing = a() end)
    end
    return calls
    """

  @Test func nothingCrashes() throws {
    let (state, engine) = try makeState()
    let names = state.newTable()
    for declared in engine.classes where declared.name == "Tensor" || declared.name == "Model" {
      names[declared.name] = .table(state.list(declared.methods.map { .string($0.name) }))
    }
    let native = try #require(state.globals["package"].asTable?["loaded"].asTable?["qlora.native"])
    let make = try state.load(
      Array("local n = require 'qlora.native'; return function() return n.rand(3, 4) end".utf8), chunkName: "=make")
    let tensor = try #require(try make.call().first)
    // A model small enough that every call is fast.
    let model = try #require(
      try state.load(
        Array(
          """
          return require 'qlora.native'.new_model{ config = { model_type = 'llama', hidden_act = 'silu', vocab_size = 64,
            hidden_size = 16, intermediate_size = 32, num_hidden_layers = 1, num_attention_heads = 2, num_key_value_heads = 1,
            head_dim = 8, max_position_embeddings = 64, rms_norm_eps = 1e-5, rope_theta = 10000.0, tie_word_embeddings = true } }
          """.utf8), chunkName: "=model"
      ).call().first)
    let sweeper = try state.load(Array(sweep.utf8), chunkName: "=sweep")
    let calls = try #require(try sweeper.call([native, tensor, model, .table(names)]).first?.asInt)
    #expect(calls > 20_000, "only \(calls) calls were made")
    state.close()
  }
}

/// Values inside tables that are wrong in type or size, each named in the error.
@Suite struct HostileTableTests {
  private static let setup = """
    local qlora, native = require "qlora", require "qlora.native"
    native.options.quiet = true
    local function model()
      local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4" })
      model:add_lora { select = { "q_proj" }, rank = 2 }
      return model
    end
    local function optimizer(o) return native.optim.adamw(model():trainable(), o) end
    local function attach(entry)
      local fresh = qlora.load(qlora.resource "models/tiny", { quant = "nf4" })
      return fresh:attach_lora { entry }
    end
    local name = "model.layers.0.self_attn.q_proj"
    """

  @Test(arguments: [
    ("optimizer { lr = 1, paged = true, budget = -1000000 }", "budget is -1000000"),
    ("optimizer { lr = 1, paged = true, budget = 0 }", "budget is 0"),
    ("optimizer { lr = 1, betas = { 0.9, 1.5 } }", "betas[2] is 1.5"),
    ("native.optim.sgd(model():trainable(), { lr = 1, momentum = 2 })", "momentum is 2.0"),
    ("optimizer { lr = 0 / 0 }", "nan, expected a number above 0"),
    ("optimizer { lr = 1, eps = 0 / 0 }", "nan, expected a number above 0"),
    ("optimizer { lr = 1, weight_decay = -1 }", "weight_decay is -1.0, expected a number of at least 0"),
    ("optimizer { lr = 1, betas = { 0.9 } }", "betas must be a list of 2 numbers"),
    ("optimizer { lr = 1, bits = 16 }", "bits is 16, expected 32 or 8"),
    ("optimizer { lr = 1 }:step { lr = 0 / 0 }", "nan, expected a number of at least 0"),
    ("native.optim.sgd(model():trainable(), { lr = 1, bits = 8 })", "unknown option 'bits'; valid: budget, lr, momentum"),
    ("qlora.optim.sgd(model():trainable(), { lr = 1, bits = 8 })", "valid: budget, lr, momentum, paged, spill"),
    ("qlora.optim.lion(model():trainable(), { lr = 1, eps = 1 })", "valid: betas, bits, budget, lr, paged, spill"),
    ("(function() optimizer { lr = 1 }.lr = 0 / 0 end)()", "nan is no learning rate; a number above 0 expected"),
    ("attach { name = name, rank = 2, alpha = 1, dropout = 'x' }", "option 'dropout' must be a number, got string"),
    ("attach { name = name, rank = 2, alpha = 1, rslora = 1 }", "option 'rslora' must be a boolean"),
    ("attach { name = name, rank = 2, alpha = 1, lrr = 1 }", "did you mean 'lr'?"),
    ("attach { name = name, alpha = 1 }", "option 'rank' is missing"),
    ("native.batch { { ids = 'x' } }", "batch: a row: option 'ids' must be a table"),
    ("native.batch { { ids = { 1 }, labels = 1 } }", "option 'labels' must be a table"),
    ("native.batch { { labels = { 1 } } }", "option 'ids' is missing"),
    ("native.load_model('x', { module_quant = { a = 4 } })", "module_quant of a must be a type or false, got a number"),
    ("native.quantize_checkpoint('x', 'y', { shard_bytes = 0 })", "shard_bytes is 0"),
    ("native.tokenizer.train({ 'a', {} }, { vocab_size = 300 })", "texts must be texts, got a table"),
    ("model():generate('a', { stop = { 'b', 1 } })", "stop must be texts, got a number"),
  ]) func areErrors(code: String, message: String) throws {
    let (state, _) = try makeState()
    defer { state.close() }
    #expect {
      _ = try state.load(Array("\(Self.setup)\nreturn \(code)".utf8), chunkName: "=test").call()
    } throws: { String(describing: $0).contains(message) }
  }

  @Test func filesGetTheBytesAsTheyAre() throws {
    let (state, _) = try makeState()
    defer { state.close() }
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    let code = "require('qlora.native').write_file('\(path)', '\\xff\\0a\\xc3\\n')"
    _ = try state.load(Array(code.utf8), chunkName: "=test").call()
    #expect(FileManager.default.contents(atPath: path) == Data([255, 0, 97, 195, 10]))
  }

  @Test func thePromptIsRepeatedAsTextAlsoWhenItWasGivenAsTokens() throws {
    let (state, _) = try makeState()
    defer { state.close() }
    let code = """
      local model = require("qlora").load(require("qlora").resource "models/tiny", { quant = "nf4" })
      local ids = model.tokenizer:encode("In the morning", { special = false })
      return model:generate(ids, { echo = true, max_new_tokens = 1 })
      """
    let text = try state.load(Array(code.utf8), chunkName: "=test").call().first?.asString
    #expect(text?.hasPrefix("In the morning") == true, "\(text ?? "nil")")
  }

  @Test func aLimitOfAControlGroupAboveCountsToo() {
    #expect(ProcessMemory.folders(upwardFrom: "/a/b") == ["/a/b", "/a", ""])
    #expect(ProcessMemory.folders(upwardFrom: "/") == ["/", ""])
  }
}

@Suite struct DeclarationTests {
  @Test func everythingInTheLiveTableIsDeclared() throws {
    let (state, engine) = try makeState()
    let declared = Set(engine.modules.flatMap(\.functions).map(\.name))
    let native = try #require(state.globals["package"].asTable?["loaded"].asTable?["qlora.native"].asTable)
    func check(_ table: LuaTable, _ prefix: String) {
      for (key, value) in table.pairs {
        let name = prefix + (key.asString ?? "?")
        if case .function = value { #expect(declared.contains(name), "\(name) is bound but not declared") }
        if case .table(let inner) = value, name != "options" { check(inner, name + ".") }
      }
    }
    check(native, "")
    state.close()
  }

  @Test func wrongArgumentsAreWordedAsLuaWordsThem() throws {
    let (state, _) = try makeState()
    let cases = [
      ("n.zeros()", "bad argument #1 to 'zeros' (integer|table expected, got no value)"),
      ("n.full({1}, 'x')", "bad argument #2 to 'full' (number expected, got string)"),
      ("n.ones(2):narrow(1, 'a', 1)", "bad argument #2 to 'narrow' (integer expected, got string)"),
      ("n.ones(2).sum(3)", "calling 'sum' on bad self (Tensor expected, got number)"),
      ("n.ones(2):quantize{ tipe = 'nf4' }", "unknown option 'tipe' (did you mean 'type'?)"),
      ("n.ones(2):quantize{ block = 'x' }", "option 'block' must be a integer, got string"),
      ("n.optim.adamw({ n.ones(2) }, {})", "option 'lr' is missing"),
      ("n.ones(2).shap", "Tensor has no field 'shap' (did you mean 'shape'?)"),
      ("n.ones(2)[3]", "index 3 is outside 1..2"),
    ]
    for (code, message) in cases {
      let chunk = try state.load(Array("local n = require 'qlora.native'\nreturn \(code)".utf8), chunkName: "=test")
      do {
        _ = try chunk.call()
        Issue.record("\(code) gave no error")
      } catch {
        #expect(
          String(describing: error) == "test:2: " + message || String(describing: error).contains(message), "\(error)")
      }
    }
    state.close()
  }
}
