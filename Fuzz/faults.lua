-- A run that saves checkpoints, pages its optimizer and offloads activations, which faults and kills are tried on.
local qlora = require "qlora"
local world = require "qlora.world"
local p = qlora.params { model = qlora.resource "models/tiny", quant = "nf4", stream = false, at = 0, command = "",
  steps = 12, save = 2, spill = "", select = "all-linear", budget = "128KiB",
  batch = 4, parts = 1 }
local model = qlora.load(p.model, { quant = p.quant ~= "" and p.quant, compute = "f32", stream = p.stream })
model:add_lora { select = p.select, rank = 4, alpha = 8, dropout = 0.1 }
local data = qlora.data.load(world.scenes(64, 1), {
  format = function(s) return { { text = s.sentence .. "\n" }, { text = s.who, train = true } } end,
  tokenizer = model.tokenizer, max_length = 64,
})
qlora.train {
  model = model, data = data, steps = p.steps, batch = p.batch, micro_batch = 2, parts = p.parts, seed = 3,
  save_every = p.save, dir = "run",
  checkpointing = true, offload = true,
  optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3, bits = 8, paged = true, budget = p.budget,
    spill = p.spill ~= "" and p.spill or nil }),
  on_step = function(s) if s.step == p.at then os.execute(p.command) end end,
}
model:save_adapter "adapter"
