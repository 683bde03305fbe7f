-- Cost of paged optimizer state over budgets: optimizers with the same parameters and every budget take turns in one
-- process, so that what else the machine does falls on all of them. Ratios are medians over the rounds.
--   qlora-run --set model=SmolLM2-135M-Instruct.Q4_1.gguf [--set bits=8] Benchmarks/memory/paging.lua
local qlora = require "qlora"
local format = require "qlora.format"

local p = qlora.params { model = "", rank = 256, length = 256, bits = 32, rounds = 7, spill = "/var/tmp" }

local model = qlora.load(p.model, { quant = "nf4", compute = "bf16" })
model:add_lora { select = "all-linear", rank = p.rank, alpha = 32, quiet = true }
model:checkpointing(true)
local ids = {}
for i = 1, p.length do ids[i] = i * 7919 % model.tokenizer.vocab_size end
local batch = qlora.data.batch { { ids = ids } }

local function adamw(budget)
  return qlora.optim.adamw(model:trainable(), { lr = 1e-5, bits = p.bits, paged = budget ~= nil, budget = budget,
    spill = p.spill })
end
local whole = adamw(nil)
local state = whole:state_bytes()
local list = { { name = "not paged", optimizer = whole } }
for _, part in ipairs { 1, 2, 4, 10 } do
  list[#list + 1] = { name = part == 1 and "everything" or "1/" .. part, optimizer = adamw(state // part) }
end
for _, entry in ipairs(list) do entry.whole, entry.update = {}, {} end

--- Seconds of a whole step and of the optimizer's part of it.
local function step(optimizer)
  local began = qlora.native.clock()
  optimizer:zero_grad()
  model:loss(batch):backward()
  local middle = qlora.native.clock()
  optimizer:step()
  local finished = qlora.native.clock()
  return finished - began, finished - middle
end

local function median(values)
  table.sort(values)
  return values[(#values + 1) // 2]
end

for round = 0, p.rounds do
  for i, entry in ipairs(list) do
    local before = entry.optimizer:pages()
    local seconds, update = step(entry.optimizer)
    if round > 0 then -- the first makes state and files
      entry.whole[round] = seconds
      entry.update[round] = update
      local after = entry.optimizer:pages()
      if after then
        entry.read = after.bytes_read - before.bytes_read
        entry.written = after.bytes_written - before.bytes_written
        entry.faults = after.faults - before.faults
      end
    end
    if i == 1 then collectgarbage() end
  end
end

print(("%s of state in %d bits, %d tokens a step"):format(format.bytes(state), p.bits, p.length))
print "| budget | step s | ratio | update s | ratio | written a step | read a step | waits |"
print "|---|---:|---:|---:|---:|---:|---:|---:|"
for _, entry in ipairs(list) do
  local ratios, update_ratios = {}, {}
  for round = 1, p.rounds do
    ratios[round] = entry.whole[round] / list[1].whole[round]
    update_ratios[round] = entry.update[round] / list[1].update[round]
  end
  entry.ratio, entry.update_ratio = median(ratios), median(update_ratios)
end
for _, entry in ipairs(list) do
  print(("| %s | %.2f | %.3f | %.3f | %.2f | %s | %s | %s |"):format(entry.name, median(entry.whole), entry.ratio,
    median(entry.update), entry.update_ratio, entry.written and format.bytes(entry.written) or "-",
    entry.read and format.bytes(entry.read) or "-", entry.faults or "-"))
end
