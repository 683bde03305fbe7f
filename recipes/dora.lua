-- DoRA: LoRA that also trains the length of each row of the weights, next to LoRA of the same rank.
--
--   qlora-run dora.lua
--   qlora-run dora.lua --plan
--   qlora-run dora.lua --smoke
--
-- Expected: a minute on two cores. DoRA decodes every weight once more in each pass, so its steps are slower.
local qlora = require "qlora"
local world = require "qlora.world"

local p = qlora.params {
  model = qlora.resource "models/tiny", rank = 8, lr = 4e-3, steps = 60, batch = 16, out = "out/dora",
}

local function question(scene) return scene.sentence .. "\nSummary:" end
local function answer(scene) return (" Who: %s | What: %s | Where: %s"):format(scene.who, scene.did, scene.where) end

local model = qlora.load(p.model, { quant = "nf4" })
local data = qlora.data.load(world.scenes(800, 0), {
  format = function(scene) return { { text = question(scene) }, { text = answer(scene), train = true } } end,
  tokenizer = model.tokenizer, max_length = 96,
})

for _, method in ipairs { "lora", "dora" } do
  model:remove_adapters()
  -- lr_ratio is LoRA+: B learns faster than A.
  model:add_lora { select = "all-linear", rank = p.rank, alpha = 2 * p.rank, method = method, lr_ratio = 2 }
  qlora.train {
    model = model, data = data, optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr }),
    schedule = qlora.schedule.warmup(5, qlora.schedule.cosine(p.steps, { floor = 0.1 })),
    batch = p.batch, micro_batch = p.batch, steps = p.steps, max_grad_norm = 1.0, group_by_length = true,
  }
  local scenes, right = world.scenes(20, 1000), 0
  for _, scene in ipairs(scenes) do
    if model:generate(question(scene), { max_new_tokens = 40, stop = "\n" }) == answer(scene) then right = right + 1 end
  end
  print(("%s: %d of %d unseen sentences summed up exactly right"):format(method, right, #scenes))
end
model:save_adapter(p.out) -- PEFT reads it as use_dora
