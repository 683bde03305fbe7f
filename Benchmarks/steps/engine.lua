-- QLoRA steps with this engine, timed: one side of compare.py, and what scaling.py runs.
--
--   qlora-run [--set KEY=VALUE]... engine.lua
--
-- LoRA on all linear layers, alpha as the rank, NF4 with double quantization, AdamW; prints one line of JSON. With
-- turns=true it prints a line when the model is loaded and waits: a line of input asks for each step and is answered.
local qlora = require "qlora"
local json = require "qlora.json"
local clock, batch_of = qlora.native.clock, qlora.native.batch

local p = qlora.params {
  model = "", compute = "bf16", batch = 1, length = 512, checkpointing = false, warmup = 2, steps = 7,
  rank = 16, dropout = 0.0, turns = false,
}

local start = clock()
local model = qlora.load(p.model, { quant = "nf4", double_quant = true, compute = p.compute })
local loaded = clock() - start
model:checkpointing(p.checkpointing)
model:add_lora { select = "all-linear", rank = p.rank, alpha = p.rank, dropout = p.dropout }
local opt = qlora.optim.adamw(model:trainable(), { lr = 1e-3, weight_decay = 0.01 })

-- Any ids do for a timing; these are the ones peer.py makes.
local vocabulary, id = model.config.vocab_size, 1
local function rows()
  local list = {}
  for b = 1, p.batch do
    local ids = {}
    for t = 1, p.length do
      id = (id * 1103515245 + 12345) % 2147483648
      ids[t] = (id >> 8) % vocabulary
    end
    list[b] = { ids = ids }
  end
  return list
end

local index = 0
local function step()
  index = index + 1
  local batch = batch_of(rows(), { step = index })
  local began = clock()
  opt:zero_grad()
  local loss = model:loss(batch)
  loss:backward()
  local value = loss:item()
  opt:step()
  return clock() - began, value
end

local function say(fields)
  print(json.encode(fields))
  io.stdout:flush()
end

if p.turns then
  say { load_s = loaded, isa = qlora.cpu().set }
  for _ in io.lines() do
    local seconds, loss = step()
    say { seconds = seconds, loss = loss }
  end
end
local times, losses = {}, {}
for i = 1, p.turns and 0 or p.warmup + p.steps do
  local seconds
  seconds, losses[i] = step()
  if i > p.warmup then times[#times + 1] = seconds end
end
table.sort(times)
local memory = qlora.memory() -- before the plan, which needs some itself
say {
  seconds = times, losses = losses, load_s = loaded, peak_mb = memory.peak_rss / 2 ^ 20,
  tensors_mb = memory.peak / 2 ^ 20, isa = qlora.cpu().set,
  flops = model:plan_step({ batch = p.batch, length = p.length, time = false }).flops_per_step,
}
