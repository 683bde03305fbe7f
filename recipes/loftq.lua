-- LoftQ: the base becomes NF4, and the adapters start with what that lost.
--
--   qlora-run loftq.lua
--   qlora-run loftq.lua --set rounds=4
--   qlora-run loftq.lua --smoke
--
-- Expected: half a minute on two cores. With one round the base is that of qlora.load(path, { quant = "nf4" }), and the
-- adapter belongs to it. With more the base is another one: the recipe saves it beside the adapter.
local qlora = require "qlora"
local world = require "qlora.world"

local p = qlora.params {
  model = qlora.resource "models/tiny", rank = 16, rounds = 1, lr = 2e-3, steps = 60, batch = 16, out = "out/loftq",
}

local function question(scene) return scene.sentence .. "\nSummary:" end
local function answer(scene) return (" Who: %s | What: %s | Where: %s"):format(scene.who, scene.did, scene.where) end

-- The base has to be read whole: LoftQ looks at what NF4 loses.
local model = qlora.load(p.model, { quant = false })
local data = qlora.data.load(world.scenes(800, 0), {
  format = function(scene) return { { text = question(scene) }, { text = answer(scene), train = true } } end,
  tokenizer = model.tokenizer, max_length = 96,
})

-- The method does not know alpha, so alpha = rank starts nearest to the base as it was.
model:add_lora { select = "all-linear", rank = p.rank, alpha = p.rank, init = "loftq", niter = p.rounds }
qlora.train {
  model = model, data = data, optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr }),
  schedule = qlora.schedule.warmup(5, qlora.schedule.cosine(p.steps, { floor = 0.1 })),
  batch = p.batch, micro_batch = p.batch, steps = p.steps, max_grad_norm = 1.0, group_by_length = true,
}

local scenes, right = world.scenes(20, 1000), 0
for _, scene in ipairs(scenes) do
  if model:generate(question(scene), { max_new_tokens = 40, stop = "\n" }) == answer(scene) then right = right + 1 end
end
print(("%d of %d unseen sentences summed up exactly right"):format(right, #scenes))
model:save_adapter(p.out)
if p.rounds > 1 then
  model:without_adapters(function() model:save(p.out .. "-base") end)
end
