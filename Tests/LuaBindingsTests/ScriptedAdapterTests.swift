import Foundation
import LuaRuntime
import Tensors
import Testing

@testable import LuaBindings

/// Adapters that are written in Lua, on the tiny model that ships and on a GGUF file that is computed with as it is.
@Suite(.serialized) struct ScriptedAdapterTests {
  private func run(_ program: String, _ arguments: [String] = []) throws -> ([LuaValue], Engine) {
    let (state, engine) = try makeState()
    let head = """
      local qlora = require "qlora"
      qlora.native.options.quiet = true
      local function rows(step)
        local ids = {}
        for i = 1, 24 do ids[i] = (i * i * 7 + 31 * step) % 200 + 3 end
        return { { ids = ids } }
      end
      -- Losses of steps of two micro-batches.
      local function train(model, steps, lr)
        local optimizer, losses = qlora.optim.adamw(model:trainable(), { lr = lr or 2e-3 }), {}
        for step = 1, steps do
          optimizer:zero_grad()
          losses[step] = 0.0
          for part = 1, 2 do
            local loss = model:loss(qlora.data.batch(rows(2 * step + part)))
            loss:backward()
            losses[step] = losses[step] + loss:item() / 2
          end
          optimizer:step { grad_scale = 0.5 }
        end
        return losses
      end
      local function same(a, b)
        for i = 1, #a do if a[i] ~= b[i] then return false end end
        return #a == #b and #a > 0
      end

      """
    let results = try state.load(Array((head + program).utf8), chunkName: head + program).call(
      arguments.map { .string($0) })
    return (results, engine)
  }

  private func temporary() -> String {
    FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
  }

