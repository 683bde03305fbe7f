-- Rank by depth: a higher rank towards the end of the network, a lower rate near the input.
--
--   qlora-run --set first_rank=2 --set last_rank=32 selection/rank_by_depth.lua
--
-- Expected: 40 MB and a second on the tiny model. The report counts the modules of each rank.
local qlora = require "qlora"
local world = require "qlora.world"

local p = qlora.params {
  model = qlora.resource "models/tiny", data = "", format = "input_output", lr = 4e-3, steps = 60,
  first_rank = 2, last_rank = 16, -- of the first and the last layer; between them the logarithm is linear in the depth
}
local model = qlora.load(p.model, { quant = "nf4" })
local layers = model.config.num_hidden_layers

local function policy(m)
  if m.kind ~= "linear" or m.layer == nil then return false end -- the head has no layer
  local depth = m.layer / math.max(layers - 1, 1)
  local rank = math.floor(p.first_rank * (p.last_rank / p.first_rank) ^ depth + 0.5)
  return { rank = rank, alpha = 2 * rank, lr = 0.5 + 0.5 * depth } -- lr is a factor on the optimizer's rate
end
model:add_lora { select = policy }

local data = qlora.data.load(p.data ~= "" and p.data or world.records(200, 0), {
  format = p.format, tokenizer = model.tokenizer, max_length = 128,
})
qlora.train {
  model = model, data = data, optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr }),
  batch = 8, micro_batch = 8, steps = p.steps, max_grad_norm = 1.0,
}
