import Foundation
import Testing

/// Adapters in Lua under `--sandbox`: the library looks up what a recipe's functions use, and gives nobody else the
/// means.
@Suite struct SandboxedAdapterTests {
  private func run(_ body: String) throws -> Program.Outcome {
    let directory = try Program.temporaryDirectory()
    let recipe = """
      local qlora = require "qlora"
      local model = qlora.load(qlora.resource "models/tiny", { compute = "f32" })
      \(body)
      """
    try recipe.write(to: directory.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
    return try Program.run(["--quiet", "--sandbox", "r.lua"], in: directory)
  }

  @Test func anAdapterUsesWhatIsOutsideAndIsSaved() throws {
    let outcome = try run(
      """
      assert(not debug.getupvalue and not string.dump)
      local rank, scale = 4, { up = 2.0 }
      local function branch(x, p) return x:matmul(p.A:t()):matmul(p.B:t()) * scale.up end
      local definition = {
        parameters = function(m)
          return { A = qlora.randn(rank, m.in_features) / m.in_features ^ 0.5, B = qlora.zeros(m.out_features, rank) }
        end,
        forward = function(x, base, p) return base + branch(x, p) end,
      }
      model:add_adapter_module({ "q_proj" }, definition)
      local before = model:logits "In the morning"
      scale.up = 3.0
      model:save_adapter "runs/mine"
      model:remove_adapters()
      assert(model:load_adapter_module("runs/mine", definition) > 0)
      local text = assert(io.open "runs/mine/adapter.lua"):read "a"
      assert(text:find('["up"] = 0x1.8p+1', 1, true), text)
      print(#text > 0 and "saved")
      """)
    #expect(outcome.code == 0 && outcome.output.contains("saved"), "\(outcome.errors)")
  }

  @Test func nobodyElseGetsTheMeans() throws {
    let outcome = try run(
      """
      local source, upvalues = require "qlora.scripted_source", require "qlora.upvalues"
      for _, f in ipairs { source.of, upvalues.get, print, require, qlora.load, string.rep } do
        for i = 1, 3 do
          local ok, why = pcall(upvalues.get, f, i)
          assert(not ok and why:find "functions of a recipe", why)
        end
      end
      -- Globals and methods that a recipe has replaced see what the library looks at.
      local seen, kept = {}, { type = type, getmetatable = getmetatable, tostring = tostring, rawget = rawget }
      for name, f in pairs(kept) do _G[name] = function(...) seen[#seen + 1] = { ... } return f(...) end end
      for _, victim in ipairs { source.of, upvalues.get, upvalues.have_alike_code, model.add_adapter_module } do
        pcall(source.of, "test", { parameters = victim, forward = victim })
        pcall(source.of, "test", { parameters = function() return victim end, forward = function() return victim end })
      end
      for name, f in pairs(kept) do _G[name] = f end
      local secret = {}
      local function holder() return secret end
      for _, values in ipairs(seen) do
        for _, value in pairs(values) do
          if type(value) == "function" and value ~= upvalues.get then
            local ok, name, found = pcall(value, holder, 1)
            assert(not (ok and found == secret), name)
          end
        end
      end
      print "kept"
      """)
    #expect(outcome.code == 0 && outcome.output.contains("kept"), "\(outcome.errors)")
  }
}
