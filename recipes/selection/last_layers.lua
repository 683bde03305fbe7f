-- Last layers: adapters in the last n decoder layers only. The backward pass stops at the first of them.
--
--   qlora-run --set last=2 selection/last_layers.lua
--
-- Expected: 40 MB and a second on the tiny model. Fewer layers train fewer parameters and save the backward pass below
-- them. Measure what that costs in quality.
local qlora = require "qlora"
local world = require "qlora.world"

local p = qlora.params {
  model = qlora.resource "models/tiny", data = "", format = "input_output", rank = 16, alpha = 32, lr = 4e-3,
  steps = 60, last = 3,
}
local model = qlora.load(p.model, { quant = "nf4" })
local select = qlora.select

-- `*` is both: linear layers other than the head, and within the last n. Layer numbers are those in the tensor names,
-- so select.layers { only = { 0 } } is the first layer.
model:add_lora { select = select.all_linear() * select.layers { last = p.last }, rank = p.rank, alpha = p.alpha }

local data = qlora.data.load(p.data ~= "" and p.data or world.records(200, 0), {
  format = p.format, tokenizer = model.tokenizer, max_length = 128,
})
qlora.train {
  model = model, data = data, optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr }),
  batch = 8, micro_batch = 8, steps = p.steps, max_grad_norm = 1.0,
}
