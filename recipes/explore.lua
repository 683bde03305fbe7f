-- Explore: look into a model: tokens, attention, activations, weights, quantization, adapters.
--
--   qlora-run explore.lua
--   qlora-run --set adapter=out/quickstart --set text="In the morning, Mia" explore.lua
--   qlora-run -i explore.lua
--
-- Expected: about 100 MB and a few seconds with the tiny model. Pictures go to out/explore (--set out=DIR). With -i the
-- prompt opens afterwards, with the locals of this file.
local qlora = require "qlora"
local explore = qlora.explore

local p = qlora.params {
  model = qlora.resource "models/tiny", adapter = "", text = "At the market, Rosa the fisher dropped a beautiful kite.",
  layer = 1, out = "out/explore",
}

local model = qlora.load(p.model, { quant = "nf4", double_quant = true })
if p.adapter ~= "" then model:add_adapter(p.adapter) end
qlora.native.mkdir(p.out)
local function section(title) print("\n" .. title) end

section "What comes next, most likely first"
print(explore.next_tokens(model, p.text, { k = 5 }))

section "How surprising each token is (loss in nats)"
print(explore.token_losses(model, p.text))

section "Who looks at whom"
local attention = explore.attention(model, p.text, { layer = p.layer })
print(attention)
qlora.plot.heatmap(attention.map, { file = p.out .. "/attention.svg", rows = attention.tokens,
  columns = attention.tokens, title = "attention of layer " .. p.layer, low = 0, high = 1 })

section "What the layers compute (the residual stream is what input_layernorm reads)"
print(explore.activations(model, p.text, "layers%.%d+%.mlp%.down_proj"))

-- A hook sees one module while the model runs; here it catches the residual stream before each layer.
section "Norm of the residual stream, layer by layer"
local norms, hooks = {}, {}
for i, module in ipairs(model:find "%.input_layernorm$") do
  hooks[i] = model:hook(module.name, function(_, _, input) norms[i] = input:square():sum():sqrt():item() end)
end
model:logits(p.text)
for _, hook in ipairs(hooks) do hook:remove() end
print(qlora.plot.sparkline(norms), ("%.3g to %.3g"):format(norms[1], norms[#norms]))

section "The weights of one matrix"
local name = ("model.layers.%d.mlp.down_proj"):format(p.layer)
print(qlora.plot.histogram(model:module(name):weight(), { bins = 15, file = p.out .. "/weights.svg", title = name }))

if qlora.native.options.smoke then
  print "\n(the weights of --smoke models are random and come from no file, so their quantization has no error to show)"
else
  section "What quantization changed, worst first"
  print(explore.quantization_error(model))
end

if p.adapter ~= "" then
  section "What the adapters add"
  print(explore.adapters(model))
  section "The same prompt with and without them"
  print(explore.with_and_without(model, p.text, { max_new_tokens = 24 }))
end
print("\npictures in " .. qlora.native.place_to_read(p.out))
