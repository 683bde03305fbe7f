import LuaRuntime
import Testing

@testable import LuaBindings

/// Every number that a Lua program gives has a range: outside of it, and NaN, are errors with the name, the value and
/// the range, also where Swift's arithmetic would overflow.
@Suite struct NumberRangeTests {
  private static let setup = """
    local qlora, n = require "qlora", require "qlora.native"
    n.options.quiet = true
    local nan, most, least = 0 / 0, math.maxinteger, math.mininteger
    local function model()
      local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4" })
      model:add_lora { select = { "q_proj" }, rank = 2 }
      return model
    end
    local function generate(o) return model():generate("a", o) end
    local function data()
      local tokenizer = n.tokenizer.load(n.resource "models/tiny")
      return qlora.data.load({ { input = "a", output = "b" }, { input = "c", output = "d" } }, \
    { tokenizer = tokenizer })
    end
    local function train(o)
      local model = model()
      o.model, o.data, o.optimizer = model, data(), qlora.optim.sgd(model:trainable(), { lr = 1e-3 })
      return qlora.train(o)
    end
    local rows = { { ids = { 1, 2, 3 } } }
    """

  private func message(_ code: String) throws -> String {
    let (state, _) = try makeState()
    defer { state.close() }
    do {
      _ = try state.load(Array("\(Self.setup)\nreturn \(code)".utf8), chunkName: "=test").call()
      return "no error"
    } catch { return String(describing: error) }
  }

