-- Generate: write text with a model, with or without an adapter.
--
--   qlora-run generate.lua "Mia the baker walked to the"
--   qlora-run --set adapter=out/quickstart generate.lua "Mia the baker walked to the"
--
-- Expected: the memory of the 4-bit base and of the key-value cache. The tiny model answers at once. No training, no
-- loss.
local qlora = require "qlora"

local p = qlora.params {
  model = qlora.resource "models/tiny", adapter = "",
  chat = false, template = "", -- of a chat: a name or a file; without it the adapter's, else the model's own
  tokens = 60, temperature = 0.8, top_k = 40, top_p = 0.95, seed = 0,
}

local options = { quant = "nf4", double_quant = true }
if p.adapter ~= "" then options.adapter = p.adapter end
local model = qlora.load(p.model, options)

for _, word in ipairs { ... } do
  if word:find "^%-%-" then error(word .. " is no flag; settings stand before the recipe: --set tokens=3", 0) end
end
local prompt = table.concat({ ... }, " ")
if prompt == "" then prompt = "In the morning," end
-- A chat as ids, which begin as the template says.
local template = p.template ~= "" and p.template or qlora.chat.for_model(model)
local text = p.chat and model.tokenizer:apply_chat({ { role = "user", content = prompt } },
  { add_generation_prompt = true, tokenize = true, template = template }) or prompt

local sampling = {
  max_new_tokens = p.tokens, temperature = p.temperature, top_k = p.top_k, top_p = p.top_p, seed = p.seed,
}
print(prompt .. model:generate(text, sampling))
if p.adapter ~= "" then
  model:without_adapters(function() print("\nwithout the adapter:\n" .. prompt .. model:generate(text, sampling)) end)
end
