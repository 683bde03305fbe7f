--- Needs the engine: see run_engine.lua.
local t = require "harness"
local qlora = require "qlora"

local root = os.tmpname()
os.remove(root)
qlora.native.mkdir(root)

--- A quantized tiny model with adapters of this strength, and texts for it.
local function adapted(strength)
  qlora.seed(5)
  local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4", compute = "f32", quiet = true })
  model:add_lora { select = "all-linear", rank = 2, alpha = 4 }
  for module in model:modules() do
    if module.adapter then module.adapter.b[{ {}, {} }] = qlora.randn(module.out_features, 2) * strength end
  end
  local data = qlora.data.load({ { text = "At the market, Rosa the fisher dropped a kite." }, { text = "In the morning" } },
    { format = "completion", tokenizer = model.tokenizer })
  return model, data
end

t.test("a merge measures each target, writes the nearest and changes nothing", function()
  local model, data = adapted(0.1)
  local before = model:logits("In the morning"):totable()
  local result = qlora.merge(model, data, { out = root .. "/merged", quiet = true })
  t.equal({ result.recommended, result.written }, { "dequantized", "dequantized" })
  local rows = {}
  for _, row in ipairs(result.rows) do rows[row.target] = row end
  assert(rows.dequantized.kl < rows.requantized.kl and rows.dequantized.kept > 0.99, rows.dequantized.kl)
  assert(rows.requantized.changed_codes > 0 and rows.requantized.codes > rows.requantized.changed_codes)
  t.equal(rows.dequantized.codes, 0)
  t.equal(model:logits("In the morning"):totable(), before)
  -- What is said of the target is true of what was written.
  local saved = qlora.load(root .. "/merged", { compute = "f32", quiet = true })
  local distance = qlora.eval.compare(model, saved, data)
  t.close(distance.kl, rows.dequantized.kl, 1e-6 + 1e-3 * rows.dequantized.kl)
  t.close(distance.perplexity[2], rows.dequantized.perplexity, 1e-6 * rows.dequantized.perplexity)
  t.close(distance.perplexity[1], result.perplexity, 1e-6 * result.perplexity)
  t.close((qlora.eval.perplexity(model, data)), result.perplexity, 1e-6 * result.perplexity)
end)

t.test("a merge that loses the adapter is refused", function()
  local model, data = adapted(1e-4)
  local result = qlora.merge(model, data, { quiet = true })
  local requantized = result.rows[3]
  assert(requantized.kept < 0.5, requantized.kept)
  t.raises(function()
    qlora.merge(model, data, { out = root .. "/lost", target = "requantized", quiet = true })
  end, "requantized lost the adapter")
  assert(not pcall(qlora.load, root .. "/lost", { quiet = true }))
  -- What cannot be measured is a row with the reason.
  local nowhere = root .. "/nowhere"
  local problem = qlora.merge(model, data, { original = nowhere, quiet = true }).rows[1].problem
  assert(problem:find("^quantization error: " .. nowhere:gsub("%p", "%%%0")), problem)
  model:remove_adapters()
  t.raises(function() qlora.merge(model, data, { quiet = true }) end, "no adapters")
end)

t.test("compare takes base, adapter and merged on both sides", function()
  local model, data = adapted(0.1)
  local merged = model:merged_weights "requantized"
  local forth = qlora.eval.compare("base", merged, data)
  local back = qlora.eval.compare(merged, "base", data)
  t.equal({ forth.perplexity[1], forth.perplexity[2] }, { back.perplexity[2], back.perplexity[1] })
  assert(forth.kl > 0 and back.kl > 0 and #forth.kls == 2)
  t.raises(function() qlora.eval.compare("base", "base", data) end, "only one of both")
end)