  @Test(arguments: [
    ("generate { temperature = -1 }", "'temperature' must be a number of at least 0, got -1"),
    ("generate { temperature = nan }", "'temperature' must be a number of at least 0, got nan"),
    ("generate { temperature = math.huge }", "'temperature' must be a finite number of at least 0, got inf"),
    ("generate { top_p = 1.5 }", "'top_p' must be a number in [0, 1], got 1.5"),
    ("generate { top_p = nan }", "'top_p' must be a number in [0, 1], got nan"),
    ("generate { top_k = -1 }", "'top_k' must be a whole number of at least 0, got -1"),
    ("generate { top_k = most }", "'top_k' must be a whole number from 0 to 2147483647, got 9223372036854775807"),
    ("generate { max_new_tokens = -5 }", "'max_new_tokens' must be a whole number of at least 0, got -5"),
    ("generate { max_new_tokens = 1.5 }", "'max_new_tokens' must be a whole number of at least 0, got 1.5"),
  ]) func sampling(code: String, expected: String) throws { #expect(try message(code).contains(expected)) }

  @Test(arguments: [
    ("qlora.schedule.cosine(0)", "whole number of at least 1, got 0"),
    ("qlora.schedule.linear(nan)", "whole number of at least 1, got nan"),
    ("qlora.schedule.warmup(1e300)", "whole number of at least 1, got 1e+300"),
    ("qlora.schedule.warmup(5, 3)", "expected a schedule that follows"),
    ("qlora.schedule.cosine(5, { floor = nan })", "'floor' must be a finite number, got nan"),
    ("qlora.schedule.cosine(5, { floor = -0.1 })", "'floor' must be at least 0 and at most 1, got -0.1"),
    ("qlora.schedule.linear(5, { floor = 2 })", "'floor' must be at least 0 and at most 1, got 2"),
    ("train { steps = 1, batch = 1, schedule = function() return nan end }", "factor at step 1 is nan"),
    ("train { steps = 1, batch = 1, schedule = function() return -1 end }", "factor at step 1 is -1"),
    ("train { steps = 1, batch = 1, schedule = function() end }", "factor at step 1 is nil"),
    ("train { steps = most }", "'steps' must be a whole number from 1 to 2147483647, got 9223372036854775807"),
    ("train { epochs = math.huge }", "'epochs' must be a finite number above 0, got inf"),
    ("train { epochs = nan }", "'epochs' must be a number above 0, got nan"),
    ("train { max_grad_norm = math.huge }", "'max_grad_norm' must be a finite number above 0, got inf"),
    ("train { batch = 0 }", "'batch' must be a whole number of at least 1, got 0"),
    ("train { save_every = -1 }", "'save_every' must be a whole number of at least 1, got -1"),
    ("train { eval_every = 0.5 }", "'eval_every' must be a whole number of at least 1, got 0.5"),
    ("train { checkpointing = most }", "'checkpointing' must be a boolean or a whole number from 1 to 2147483647"),
  ]) func trainingAndSchedules(code: String, expected: String) throws { #expect(try message(code).contains(expected)) }

  @Test(arguments: [
    ("n.batch(rows, { step = 1, micro = most })", "'micro' must be a whole number from 0 to 1073741823, got 92233720"),
    ("n.batch(rows, { step = least })", "'step' must be a whole number from 0 to 4294967295, got -9223372036854775808"),
    ("n.batch(rows, { micro = 1 })", "micro counts the batches of a step; give step too"),
    ("n.batch(rows, { denominator = 0 })", "'denominator' must be a whole number of at least 1, got 0"),
    (
      "data().samples:micro_batches({ 1 }, most, 1)",
      "(whole number from 1 to 2147483647 expected, got size = 922337203"
    ),
    ("data().samples:micro_batches({ 1 }, 1, -1)", "(whole number from 0 to 4294967295 expected, got step = -1)"),
    ("data().samples:windows(1)", "(whole number of at least 2 expected, got length = 1)"),
    ("data():split(nan)", "expected a fraction below 1 or a whole number of samples below 2, got nan"),
    ("data():split(1.5)", "expected a fraction below 1 or a whole number of samples below 2, got 1.5"),
    ("model():attention('a', least)", "(whole number of at least 0 expected, got layer = -9223372036854775808)"),
    ("model():tree(-1)", "(whole number of at least 1 expected, got depth = -1)"),
    (
      "model():plan_step { batch = 1, length = most }", "'length' must be a whole number from 1 to 1048576, got 9223372"
    ),
  ]) func batchesAndModels(code: String, expected: String) throws { #expect(try message(code).contains(expected)) }

  @Test(arguments: [
    ("qlora.optim.adamw(model():trainable(), { lr = nan })", "'lr' must be a number above 0, got nan"),
    ("qlora.optim.adamw(model():trainable(), { lr = math.huge })", "'lr' must be a finite number above 0, got inf"),
    (
      "qlora.optim.adamw(model():trainable(), { lr = 1, weight_decay = -1 })",
      "'weight_decay' must be at least 0, got -1"
    ),
    (
      "qlora.optim.adamw(model():trainable(), { lr = 1, betas = { 0.9, nan } })",
      "betas[2] is nan, expected a number in"
    ),
    (
      "qlora.optim.sgd(model():trainable(), { lr = 1, momentum = 1 })",
      "'momentum' must be at least 0 and below 1, got 1"
    ),
    ("n.gradient_norm({}, nan)", "(number above 0 expected, got max = nan)"),
    ("model():add_lora { select = 'all-linear', rank = most }", "'rank' must be a whole number from 1 to 2147483647"),
    (
      "model():add_lora { select = 'all-linear', rank = 4, dropout = nan }",
      "'dropout' must be a finite number, got nan"
    ),
    (
      "model():add_lora { select = 'all-linear', rank = 4, dropout = 1 }",
      "'dropout' must be at least 0 and below 1, got 1"
    ),
    ("model():add_lora { select = 'all-linear', rank = 4, alpha = 1e999 }", "'alpha' must be a finite number above 0"),
    ("qlora.select.by_score({ a = 1 }, { rank = 4, min = 9, max = 8 })", "min is 9, expected at most max, which is 8"),
    ("qlora.select.by_score({ a = 1e308, b = 1e308 }, { rank = 4 })", "the scores add up to infinity"),
    (
      "model():add_lora { select = qlora.select.layers { between = { 0, most } }, rank = 2 }",
      "layer 9223372036854775807 does not exist"
    ),
  ]) func optimizersAndSelections(code: String, expected: String) throws {
    #expect(try message(code).contains(expected))
  }

  @Test(arguments: [
    ("n.zeros(most, most)", "has too many elements"),
    ("n.zeros(0, most)", "has too many elements"),
    ("n.zeros(0, 1 << 40, 1 << 40)", "has too many elements"),
    ("n.zeros(2, -1)", "has a negative dimension"),
    ("n.zeros(2):view(0, most)", "has too many elements"),
    ("n.zeros(2):view(-1, 1 << 62, 4)", "has too many elements"),
    ("n.zeros(4):narrow(1, 2, most)", "length is 9223372036854775807, expected 0 to 3 from element 2 on"),
    ("n.zeros(4):narrow(1, most, 1)", "index 9223372036854775807 is outside 1..4"),
    ("n.zeros(4)[least]", "index -9223372036854775808 is outside 1..4"),
    ("n.zeros(4)[{ { most, most } }]", "index 9223372036854775807 is outside 1..4"),
    ("n.zeros(4):size(least)", "dimension -9223372036854775808 does not exist"),
    ("n.zeros(4):topk(5)", "topk: k is 5, expected 1 to 4"),
    ("n.zeros(4):topk(most)", "(whole number from 1 to 2147483647 expected, got k = 9223372036854775807)"),
    ("n.zeros(4):histogram { bins = 0 }", "'bins' must be a whole number from 1 to 4096, got 0"),
    ("n.zeros(4):histogram { low = nan }", "'low' must be a finite number, got nan"),
    ("n.zeros(4):histogram { low = 1, high = 1 }", "low is 1.0, expected a number below high, 1.0"),
    ("n.eye(most)", "(whole number from 0 to 32768 expected, got size = 9223372036854775807)"),
    ("n.arange(nan)", "(finite number expected, got start = nan)"),
    ("n.arange(0, 1, 0)", "a range of fewer than 10^9 numbers"),
    ("n.threads(0)", "(whole number from 1 to 1024 expected, got count = 0)"),
    ("n.randn(64):quantize { block = most }", "'block' must be a whole number from 32 to 4096, got 922337203685477580"),
    ("n.tensor({ 300 }, { dtype = 'u8' })", "300 is no u8; a whole number from 0 to 255 expected"),
    ("n.tensor({ 1.5 }, { dtype = 'i64' })", "1.5 is no i64"),
    ("n.tensor({ nan }, { dtype = 'i32' })", "nan is no i32"),
    ("n.tensor({ 1 }, { dtype = 'i32' }):fill_(1 << 31)", "2147483648 is no i32"),
    ("n.tensor({ 1 }, { dtype = 'i64' }):add_(1)", "add_: dtype i64 is not supported"),
    ("n.exit(256)", "(whole number from 0 to 255 expected, got code = 256)"),
  ]) func tensors(code: String, expected: String) throws { #expect(try message(code).contains(expected)) }

  @Test(arguments: [
    ("qlora.plot.sparkline({ 1, 2 }, 0)", "width must be a whole number of at least 1, got 0"),
    ("qlora.plot.sparkline({ 1, 'a' })", "value 2 is \"a\", expected a number"),
    ("qlora.plot.curves { { name = 'a', points = { { nan, 1 } } } }", "point 1 of a is { nan, 1 }, expected { x, y }"),
    ("qlora.plot.lines({ 1, 'x' })", "value 2 is \"x\", expected a number"),
    ("qlora.plot.lines({ 1, 2 }, { width = most })", "'width' must be a whole number from 1 to 2147483647"),
    ("qlora.plot.lines({ 1, 2 }, { height = 100000 })", "'height' must be at most 1000, got 100000"),
    ("qlora.plot.lines({ 1, 2 }, { from = nan })", "'from' must be a finite number, got nan"),
    ("qlora.plot.heatmap(n.eye(3), { low = 2, high = 1 })", "low is 2, expected a number below high, 1"),
    ("qlora.plot.histogram(n.eye(3), { bins = 0 })", "'bins' must be a whole number of at least 1, got 0"),
  ]) func plots(code: String, expected: String) throws { #expect(try message(code).contains(expected)) }

  /// What is in range is taken to the last number.
  @Test func theBoundsThemselvesAreTaken() throws {
    #expect(
      try message(
        """
        (function()
          n.batch(rows, { step = (1 << 32) - 1, micro = (1 << 30) - 1 })
          assert(n.tensor({ 16777217, most, least }, { dtype = "i64" })[1]:item() == 16777217)
          local t = n.tensor({ 0, most, least }, { dtype = "i64" })
          assert(t[2]:item() == most and t[3]:item() == least)
          t[1] = (1 << 53) + 1
          assert(t[1]:item() == (1 << 53) + 1 and t:fill_(most)[1]:item() == most)
          assert(n.tensor({ 255, 0 }, { dtype = "u8" })[1]:item() == 255)
          assert(n.tensor({ { 1, 2 }, { 3, 4 } }, { dtype = "i32" })[{ 2, 1 }]:item() == 3)
          assert(n.full({ 2 }, nan)[1]:item() ~= 0 and (n.ones(1) * math.huge):item() == math.huge)
          assert(generate { temperature = 1e-300, top_k = 5, top_p = 0, max_new_tokens = 1, seed = least } ~= nil)
          assert(#generate { max_new_tokens = 0 } == 0 and n.gradient_norm({}, math.huge) == 0)
          return error "all is well"
        end)()
        """
      ).contains("all is well"))
  }
}
