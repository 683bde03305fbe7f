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

/// Every function, method, metamethod and field that the live state knows against every kind of wrong argument: the
/// process survives, and what comes back is a result or an error with a text.
@Suite struct HostileArgumentTests {
  private let sweep = """
    local native, hostile, fields = ...
    local makers, junk, operators = hostile.makers, hostile.values, hostile.operators
    -- Functions that leave, wait or delete are not called, nor those that write where an argument says.
    local skip = { exit = true, read_line = true, remove_tree = true, write_file = true, mkdir = true,
      save_tensors = true, save = true, save_adapter = true, save_checkpoint = true, lock_directory = true, \
    remove_checkpoint = true }
    local ends = hostile.ends
    local calls, swept = 0, {}
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
    local metatables = hostile.metatables()
    for class, metatable in pairs(metatables) do
      local make = assert(makers[class], "the sweep makes no " .. class)
      local methods = metatable.methods
      swept[#swept + 1] = class
      local kept = make()
      local function one() return kept end
      if class == "Tensor" then one = make end
      assert(debug.getmetatable(kept) == metatable)
      for name, f in pairs(methods) do
        if not skip[name] then attack(f, ends[name] and make or one) end
      end
      for name, f in pairs(metatable) do
        if type(f) == "function" then
          attack(f)
          attack(f, ends[name] and make or one)
        end
      end
      for name in pairs(fields[class]) do
        try(function() return kept[name] end)
        for _, a in ipairs(junk) do
          try(function() one()[name] = a() end)
          try(metatable.__newindex, one(), name, a())
          try(metatable.__index, a(), name)
          try(metatable.__newindex, a(), name, a())
        end
      end
      for _, a in ipairs(junk) do
        for _, f in pairs(operators) do try(f, one(), a()) ; try(f, a(), one()) end
        try(function() return -one() end) ; try(function() return ~one() end) ; try(function() return #one() end)
        try(function() return one()(a()) end) ; try(tostring, one())
        try(function() return one()[a()] end) ; try(function() one()[a()] = a() end)
        try(function() one().nothing = a() end)
      end
    end
    table.sort(swept)
    return calls, table.concat(swept, " ")
    """

  @Test func nothingCrashes() throws {
    let (state, engine) = try makeState()
    defer { state.close() }
    let fields = state.newTable()
    for declared in engine.classes {
      let names = state.newTable()
      for property in declared.properties { names[property.name] = .bool(true) }
      fields[declared.name] = .table(names)
    }
    let native = try #require(state.globals["package"].asTable?["loaded"].asTable?["qlora.native"])
    let source = try Data(contentsOf: URL(fileURLWithPath: "\(packageRoot)/Tests/LuaTests/hostile.lua"))
    let hostile = try #require(try state.load(Array(source), chunkName: "=hostile").call().first)
    let result = try state.load(Array(sweep.utf8), chunkName: "=sweep").call([native, hostile, .table(fields)])
    let calls = try #require(result.first?.asInt)
    #expect(calls > 100_000, "only \(calls) calls were made")
    #expect(result.last?.asString == engine.classes.map(\.name).sorted().joined(separator: " "))
    #expect(Undeclared.found.isEmpty)
  }

  /// What a native function holds is an upvalue.
  @Test func theUpvalueOfANativeFunctionCannotBeSet() throws {
    let (state, _) = try makeState()
    defer { state.close() }
    let code = "local f = require('qlora.native').zeros; debug.setupvalue(f, 1, 1 << 30); return f(1)"
    #expect {
      _ = try state.load(Array(code.utf8), chunkName: "=test").call()
    } throws: { String(describing: $0).contains("debug.setupvalue is refused for native functions") }
  }

  /// A binding that reads what it did not declare stops the tests.
  @Test func undeclaredNamesStopTheTests() async throws {
    let argument = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      let call = Call(
        state: try #require(LuaState()), function: "f", parameters: [Parameter("x", .any, "what")],
        arguments: [.integer(1)], receiver: nil)
      try #require(call["x"].asInt == 1)
      _ = call["y"]
      tellUndeclared()  // a build with assertions has stopped before
    }
    let option = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      let state = try #require(LuaState())
      let options = Options(function: "f", fields: [Parameter("x", .any, "what")], table: state.newTable())
      try #require(options["x"].isNil)
      _ = options["y"]
      tellUndeclared()
    }
    for (outcome, text) in [(argument, "f declares no parameter 'y'"), (option, "f declares no option 'y'")] {
      let errors = String(decoding: try #require(outcome).standardErrorContent, as: UTF8.self)
      #expect(errors.contains(text), "\(errors)")
    }
  }
}

