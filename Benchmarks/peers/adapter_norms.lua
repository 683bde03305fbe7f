-- How far the adapters of a run in bf16 are from those of the same run in f32, layer by layer, over several seeds.
-- Writes OUT/tokens.json (what each seed trains on) and OUT/norms.json; adapter_norms.py does the same in PEFT on the
-- same tokens and compares.
--
--   qlora-run --set out=out/norms Benchmarks/peers/adapter_norms.lua
--   python3 Benchmarks/peers/adapter_norms.py models/tiny out/norms
local qlora = require "qlora"
local native = qlora.native
local world = require "qlora.world"

local p = qlora.params { model = qlora.resource "models/tiny", out = "out/norms", seeds = 8, steps = 20, batch = 4,
  rank = 8, lr = 1e-3 }
native.options.quiet = true
native.mkdir(p.out)

--- The sequences of a seed, { step = { ids, … } }.
local function tokens(model, seed)
  local scenes, steps = world.scenes(p.steps * p.batch, 10000 * seed), {}
  for step = 1, p.steps do
    steps[step] = {}
    for i = 1, p.batch do
      local scene = scenes[(step - 1) * p.batch + i]
      local text = ("%s Who: %s | What: %s | Where: %s"):format(scene.sentence, scene.who, scene.did, scene.where)
      steps[step][i] = model.tokenizer:encode(text)
    end
  end
  return steps
end

--- Norms of B by module after the steps.
local function norms(compute, steps)
  local model = qlora.load(p.model, { compute = compute })
  local list = {}
  for module in model:modules() do
    if module.kind == "linear" and module.layer then
      list[#list + 1] = { name = module.name, rank = p.rank, alpha = 2 * p.rank, init = "portable" }
    end
  end
  model:attach_lora(list)
  local optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr })
  for step, sequences in ipairs(steps) do
    local rows = {}
    for i, ids in ipairs(sequences) do rows[i] = { ids = ids } end
    optimizer:zero_grad()
    model:loss(native.batch(rows, { step = step, micro = 1 })):backward()
    optimizer:step()
  end
  local found = {}
  for _, entry in ipairs(list) do found[entry.name] = model:adapter_spectrum(entry.name).norm_b end
  return found
end

local all_tokens, all_norms = {}, {}
local reader = qlora.load(p.model)
for seed = 1, p.seeds do
  all_tokens[seed] = tokens(reader, seed)
  all_norms[seed] = { f32 = norms("f32", all_tokens[seed]), bf16 = norms("bf16", all_tokens[seed]) }
end
native.write_file(p.out .. "/tokens.json", qlora.json.encode(all_tokens))
native.write_file(p.out .. "/norms.json", qlora.json.encode(all_norms))
print(("%d seeds, norms in %s"):format(p.seeds, p.out))
