-- Custom selection: a Lua function chooses rank, dropout and learning rate of every module.
--
--   qlora-run custom_selection.lua
--
-- Expected: about 100 MB, a few seconds, loss near 2 after 30 steps on the tiny model that ships. The report of what
-- matched is the point.
local qlora = require "qlora"
local world = require "qlora.world"

local p = qlora.params { model = qlora.resource "models/tiny", steps = 30, lr = 2e-3 }
local model = qlora.load(p.model, { quant = "nf4" })
local select = qlora.select

-- Look before touching anything: what would these match?
print(model:preview_lora(select.attention() * select.layers { last = 2 }))
print(model:preview_lora(select.regex [[.*\.(q|v)_proj]]))

-- Higher rank towards the end of the network, nothing in layer 0, less dropout in attention, and a slower rate for
-- down_proj.
local function policy(m)
  if m.kind ~= "linear" or m.layer == nil or m.layer == 0 then return false end
  local settings = { rank = 4 * (1 + m.layer), dropout = 0.05 }
  if m.role:match "^[qkvo]_proj$" then settings.dropout = 0.0 end
  if m.role == "down_proj" then settings.lr = 0.5 end -- a factor on the optimizer's rate
  return settings
end

-- The same could be written with helpers: select.all_linear() - select.layers { only = { 0 } }, or
--   select.attention():with { rank = 8 } + select.mlp():with { rank = 32 }
local report = model:add_lora { select = policy, alpha = 16 }
print(("%d modules, %d trainable parameters"):format(report.modules, report.trainable))

local data = qlora.data.load(world.scenes(200, 0), {
  format = function(scene)
    local short = (" %s %s."):format(scene.who, scene.did)
    return { { text = scene.sentence .. "\nShort:" }, { text = short, train = true } }
  end,
  tokenizer = model.tokenizer, max_length = 96,
})
qlora.train {
  model = model, data = data, optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr }),
  batch = 8, micro_batch = 8, steps = p.steps,
}
