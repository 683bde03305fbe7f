-- What Benchmarks/ranks/predict.py starts from: for each model the seconds that this machine needs for a micro-batch,
-- and the bytes of the gradients that ranks sum; then the bytes a second of that addition.
local qlora = require "qlora"
local p = qlora.params { models = "llama-7b llama-13b llama-65b", tokens = 512, rank = 16, checkpointing = true }
for path in p.models:gmatch "%S+" do
  local model = qlora.load(path, { quant = "nf4", header_only = true })
  model:add_lora { select = "all-linear", rank = p.rank, alpha = 2 * p.rank }
  local plan = model:plan_step { batch = 1, length = p.tokens, checkpointing = p.checkpointing }
  print("model", path, plan.seconds_per_step, 4 * plan.trainable)
end
local a, b, best = qlora.ones(5000000), qlora.ones(5000000), math.huge
for _ = 1, 5 do
  local start = qlora.native.clock()
  local _ = a + b
  best = math.min(best, qlora.native.clock() - start)
end
print("add", 4 * 5000000 / best)
