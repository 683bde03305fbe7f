-- One step after another of the same run: base resident, base streamed with its file in the system's cache, base
-- streamed from the disk. The process is one, so that whatever else the machine does meets all three alike. Prints a
-- line per step; stream_cost.py makes a table of them.
local qlora = require "qlora"

local p = qlora.params { model = "", rank = 64, length = 128, rounds = 5 }

local model = qlora.load(p.model, { stream = false })
model:add_lora { select = "all-linear", rank = p.rank, alpha = 16, dropout = 0.05, quiet = true }
model:checkpointing(true) -- so that only streaming differs
local optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-4 })
local ids = {}
for i = 1, p.length do ids[i] = i * 7919 % model.config.vocab_size end
local batch = qlora.data.batch { { ids = ids } }

--- Asks the system to forget its cached pages of the checkpoint.
local function forget()
  for _, name in ipairs(qlora.native.list_dir(p.model)) do
    if name:match "%.safetensors$" then
      assert(os.execute(("dd if='%s/%s' iflag=nocache count=0 status=none"):format(p.model, name)))
    end
  end
end

local function step(mode)
  model:set_streaming(mode ~= "resident")
  if mode == "cold" then forget() end
  local before = model:streaming()
  local began, processor = qlora.native.clock(), os.clock()
  optimizer:zero_grad()
  local loss = model:loss(batch)
  loss:backward()
  optimizer:step {}
  local seconds, used, after = qlora.native.clock() - began, os.clock() - processor, model:streaming()
  local waited = after and after.seconds_waited - before.seconds_waited or 0
  local read = after and after.read - before.read or 0
  print(("step %s %.4f %.4f %.4f %d %a"):format(mode, seconds, used, waited, read, loss:item()))
end

step "resident" -- brings pages and blocks in; the table leaves the first round out
for _ = 1, p.rounds do
  for _, mode in ipairs { "resident", "warm", "cold" } do step(mode) end
end
