-- Adapters in Lua: LoRA written in ten lines next to the built-in one, then a method that no library has.
--
--   qlora-run scripted_adapter.lua
--   qlora-run scripted_adapter.lua --plan
--   qlora-run scripted_adapter.lua --smoke
--
-- Expected: a minute on two cores. In f32 the losses of the two LoRAs agree to six digits.
local qlora = require "qlora"
local world = require "qlora.world"

local p = qlora.params {
  model = qlora.resource "models/tiny", rank = 8, lr = 4e-3, steps = 60, batch = 16, out = "out/scripted",
}

local function question(scene) return scene.sentence .. "\nSummary:" end
local function answer(scene) return (" Who: %s | What: %s | Where: %s"):format(scene.who, scene.did, scene.where) end

local model = qlora.load(p.model, { quant = "nf4" })
local data = qlora.data.load(world.scenes(800, 0), {
  format = function(scene) return { { text = question(scene) }, { text = answer(scene), train = true } } end,
  tokenizer = model.tokenizer, max_length = 96,
})

-- What the functions use from outside is saved with them: numbers, texts, modules and such functions.
local rank, scale = p.rank, 2.0

local lora = {
  -- The built-in one is there already, so both start alike; qlora.randn(rank, m.in_features) would do otherwise.
  parameters = function(m) return { A = m.adapter.a:clone(), B = qlora.zeros(m.out_features, rank) } end,
  forward = function(x, base, w) return base + x:matmul(w.A:t()):matmul(w.B:t()) * scale end,
}

-- A low-rank gate: each token scales each output by a factor that starts at 1. It is no sum with the base, so it cannot
-- be merged; it is saved, loaded and resumed as any other.
local gate = {
  parameters = function(m)
    return { down = qlora.randn(rank, m.in_features) / m.in_features ^ 0.5, up = qlora.zeros(m.out_features, rank),
      shift = qlora.zeros(m.out_features) }
  end,
  forward = function(x, base, w)
    local opened = x:matmul(w.down:t()):tanh():matmul(w.up:t())
    return base * (1 + opened:tanh()) + w.shift
  end,
}

local function train(name)
  model:use_adapters(name)
  local result = qlora.train {
    model = model, data = data, optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr }),
    schedule = qlora.schedule.warmup(5, qlora.schedule.cosine(p.steps, { floor = 0.1 })),
    batch = p.batch, micro_batch = p.batch, steps = p.steps, max_grad_norm = 1.0, group_by_length = true,
  }
  local scenes, right = world.scenes(20, 1000), 0
  for _, scene in ipairs(scenes) do
    if model:generate(question(scene), { max_new_tokens = 40, stop = "\n" }) == answer(scene) then right = right + 1 end
  end
  print(("%s: %d of %d unseen sentences summed up exactly right"):format(name, right, #scenes))
  return result
end

model:add_lora { select = "all-linear", rank = rank, alpha = rank * scale, name = "built-in" }
lora.name, gate.name = "scripted", "gate"
model:add_adapter_module("all-linear", lora)
model:add_adapter_module("all-linear", gate)
local built_in, own = train "built-in", train "scripted"
print(("last loss %.6f built-in, %.6f scripted; %.2f times the time"):format(built_in.last_loss, own.last_loss,
  own.seconds / built_in.seconds))
train "gate"

-- The folder has the source beside the weights. Whoever loads it gives the functions, here those that made it.
model:save_adapter(p.out)
model:remove_adapters "gate"
model:load_adapter_module(p.out, gate)
