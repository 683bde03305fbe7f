-- Merge: the memory of a merge that measures, planned and used.
--
--   qlora-run synthetic.lua --set layers=4 65B MODEL
--   qlora-run --set model=MODEL --set out=OUT Benchmarks/memory/merge.lua
--
-- Adapters of random numbers on every matrix of the layers are merged into MODEL. Without `out` the targets are measured
-- alone.
local qlora = require "qlora"
local format = require "qlora.format"
local world = require "qlora.world"

local p = qlora.params { model = "", rank = 8, samples = 4, max_length = 256, original = "", out = "", target = "dequantized" }

local model = qlora.load(p.model)
model:add_lora { select = "all-linear", rank = p.rank, alpha = 2 * p.rank }
for module in model:modules() do
  if module.adapter then
    module.adapter.b[{ {}, {} }] = qlora.randn(module.out_features, p.rank) * 2e-2
    collectgarbage()
  end
end
local texts = {}
for i, scene in ipairs(world.scenes(12 * p.samples, 0)) do
  local number = (i - 1) // 12 + 1
  texts[number] = { text = (texts[number] and texts[number].text .. " " or "") .. scene.sentence }
end
local data = qlora.data.load(texts, { format = "completion", tokenizer = model.tokenizer, max_length = p.max_length })
local began = qlora.native.clock()
local result = qlora.merge(model, data, {
  limit = p.samples, original = p.original ~= "" and p.original or nil, target = p.target,
  out = p.out ~= "" and p.out or nil,
})
local peak = qlora.memory().peak_rss
print(("planned %d bytes, used %d, %+.2f %%; %s"):format(result.planned_peak, peak,
  100 * (result.planned_peak / peak - 1), format.seconds(qlora.native.clock() - began)))
