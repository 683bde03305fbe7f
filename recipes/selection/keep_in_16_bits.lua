-- Keep in 16 bits: one function chooses which matrices stay unquantized and which ranks they get.
--
--   qlora-run selection/keep_in_16_bits.lua
--   qlora-run --set model=meta-llama/Llama-3.1-8B --plan selection/keep_in_16_bits.lua
--
-- Expected: 40 MB and a second on the tiny model. The load report counts what stays in 16 bits. The plan says what that
-- costs.
local qlora = require "qlora"
local world = require "qlora.world"

local p = qlora.params {
  model = qlora.resource "models/tiny", data = "", format = "input_output", rank = 8, lr = 4e-3, steps = 60,
}

-- One policy for both: qlora.load reads quant, add_lora reads the rest and holds quant against what was loaded.
local function policy(m)
  if m.kind ~= "linear" or m.layer == nil then return false end
  if m.role == "down_proj" then return { rank = 2 * p.rank, quant = false } end
  return { rank = p.rank }
end
local model = qlora.load(p.model, { quant = "nf4", modules = policy })
model:add_lora { select = policy, alpha = 2 * p.rank }

local data = qlora.data.load(p.data ~= "" and p.data or world.records(200, 0), {
  format = p.format, tokenizer = model.tokenizer, max_length = 128,
})
qlora.train {
  model = model, data = data, optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr }),
  batch = 8, micro_batch = 8, steps = p.steps, max_grad_norm = 1.0,
}
