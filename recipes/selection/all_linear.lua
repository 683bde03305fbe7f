-- All linear: LoRA on every linear layer, which the QLoRA paper found to matter more than the rank.
--
--   qlora-run selection/all_linear.lua
--   qlora-run --set model=meta-llama/Llama-3.1-8B --plan selection/all_linear.lua
--
-- Expected: 40 MB and a second on the tiny model, loss from 10 to below 1 in 60 steps. All seven matrices of every
-- layer get an adapter. The output embedding gets none.
local qlora = require "qlora"
local world = require "qlora.world"

local p = qlora.params {
  model = qlora.resource "models/tiny", data = "", format = "input_output", rank = 8, alpha = 16, lr = 4e-3, steps = 60,
}
local model = qlora.load(p.model, { quant = "nf4" })

-- The same in three ways: PEFT's word, a helper, a function. Each may be given to add_lora.
local by_function = function(m) return m.kind == "linear" and m.layer ~= nil end
local by_helper = model:preview_lora(qlora.select.all_linear())
assert(model:preview_lora(by_function).modules == by_helper.modules)

model:add_lora { select = "all-linear", rank = p.rank, alpha = p.alpha }

local data = qlora.data.load(p.data ~= "" and p.data or world.records(200, 0), {
  format = p.format, tokenizer = model.tokenizer, max_length = 128,
})
qlora.train {
  model = model, data = data, optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr }),
  batch = 8, micro_batch = 8, steps = p.steps, max_grad_norm = 1.0,
}
