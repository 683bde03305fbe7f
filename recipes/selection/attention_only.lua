-- Attention only: query and value as in the first LoRA papers, or all four matrices.
--
--   qlora-run selection/attention_only.lua
--   qlora-run --set roles=q_proj,v_proj selection/attention_only.lua
--
-- Expected: 40 MB and a second on the tiny model. At the same rank the loss ends a little higher than with all linear
-- layers, with two fifths of the trained parameters.
local qlora = require "qlora"
local world = require "qlora.world"

local p = qlora.params {
  model = qlora.resource "models/tiny", data = "", format = "input_output", rank = 8, alpha = 16, lr = 4e-3, steps = 60,
  roles = { "q_proj", "k_proj", "v_proj", "o_proj" }, -- matched as PEFT's target_modules: whole name or dotted suffix
}
local model = qlora.load(p.model, { quant = "nf4" })

-- As a regular expression for the whole dotted name, this would be [[.*\.(q|k|v|o)_proj]]; as a helper,
-- qlora.select.attention(), which knows the names other families use.
model:add_lora { select = p.roles, rank = p.rank, alpha = p.alpha }

local data = qlora.data.load(p.data ~= "" and p.data or world.records(200, 0), {
  format = p.format, tokenizer = model.tokenizer, max_length = 128,
})
qlora.train {
  model = model, data = data, optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr }),
  batch = 8, micro_batch = 8, steps = p.steps, max_grad_norm = 1.0,
}
