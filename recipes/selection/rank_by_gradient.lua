-- Rank by gradient: the matrices with the largest gradients on a few batches get the highest rank.
--
--   qlora-run --set rank=16 --set batches=8 selection/rank_by_gradient.lua
--
-- Expected: 40 MB and a second on the tiny model. While B is 0, the gradient of B is dL/dW A^T. That is a random
-- projection of the gradient of the frozen matrix, so its norm estimates that of dL/dW, which is never formed.
local qlora = require "qlora"
local world = require "qlora.world"

local p = qlora.params {
  model = qlora.resource "models/tiny", data = "", format = "input_output", rank = 8, lr = 4e-3, steps = 60,
  batches = 4, probe_rank = 8,
}
local model = qlora.load(p.model, { quant = "nf4" })
local data = qlora.data.load(p.data ~= "" and p.data or world.records(200, 0), {
  format = p.format, tokenizer = model.tokenizer, max_length = 128,
})

-- 1. Probe adapters everywhere, and the summed gradients of a few batches.
model:add_lora { select = "all-linear", rank = p.probe_rank, init = "gaussian", quiet = true }
if not model:is_header_only() then
  for _, batches in data:steps { steps = p.batches, batch = 8, micro_batch = 8, seed = 1 } do
    for _, batch in ipairs(batches) do model:loss(batch):backward() end
  end
end
local scores = {}
for m in model:modules() do
  -- per output row, so that wide matrices do not win by size alone; a plan has no gradients and gives all the same
  if m.adapter then scores[m.name] = m.adapter.b.grad and m.adapter.b.grad:norm() / m.out_features ^ 0.5 or 1.0 end
end

-- 2. The probes go, the real adapters come.
model:remove_adapters()
model:add_lora { select = qlora.select.by_score(scores, { rank = p.rank }) }

qlora.train {
  model = model, data = data, optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr }),
  batch = 8, micro_batch = 8, steps = p.steps, max_grad_norm = 1.0,
}
