-- What a sweep together saves: the same step of K variants, in K passes over the base and in one, taking turns.
--
--   qlora-run --set model=CHECKPOINT [--set k=8] [--set length=64] [--set stream=true] Benchmarks/steps/together.lua
--
-- LoRA on all linear layers, a batch of one sample for each variant, AdamW. What is compared is a whole step of all K:
-- passes, norms, updates. Prints a line per round, and a row of a table: medians of seconds per step of all, tokens per
-- second, and the median over the rounds of alone / together, in time and in processor time, which other programs
-- disturb less. With stream=true the checkpoint is in 4 bits (recipes/quantize.lua) and read from the disk in each pass:
-- the system is asked to forget its cached pages before each.
local qlora = require "qlora"
local native = qlora.native

local p = qlora.params {
  model = "", k = 8, rank = 8, length = 64, rounds = 5, compute = "bf16", dropout = 0.0, stream = false, cold = true,
  checkpointing = false,
}

local model = p.stream and qlora.load(p.model, { stream = true, compute = p.compute })
  or qlora.load(p.model, { quant = "nf4", double_quant = true, compute = p.compute })
if p.checkpointing or p.stream then model:checkpointing(true) end

local variants = {}
for k = 1, p.k do
  model:enter_variant(k)
  model:add_lora { select = "all-linear", rank = p.rank, alpha = p.rank, dropout = p.dropout, quiet = true }
  local trained = model:trainable()
  variants[k] = { trained = trained, optimizer = qlora.optim.adamw(trained, { lr = 1e-4 }) }
end

local id = 1
local function batch(step)
  local ids = {}
  for t = 1, p.length do
    id = (id * 1103515245 + 12345) % 2147483648
    ids[t] = (id >> 8) % model.config.vocab_size
  end
  return native.batch({ { ids = ids } }, { step = step })
end

--- Asks the system to forget its cached pages of the checkpoint.
local function forget()
  if not (p.stream and p.cold) then return end
  for _, name in ipairs(native.list_dir(p.model)) do
    if name:match "%.safetensors$" then
      assert(os.execute(("dd if='%s/%s' iflag=nocache count=0 status=none"):format(p.model, name)))
    end
  end
end

local function update(variant)
  local _, scale = native.gradient_norm(variant.trained, 0.3)
  variant.optimizer:step { grad_scale = scale }
  variant.optimizer:zero_grad()
end

local ways = {
  alone = function(step)
    for k, variant in ipairs(variants) do
      model:enter_variant(k)
      forget()
      local loss = model:loss(batch(step))
      loss:backward()
      loss:item()
      update(variant)
    end
  end,
  together = function(step)
    local parts = {}
    for k in ipairs(variants) do parts[k] = { variant = k, batch = batch(step) } end
    forget()
    local losses = model:losses(parts)
    losses:sum():backward()
    losses:totable()
    for k, variant in ipairs(variants) do
      model:enter_variant(k)
      update(variant)
    end
  end,
}

local function median(list)
  table.sort(list)
  return (list[(#list + 1) // 2] + list[#list // 2 + 1]) / 2
end

local times = { alone = {}, together = {} }
local ratios = { wall = {}, processor = {} }
for round = 0, p.rounds do -- the first brings pages and blocks in
  local took = {}
  for _, way in ipairs(round % 2 == 0 and { "alone", "together" } or { "together", "alone" }) do
    local began, processor = native.clock(), os.clock()
    ways[way](round)
    took[way] = { wall = native.clock() - began, processor = os.clock() - processor }
    if round > 0 then table.insert(times[way], took[way].wall) end
  end
  for kind, list in pairs(round > 0 and ratios or {}) do list[#list + 1] = took.alone[kind] / took.together[kind] end
  print(("round %d: alone %.2f s (processor %.2f), together %.2f s (%.2f)"):format(round, took.alone.wall,
    took.alone.processor, took.together.wall, took.together.processor))
end
local alone, together = median(times.alone), median(times.together)
local tokens = p.k * p.length
print(("| %d x rank %d, %d tokens each, %s%s | %.2f | %.0f | %.2f | %.0f | %.2f | %.2f |"):format(p.k, p.rank, p.length,
  p.compute, p.stream and ", streamed" or "", alone, tokens / alone, together, tokens / together, median(ratios.wall),
  median(ratios.processor)))
