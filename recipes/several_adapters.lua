-- Several adapters on one base: train two, switch between them, go on with one, and make one of both.
--
--   qlora-run several_adapters.lua
--   qlora-run several_adapters.lua --set steps=100
--
-- Expected: 50 MB of memory, 5 seconds on two AVX-512 cores. Each adapter is good at its own form of summary and bad at
-- the other's; the combined one lies between.
local qlora = require "qlora"
local world = require "qlora.world"

local p = qlora.params { model = qlora.resource "models/tiny", rank = 8, lr = 4e-3, steps = 60, out = "out/several" }
local model = qlora.load(p.model, { quant = "nf4", double_quant = true })

-- Two forms of the same summary.
local forms = {
  who = function(scene) return (" Who: %s | What: %s"):format(scene.who, scene.did) end,
  where = function(scene) return (" Place: %s / Person: %s"):format(scene.where, scene.who) end,
}
local function load(form, count, seed)
  return qlora.data.load(world.scenes(count, seed), {
    format = function(scene)
      return { { text = scene.sentence .. "\nSummary:" }, { text = forms[form](scene), train = true } }
    end,
    tokenizer = model.tokenizer, max_length = 96,
  })
end

-- An adapter that is added is in use alone, so each is trained without the other.
local function train(form, steps)
  qlora.train {
    model = model, data = load(form, 400, 0), optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr }),
    schedule = qlora.schedule.cosine(steps), steps = steps, batch = 8, micro_batch = 8, max_grad_norm = 1.0,
  }
end
for _, form in ipairs { "who", "where" } do
  model:add_lora { select = "all-linear", rank = p.rank, alpha = 2 * p.rank, name = form, quiet = true }
  train(form, p.steps)
end

-- Going on with the first: a new optimizer over what is in use.
model:use_adapters "who"
train("who", p.steps // 2)

-- One adapter of both, of the rank of both together. Nothing is lost: it is the weighted sum.
model:combine_adapters("both", { who = 0.5, where = 0.5 })
local unseen = { who = load("who", 20, 1000), where = load("where", 20, 1000) }
for _, adapter in ipairs(model:adapters()) do
  local row = { adapter.name }
  for _, form in ipairs { "who", "where" } do
    local loss = model:with_adapters(adapter.name, function()
      return select(2, qlora.eval.perplexity(model, unseen[form]))
    end)
    row[#row + 1] = ("loss on %s %.3f"):format(form, loss)
  end
  print(table.concat(row, "  "))
  model:save_adapter(p.out .. "/" .. adapter.name, { name = adapter.name })
end
