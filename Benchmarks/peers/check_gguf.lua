-- The engine's side of check_gguf.sh, in stages that pass files in WORK to check_gguf.py.
--
--   qlora-run --set stage=bases --set work=WORK Benchmarks/peers/check_gguf.lua     WORK/base-f32.gguf, base-f16.gguf
--   qlora-run --set stage=adapter --set work=WORK Benchmarks/peers/check_gguf.lua   adapters, merged-TYPE.gguf, said.json
--
-- Between them check_gguf.py makes base-q8_0.gguf, base-q4_k_m.gguf and base-q6_k.gguf with llama.cpp's quantizer.
local qlora = require "qlora"
local native = require "qlora.native"

local p = qlora.params { stage = "bases", work = "out/check_gguf", model = "downloads/peers/smollm2-f32",
  data = qlora.resource "data/word_problems.jsonl", steps = 8 }
local types = { "f32", "f16", "bf16", "q8_0", "q4_0", "q4_k_m", "q5_k_m", "q6_k" }
local kept = { "q8_0", "q4_k_m", "q6_k" }
local prompts = {
  "Once upon a time there was a", "Question: Ben has 3 boxes with 12 pencils each. How many pencils are there?\nAnswer:",
  "The three largest cities of France are",
}

--- The 32 likeliest tokens after each prompt by the logits of whole texts, and what `generate` writes with its cache,
--- which has to be their text. That text serves as a guess, so that most tokens are found in one pass.
local function greedy(model)
  local found = {}
  for i, prompt in ipairs(prompts) do
    local ids, tokens = model.tokenizer:encode(prompt), {}
    local text = model:generate(prompt, { max_new_tokens = 32 })
    local guess, start = { table.unpack(model.tokenizer:encode(prompt .. text), #ids + 1) }, #ids
    repeat
      local all = table.move(ids, 1, #ids, 1, {})
      table.move(guess, 1, #guess, #ids + 1, all)
      local best, position = model:logits(all):argmax(2):totable(), #ids
      repeat
        local token = best[position] - 1 -- Lua counts from 1
        tokens[#tokens + 1], ids[#ids + 1] = token, token
        position = position + 1
      until #tokens == 32 or best[position] == nil or all[position] ~= ids[position]
      guess = {}
    until #tokens == 32
    local whole = model.tokenizer:decode(tokens)
    assert(whole:sub(1, #text) == text, ("generate wrote %q, the logits say %q"):format(text, whole))
    found[i] = { ids = table.move(ids, 1, start, 1, {}), tokens = tokens }
  end
  return found
end

local function at(name) return p.work .. "/" .. name end

if p.stage == "bases" then
  local model = qlora.load(p.model, { compute = "f32" })
  for _, type in ipairs { "f32", "f16" } do model:save_gguf(at("base-" .. type .. ".gguf"), { type = type }) end
  return
end

local model = qlora.load(at "base-f32.gguf", { compute = "f32" })
local said = { base = { f32 = greedy(model) }, adapter = {}, merged = {}, perplexity = {} }
model:add_lora { select = "all-linear", rank = 8, alpha = 16 }
local data = qlora.data.load(p.data, { tokenizer = model.tokenizer, max_length = 256, limit = 200 })
qlora.train { model = model, data = data, optimizer = qlora.optim.adamw(model:trainable(), { lr = 2e-3 }),
  steps = p.steps, batch = 2 }
model:save_adapter(at "adapter")
model:save_adapter(at "adapter.gguf")
said.adapter.f32 = greedy(model)
for _, type in ipairs(types) do model:save_gguf(at("merged-" .. type .. ".gguf"), { type = type, merge = true }) end

-- On every other base, each as it lies in its file.
for _, type in ipairs { "f16", table.unpack(kept) } do
  local base = qlora.load(at("base-" .. type .. ".gguf"), { quant = type ~= "f16" and "keep" or false, compute = "f32" })
  said.base[type] = greedy(base)
  base:add_adapter(at "adapter")
  said.adapter[type] = greedy(base)
end
for _, type in ipairs(types) do
  local merged = qlora.load(at("merged-" .. type .. ".gguf"),
    { quant = not type:find "^b?f" and "keep" or false, compute = "f32" })
  said.merged[type] = greedy(merged)
end
native.write_file(at "said.json", qlora.json.encode(said))
