-- Merge: add an adapter into its model, after measuring what each way to store the result loses.
--
--   qlora-run merge.lua
--   qlora-run --set target=requantized merge.lua
--
-- Expected: 60 MB, 5 seconds. Without `adapter` one is trained on the tiny model first. The table shows each target
-- against the live adapter on held-out samples; the recommended one is written. A target that loses the adapter is an
-- error.
local qlora = require "qlora"
local world = require "qlora.world"

local p = qlora.params {
  model = qlora.resource "models/tiny", adapter = "", data = "", original = "", target = "auto", out = "out/merged",
  samples = 16, max_length = 256,
}

local adapter = p.adapter ~= "" and p.adapter or nil
local model = qlora.load(p.model, { quant = "nf4", double_quant = true, adapter = adapter })

local held_out
if p.data ~= "" then
  held_out = qlora.data.load(p.data, { tokenizer = model.tokenizer, max_length = p.max_length })
else
  local function load(count, seed)
    return qlora.data.load(world.scenes(count, seed), {
      format = function(scene)
        local answer = (" Who: %s | What: %s | Where: %s"):format(scene.who, scene.did, scene.where)
        return { { text = scene.sentence .. "\nSummary:" }, { text = answer, train = true } }
      end,
      tokenizer = model.tokenizer, max_length = p.max_length,
    })
  end
  held_out = load(p.samples, 1000)
  if p.adapter == "" then
    model:add_lora { select = "all-linear", rank = 8, alpha = 16 }
    qlora.train {
      model = model, data = load(800, 0), optimizer = qlora.optim.adamw(model:trainable(), { lr = 4e-3 }),
      batch = 16, micro_batch = 16, steps = 40, max_grad_norm = 1.0,
    }
  end
end

local result = qlora.merge(model, held_out, {
  target = p.target, out = p.out, limit = p.samples, original = p.original ~= "" and p.original or nil,
})
print(("wrote %s (%s)"):format(qlora.native.place_to_read(p.out), result.written or "nothing"))
