-- The engine's side of check_mlx.sh, in two stages around mlx-lm.
--
--   qlora-run --set stage=write --set work=WORK Benchmarks/peers/check_mlx.lua   trains, WORK/ours and logits of it
--   qlora-run --set stage=read --set work=WORK Benchmarks/peers/check_mlx.lua    logits of WORK/theirs, by mlx-lm
local qlora = require "qlora"

local p = qlora.params { stage = "write", work = "out/check_mlx", model = "downloads/peers/smollm2-f32",
  data = qlora.resource "data/word_problems.jsonl", steps = 4 }
local model = qlora.load(p.model, { compute = "f32" })
local ids = model.tokenizer:encode "Question: Ben has 3 boxes with 12 pencils each. How many pencils are there?"

local function keep(name)
  qlora.save(p.work .. "/" .. name, { ids = qlora.tensor(ids, { dtype = "i64" }), logits = model:logits(ids) })
end

if p.stage == "read" then
  model:add_adapter(p.work .. "/theirs")
  keep "theirs.safetensors"
  return
end
keep "base.safetensors"
-- Ranks and scalings of their own, which mlx-lm does not know and the writer folds, and not in every layer.
model:add_lora { select = function(m)
  return m.kind == "linear" and m.layer and m.layer > 3
    and { rank = 4 + 4 * (m.layer % 2), alpha = m.role == "o_proj" and 8 or 16 }
end }
local data = qlora.data.load(p.data, { tokenizer = model.tokenizer, max_length = 96, limit = 200 })
qlora.train { model = model, data = data, optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3 }),
  steps = p.steps, batch = 2 }
model:save_adapter(p.work .. "/ours", { as = "mlx" })
keep "ours.safetensors"
