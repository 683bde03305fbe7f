-- Rank by quantization error: the matrices that lose most in four bits get the highest rank.
--
--   qlora-run --set rank=16 selection/rank_by_quantization_error.lua
--
-- Expected: 40 MB and a second on the tiny model. The idea is LoftQ's (Li et al. 2023) in its simplest form: an adapter
-- repairs what rounding broke. The errors of one model's matrices differ little (NF4: 8 to 10 % of the norm), so
-- `power` sharpens them.
local qlora = require "qlora"
local world = require "qlora.world"

local p = qlora.params {
  model = qlora.resource "models/tiny", data = "", format = "input_output", rank = 8, lr = 4e-3, steps = 60,
  quant = "nf4", power = 4.0,
}

--- Norm of what rounding to 4 bits takes away, relative to the norm of the matrix, by module name.
local function quantization_errors(path)
  local original = qlora.load(path, { quant = false })
  local errors = {}
  for m in original:modules() do
    if m.kind == "linear" and m.layer then
      if original:is_header_only() then
        errors[m.name] = 1.0 -- a plan has no weights; equal ranks need the same memory
      else
        local weight = m:weight()
        local rounded = weight:quantize({ type = p.quant, block = 64, double = true }):dequantize()
        errors[m.name] = (weight - rounded):norm() / weight:norm()
      end
    end
  end
  return errors
end

local scores = {}
for name, relative in pairs(quantization_errors(p.model)) do scores[name] = relative ^ p.power end

local model = qlora.load(p.model, { quant = p.quant })
model:add_lora { select = qlora.select.by_score(scores, { rank = p.rank }) }

local data = qlora.data.load(p.data ~= "" and p.data or world.records(200, 0), {
  format = p.format, tokenizer = model.tokenizer, max_length = 128,
})
qlora.train {
  model = model, data = data, optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr }),
  batch = 8, micro_batch = 8, steps = p.steps, max_grad_norm = 1.0,
}