/// Ends the process with what was read and not declared.
private func tellUndeclared() {
  try? FileHandle.standardError.write(contentsOf: Data(Undeclared.found.joined(separator: "\n").utf8))
  exit(Undeclared.found.isEmpty ? 0 : 1)
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
    (
      "optimizer { lr = 1, paged = true, budget = -1000000 }", "option 'budget' must be a string|whole number from 1 to"
    ),
    ("optimizer { lr = 1, paged = true, budget = 0 }", "option 'budget' must be a string|whole number from 1 to"),
    ("optimizer { lr = 1, betas = { 0.9, 1.5 } }", "betas[2] is 1.5"),
    ("native.optim.sgd(model():trainable(), { lr = 1, momentum = 2 })", "must be a number in [0, 1), got 2"),
    ("optimizer { lr = 0 / 0 }", "option 'lr' must be a number above 0, got nan"),
    ("optimizer { lr = 1, eps = 0 / 0 }", "option 'eps' must be a number above 0, got nan"),
    ("optimizer { lr = 1, weight_decay = -1 }", "'weight_decay' must be a number of at least 0, got -1"),
    ("optimizer { lr = 1, betas = { 0.9 } }", "betas must be a list of 2 numbers"),
    ("optimizer { lr = 1, bits = 16 }", "bits is 16, expected 32 or 8"),
    ("optimizer { lr = 1 }:step { lr = 0 / 0 }", "option 'lr' must be a number of at least 0, got nan"),
    ("optimizer { lr = 1 }:step { lr = math.huge }", "option 'lr' must be a finite number of at least 0, got inf"),
    ("optimizer { lr = 1 }:step { grad_scale = 1 / 0 }", "'grad_scale' must be a finite number of at least 0, got inf"),
    (
      "native.optim.sgd(model():trainable(), { lr = 1, bits = 8 })",
      "unknown option 'bits'; valid: budget, lr, momentum"
    ),
    ("qlora.optim.sgd(model():trainable(), { lr = 1, bits = 8 })", "valid: budget, lr, momentum, paged, spill"),
    ("qlora.optim.lion(model():trainable(), { lr = 1, eps = 1 })", "valid: betas, bits, budget, lr, paged, spill"),
    ("(function() optimizer { lr = 1 }.lr = 0 / 0 end)()", "nan is no learning rate; a number above 0 expected"),
    (
      "attach { name = name, rank = 2, alpha = 1, dropout = 'x' }",
      "option 'dropout' must be a number in [0, 1), got string"
    ),
    ("attach { name = name, rank = 2, alpha = 1, rslora = 1 }", "option 'rslora' must be a boolean"),
    ("attach { name = name, rank = 2, alpha = 1, lrr = 1 }", #"did you mean "lr"?"#),
    ("attach { name = name, alpha = 1 }", "option 'rank' is missing"),
    ("native.batch { { ids = 'x' } }", "batch: a row: option 'ids' must be a table"),
    ("native.batch { { ids = { 1 }, labels = 1 } }", "option 'labels' must be a table"),
    ("native.batch { { labels = { 1 } } }", "option 'ids' is missing"),
    ("native.load_model('x', { module_quant = { a = 4 } })", "module_quant of a must be a type or false, got a number"),
    ("native.quantize_checkpoint('x', 'y', { shard_bytes = 0 })", "'shard_bytes' must be a whole number from 1 to"),
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
      ("n.ones(2):narrow(1, 'a', 1)", "bad argument #2 to 'narrow' (whole number of at least 1 expected, got string)"),
      ("n.ones(2).sum(3)", "calling 'sum' on bad self (Tensor expected, got number)"),
      ("n.ones(2):quantize{ tipe = 'nf4' }", #"unknown option 'tipe' (did you mean "type"?)"#),
      ("n.ones(2):quantize{ block = 'x' }", "option 'block' must be a whole number from 32 to 4096, got string"),
      ("n.optim.adamw({ n.ones(2) }, {})", "option 'lr' is missing"),
      ("n.ones(2).shap", #"Tensor has no field 'shap' (did you mean "shape"?)"#),
      ("n.ones(2)[3]", "index 3 is outside 1..2"),
      ("n.ones(2) + {}", "bad operand #2 of '+' (Tensor or number expected, got table)"),
      ("{} - n.ones(2)", "bad operand #1 of '-' (Tensor or number expected, got table)"),
      ("n.ones(2) ^ nil", "bad operand #2 of '^' (Tensor or number expected, got nil)"),
      ("n.ones(2):add({})", "bad argument #1 to 'add' (Tensor|number expected, got table)"),
      ("debug.getmetatable(n.ones(2)).__index(n.ones(2))", "index: an index is an integer or a table, got nil"),
      ("debug.getmetatable(n.ones(2)).__len(1)", "calling '__len' on bad self (Tensor expected, got number)"),
      ("(function() n.ones(2).requires_grad = 1 end)()", "Tensor.requires_grad must be a boolean, got number"),
      (
        "(function() n.tensor({ 1 }, { dtype = 'i64' }).requires_grad = true end)()",
        "requires_grad: dtype i64 is not supported, expected f32 or bf16 or f16"
      ),
      ("n.optim.sgd({ n.ones(2) }, { lr = 1 })", "no step would change parameter 1: its requires_grad is false"),
      ("n.optim.sgd({ trained(), trained() * 2 }, { lr = 1 })", "parameter 2: it is the result of operations"),
      (
        "(function() local x = n.ones(2):to 'bf16'; x.requires_grad = true; n.optim.sgd({ x }, { lr = 1 }) end)()",
        "parameter.0 is bf16; trained parameters are f32"
      ),
      (
        "(function() local x = n.ones(2, 3):t(); x.requires_grad = true; n.optim.sgd({ x }, { lr = 1 }) end)()",
        "parameter.0 is a view with gaps"
      ),
      ("(function() local x = trained(); n.optim.sgd({ x, x }, { lr = 1 }) end)()", "parameter.1 is given twice"),
      ("(function() n.ones(2).grad = 1 end)()", "Tensor.grad must be nil, which forgets the gradient, got number"),
      (
        "(function() n.optim.sgd({ trained() }, { lr = 1 }).lr = 'x' end)()",
        "Optimizer.lr must be a number, got string"
      ),
      ("(function() n.optim.sgd({ trained() }, { lr = 1 }).lr = -1 end)()", "lr: -1.0 is no learning rate"),
    ]
    let head = """
      local n = require 'qlora.native'
      local function trained() local x = n.ones(2); x.requires_grad = true; return x end
      """
    for (code, message) in cases {
      let chunk = try state.load(Array("\(head)\nreturn \(code)".utf8), chunkName: "=test")
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