  @Test(arguments: ["plain", "checkpointing", "kept"])
  func aScriptedLoRAIsTheBuiltInOne(form: String) throws {
    let kept = packageRoot + "/Tests/Fixtures/formats/kept.gguf"
    let (results, _) = try run(
      """
      local form, kept = ...
      local path = form == "kept" and kept or qlora.resource "models/tiny"
      local model = qlora.load(path, { quant = form == "kept" and "keep" or "nf4", compute = "f32", quiet = true })
      model:checkpointing(form == "checkpointing")
      local scale = 2.0
      model:add_lora { select = "all-linear", rank = 4, alpha = 8, name = "own" }
      model:add_adapter_module("all-linear", {
        name = "scripted",
        parameters = function(m) return { A = m.adapter.a:clone(), B = qlora.zeros(m.out_features, 4) } end,
        forward = function(x, base, p)
          return base + x:matmul(p.A:t()):matmul(p.B:t()) * scale
        end,
      })
      assert(model:adapters()[1].parameters == model:adapters()[2].parameters)
      model:use_adapters "own"
      local own = train(model, 20)
      model:use_adapters "scripted"
      local scripted, worst = train(model, 20), 0
      for i = 1, 20 do worst = math.max(worst, math.abs(own[i] - scripted[i])) end
      return worst, own[1] - own[20]
      """, [form, kept])
    let (worst, fall) = (try #require(results[0].asDouble), try #require(results[1].asDouble))
    #expect(worst < 1e-5 && fall != 0, "\(worst), the loss fell by \(fall)")
  }

  /// Random numbers inside are those of the pass, so a layer that is recomputed draws them again.
  @Test func recomputingDrawsTheSameNumbers() throws {
    let (results, _) = try run(
      """
      local found = {}
      for i, checkpointing in ipairs { false, true, 2 } do
        local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4", compute = "f32", quiet = true })
        model:checkpointing(checkpointing)
        qlora.seed(5)
        model:add_adapter_module({ "q_proj", "down_proj" }, {
          parameters = function(m)
            return { A = qlora.randn(2, m.in_features) * 0.1, B = qlora.randn(m.out_features, 2) * 0.1 }
          end,
          forward = function(x, base, p, training)
            if training then x = x * qlora.rand(x:shape()):ge(0.2) / 0.8 end
            return base + x:matmul(p.A:t()):matmul(p.B:t())
          end,
        })
        found[i] = train(model, 3)
        found[i][4] = model:trainable()[1]:square():sum():item()
      end
      return same(found[1], found[2]), same(found[1], found[3]), found[1][1] ~= found[1][2]
      """)
    #expect(results.map(\.asBool) == [true, true, true])
  }

  @Test(arguments: ["false", "true"])
  func thePlanCountsWhatTheFunctionsAllocate(checkpointing: String) throws {
    let (results, engine) = try run(
      """
      local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4", quiet = true })
      model:checkpointing(... == "true")
      model:add_adapter_module("all-linear", {
        parameters = function(m)
          return { A = qlora.randn(8, m.in_features) * 0.1, B = qlora.zeros(m.out_features, 8), \
      g = qlora.zeros(m.out_features) }
        end,
        forward = function(x, base, p)
          local h = x:matmul(p.A:t()):silu()
          return base * (1 + p.g:tanh()) + h:matmul(p.B:t()) * h:max(2):view(-1, 1)
        end,
      })
      local plan = model:plan_step { batch = 1, length = 200, time = false }
      local ids = {}
      for i = 1, 200 do ids[i] = i % 250 + 3 end
      for _ = 1, 3 do model:loss(qlora.data.batch { { ids = ids } }):backward() end
      return plan.activation_bytes, plan.trainable, plan.adapter_bytes
      """, [checkpointing])
    let planned = try #require(results[0].asDouble)
    let measured = Double(engine.backend.memory.highest(.activations))
    #expect(abs(planned / measured - 1) < 0.03, "planned \(planned), measured \(measured)")
    let trained = try #require(results[1].asInt)
    #expect(trained > 100_000 && results[2].asInt == 4 * trained)
  }

  @Test func whatIsSavedIsReadOnlyWithItsDefinition() throws {
    let directory = temporary()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let (results, _) = try run(
      """
      local directory = ...
      local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4", compute = "f32", quiet = true })
      local function definition(scale, name)
        local limits = { low = -1, list = { 2, "three" } }
        local function bounded(y) return y:maximum(limits.low * 1e9) end
        return {
          name = name,
          parameters = function(m) return { gain = qlora.full({ m.out_features }, 1) } end,
          forward = function(x, base, p)
            return bounded(base) * p.gain * scale
          end,
        }
      end
      model:add_adapter_module({ "q_proj", "up_proj" }, definition(1.0))
      train(model, 3)
      model:save_adapter(directory)
      local before = model:logits { 5, 6, 7 }
      local function difference() return (model:logits { 5, 6, 7 } - before):abs():max():item() end
      local read, why = pcall(model.add_adapter, model, directory, { name = "a" })
      assert(not read and why:find("is a program", 1, true) and why:find("load_adapter_module", 1, true), why)
      read, why = pcall(model.load_adapter_module, model, directory, definition(2.0, "b"))
      assert(not read and why:find("other values", 1, true) and why:find("adapter.lua", 1, true), why)
      assert(#model:adapters() == 1)
      assert(model:load_adapter_module(directory, definition(1.0, "c")) == 10 and difference() == 0)
      assert(not model:adapters()[2].trained)
      local read_source = dofile(directory .. "/adapter.lua")
      read_source.name, read_source.trainable = "d", true
      assert(model:load_adapter_module(directory, read_source) == 10 and difference() == 0)
      assert(model:adapters()[3].trained and #model:trainable() == 10)
      -- Another text beside the weights is not what was saved.
      local refused_save
      local file = io.open(directory .. "/adapter.lua", "rb")
      local text = file:read "a"
      file:close()
      file = io.open(directory .. "/adapter.lua", "a")
      file:write "-- more\\n"
      file:close()
      read, why = pcall(model.load_adapter_module, model, directory, definition(1.0, "e"))
      assert(not read and why:find("source_sha256", 1, true), why)
      -- What somebody changed stays; another adapter in the place of what is as it was leaves nothing of it.
      refused_save, why = pcall(model.save_adapter, model, directory)
      assert(not refused_save and why:find("adapter.lua", 1, true), why)
      file = io.open(directory .. "/adapter.lua", "w")
      file:write(text)
      file:close()
      model:remove_adapters()
      model:add_lora { select = { "q_proj" }, rank = 2, alpha = 4 }
      model:save_adapter(directory)
      assert(not io.open(directory .. "/adapter.lua"))
      read, why = pcall(model.load_adapter_module, model, directory, definition(1.0, "f"))
      assert(not read and why:find("peft_type is LORA", 1, true), why)
      return true
      """, [directory])
    #expect(results.first?.asBool == true)
  }

  /// What is linear in x and base becomes weight and bias, anything else is refused.
  @Test func whatIsLinearIsMerged() throws {
    let (results, _) = try run(
      """
      local function merged(forward)
        local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4", compute = "f32", quiet = true })
        qlora.seed(1)
        model:add_adapter_module({ "down_proj", "k_proj" }, {
          parameters = function(m)
            return { A = qlora.randn(2, m.in_features) * 0.1, B = qlora.randn(m.out_features, 2) * 0.1 }
          end,
          forward = forward,
        })
        local before = model:logits { 5, 6, 7 }
        local norm = pcall(model.adapter_norms, model)
        local ok, why = pcall(model.merge, model)
        return ok, why, (model:logits { 5, 6, 7 } - before):abs():max():item(), norm
      end
      local linear, why, difference = merged(function(x, base, p)
        return base * 1.5 + x:matmul(p.A:t()):matmul(p.B:t())
      end)
      assert(linear, why)
      local bent, reason, kept = merged(function(x, base, p)
        return base + x:matmul(p.A:t()):tanh():matmul(p.B:t())
      end)
      local shifted, missing = merged(function(x, base, p)
        return base + p.B:sum()
      end)
      assert(not shifted and missing:find("linearly", 1, true), missing)
      return difference, bent, reason, kept
      """)
    #expect(try #require(results[0].asDouble) < 1e-3)
    #expect(results[1].asBool == false && results[2].asString?.contains("linearly") == true)
    #expect(results[3].asDouble == 0)
  }

  /// Every mistake is an error that names the function and the module, and the model goes on as before.
  @Test func mistakesNameFunctionAndModule() throws {
    let (results, _) = try run(
      """
      local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4", compute = "f32", quiet = true })
      local first = "model.layers.0.self_attn.q_proj"
      local plain = model:logits { 5, 6, 7 }
      local kept
      local cases = {
        { "attempt to index a nil value", function(x, base, p)
          return p.none.x
        end },
        { "mine", function(x, base, p)
          error "mine"
        end },
        { "shape [24, 96], expected [24, 192]", function(x, base, p)
          return (base * p.g):narrow(2, 1, 96)
        end },
        { "a tensor of i64", function(x, base, p)
          return (base * p.g):to "i64"
        end },
        { "returned nothing", function(x, base, p)
          local _ = base * p.g
        end },
        { "returned a number", function(x, base, p)
          return 1
        end },
        { "no gradient reaches", function(x, base, p)
          return (base * p.g):detach()
        end },
        { "no gradient reaches", function(x, base, p)
          return (base * p.g):gt(0)
        end },
        { "yield", function(x, base, p)
          return coroutine.yield(base * p.g)
        end },
        { "form without _", function(x, base, p)
          return base:mul_(2) * p.g
        end },
        { "form without _", function(x, base, p)
          x[1] = 0
          return base * p.g
        end },
        { "it runs the model that it is a part of", function(x, base, p)
          rawget(_G, "M"):logits { 1 }
          return base * p.g
        end },
      }
      -- `model` is no value that can be saved, so that case hands it in as a global of its own.
      rawset(_G, "M", model)
      local count = 0
      for _, case in ipairs(cases) do
        local ok, why = pcall(model.add_adapter_module, model, { "q_proj" }, {
          parameters = function(m) return { g = qlora.ones(m.out_features) } end, forward = case[2] })
        assert(ok, why)
        local step = coroutine.wrap(function() return pcall(function()
          model:loss(qlora.data.batch(rows(1))):backward()
        end) end)
        ok, why = step()
        assert(not ok and why:find(case[1], 1, true) and why:find(first, 1, true) and why:find("forward on", 1, true),
          case[1] .. ": " .. tostring(why))
        assert(not case[1]:find "^returned" or why:find ":%d+: scripted adapter", why)
        count = count + 1
        model:remove_adapters()
        assert((model:logits { 5, 6, 7 } - plain):abs():max():item() == 0)
      end
      local bad = {
        { "returned nothing", function(m) end },
        { "made no tensor", function(m)
          return {}
        end },
        { "a Tensor under 1", function(m)
          return { qlora.ones(2) }
        end },
        { "a number under a", function(m)
          return { a = 1 }
        end },
        { "i64", function(m)
          return { a = qlora.ones(2):to "i64" }
        end },
        { "'a.b'", function(m)
          return { ["a.b"] = qlora.ones(2) }
        end },
        { "holds nothing", function(m)
          return { a = qlora.ones(0) }
        end },
        { "freed Tensor", function(m)
          local a = qlora.ones(2)
          a:free()
          return { a = a }
        end },
      }
      for _, case in ipairs(bad) do
        local ok, why = pcall(model.add_adapter_module, model, { "q_proj" }, { parameters = case[2],
          forward = function(x, base, p) return base end })
        assert(not ok and why:find(case[1], 1, true) and why:find("parameters on " .. first, 1, true),
          case[1] .. ": " .. tostring(why))
        assert(#model:adapters() == 0)
        count = count + 1
      end
      local outside = qlora.ones(3)
      local ok, why = pcall(model.add_adapter_module, model, { "q_proj" }, {
        parameters = function(m) return { a = outside } end,
        forward = function(x, base, p) return base * p.a end,
      })
      assert(not ok and why:find("local variable outside, a Tensor", 1, true), why)
      return count
      """)
    #expect(results.first?.asInt == 20)
  }

  /// What a function makes is freed when it returns, whatever the collector does; what outlives it is an error to use.
  /// Tensors that no gradient reaches stay as they are, which nobody would notice where others learn.
  @Test(arguments: ["", ":detach()"])
  func aTensorThatIsNotTrainedIsNamed(cut: String) throws {
    let (results, _) = try run(
      """
      local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4" })
      local data = qlora.data.load({ { text = "one two three four" } }, {
        format = "text", tokenizer = model.tokenizer, max_length = 16, quiet = true })
      local function attempt(cut)
        model:add_adapter_module({ "q_proj" }, {
          parameters = function(m)
            return { A = qlora.randn(2, m.in_features), B = qlora.zeros(m.out_features, 2), C = qlora.zeros(2) }
          end,
          forward = function(x, base, p) return base + (x:matmul(p.A:t()) + p.C)\(cut):matmul(p.B:t()) end,
        })
        return select(2, pcall(qlora.train, { model = model, data = data, steps = 1, batch = 1,
          optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3 }) }))
      end
      return tostring(attempt())
      """)
    let message = results.first?.asString ?? ""
    let named =
      "got no gradient in the first step, so they do not take part in the loss: "
      + "model.layers.0.self_attn.q_proj.A, model.layers.0.self_attn.q_proj.C"
    #expect(message.contains(named) == !cut.isEmpty, "\(message)")
    #expect(message.contains("or use them in forward where the adapter is in Lua") == !cut.isEmpty)
  }

  @Test func whatAFunctionMakesEndsWithIt() throws {
    let (results, engine) = try run(
      """
      local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4", compute = "f32", quiet = true })
      kept = nil
      model:add_adapter_module({ "q_proj" }, {
        parameters = function(m) return { g = qlora.ones(m.out_features) } end,
        forward = function(x, base, p)
          kept = base * 2
          for _ = 1, 50 do local _ = base * 3 end
          return base * p.g
        end,
      })
      collectgarbage "stop"
      local used = {}
      for i = 1, 3 do
        model:logits { 5, 6, 7, 8 }
        used[i] = qlora.memory().live
      end
      collectgarbage "restart"
      local ok, why = pcall(function() return kept + 1 end)
      return ok, why, #model:trainable(), used[3] - used[1]
      """)
    #expect(results[0].asBool == false && results[1].asString?.contains("freed Tensor") == true)
    #expect(results[2].asInt == 5)
    #expect(engine.script == nil)
  }

  /// What Lua folds into the code, or lies in a function around it, is not taken for the text of another.
  @Test func aTextThatIsNotThatOfTheFunctionIsRefused() throws {
    let directory = temporary()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    _ = try run(
      """
      local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4", compute = "f32", quiet = true })
      local function refused(what, definition, words)
        local ok, why = pcall(model.add_adapter_module, model, { "q_proj" }, definition)
        assert(not ok and why:find(words, 1, true), what .. ": " .. tostring(why))
        assert(#model:adapters() == 0)
      end
      local function ones(m) return { g = qlora.ones(m.out_features) } end
      local scale <const> = 2.0
      refused("folded", { parameters = ones, forward = function(x, base, p)
        return base * p.g * scale
      end }, "no <const> variable from outside")
      local function start(v) return function(m) return { g = qlora.full({ m.out_features }, v) } end end
      model:add_adapter_module({ "q_proj" }, { parameters = start(1.5), forward = function(x, base, p)
        return base * p.g
      end })
      local path = ...
      model:save_adapter(path)
      local text = io.open(path .. "/adapter.lua"):read "a"
      assert(text:find("local v = 0x1.8p+0", 1, true) and not text:find("function(v)", 1, true), text)
      model:remove_adapters()
      refused("weight", { parameters = function(m)
        return { weight = qlora.ones(m.out_features) }
      end, forward = function(x, base, p)
        return base * p.weight
      end }, "is what the module itself has")
      -- Linear for small inputs alone.
      model:add_adapter_module({ "down_proj" }, { parameters = ones, forward = function(x, base, p)
        return (base * p.g):minimum(16):maximum(-16)
      end })
      local ok, why = pcall(model.merge, model)
      assert(not ok and why:find("linearly", 1, true), why)
      """, [directory])
  }
}
