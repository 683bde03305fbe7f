-- One sequence of `length` tokens: with --plan the planned peak, without it a training step and the highest resident
-- memory of the process (VmHWM). sequence_length.py runs it in a fresh process each time.
local qlora = require "qlora"

local p = qlora.params { model = "", compute = "bf16", rank = 16, length = 2048, every = 0, offload = false }

local model = qlora.load(p.model, { quant = "nf4", compute = p.compute })
model:add_lora { select = "all-linear", rank = p.rank, alpha = 32, quiet = true }
local optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-4 })
local checkpointing = p.every > 0 and p.every

if qlora.native.options.plan then
  local plan = model:plan { batch = 1, length = p.length, checkpointing = checkpointing, offload = p.offload,
    optimizer = optimizer }
  print(("plan_peak %d\nplan_seconds %.1f"):format(plan.peak, plan.seconds_per_step))
  return
end

model:checkpointing(checkpointing, { offload = p.offload })
local ids = {}
for i = 1, p.length do ids[i] = i * 7919 % model.tokenizer.vocab_size end
local batch = qlora.data.batch { { ids = ids } }
optimizer:state_bytes() -- makes the state, so that the first step is as high as any later one
local began = qlora.native.clock()
local loss = model:loss(batch)
loss:backward()
print(("loss %.9g, gradient norm %.9g"):format(loss:item(), qlora.clip_grad_norm(model:trainable(), math.huge)))
optimizer:step()
local offloaded = model:offloaded()
print(("measured_peak %d\nmeasured_seconds %.1f\nspilled %d"):format(qlora.memory().peak_rss,
  qlora.native.clock() - began, offloaded and offloaded.peak or 0))
