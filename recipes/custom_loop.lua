-- Custom loop: training by hand, to change what happens between two of its lines.
--
--   qlora-run custom_loop.lua
--
-- Expected: about 100 MB, a few seconds, loss from about 4 to about 1 in 40 steps on the tiny model that ships.
local qlora = require "qlora"
local world = require "qlora.world"

local p = qlora.params { model = qlora.resource "models/tiny", steps = 40, lr = 3e-3, batch = 16, micro_batch = 8 }

local model = qlora.load(p.model, { quant = "nf4", double_quant = true })
model:add_lora { select = "all-linear", rank = 8, alpha = 16 }

local data = qlora.data.load(world.scenes(400, 0), {
  format = function(scene)
    return { { text = scene.sentence .. "\nWhere?" }, { text = " " .. scene.where:upper(), train = true } }
  end,
  tokenizer = model.tokenizer, max_length = 96,
})

local opt = qlora.optim.adamw(model:trainable(), { lr = p.lr })
local schedule = qlora.schedule.warmup(4, qlora.schedule.linear(p.steps))
local losses = {}

for step, batches in data:steps { steps = p.steps, batch = p.batch, micro_batch = p.micro_batch, seed = 0 } do
  opt:zero_grad()
  local loss = 0.0
  -- each batch knows how many targets the whole step trains: the parts add up to the mean
  for _, b in ipairs(batches) do
    local part = model:loss(b)
    part:backward()
    loss = loss + part:item()
  end
  local norm = qlora.clip_grad_norm(model:trainable(), 1.0)
  opt:step { lr = p.lr * schedule(step) }

  losses[step] = loss
  if step % 10 == 0 then print(("step %3d  loss %.4f  gradient norm %.3f"):format(step, loss, norm)) end
end
print(qlora.plot.sparkline(losses))
