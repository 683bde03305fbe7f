-- Prompt and generation speed, one token at a time with the key-value cache.
--
--   qlora-run [--set KEY=VALUE]... generation.lua
--
-- Prints tokens per second: a prompt of `prompt` tokens (one forward pass), then `tokens` new ones after a short prompt,
-- without and with drawing (temperature 0.8, top_p 0.95); the median and the best of `rounds`. With turns=true it is one
-- side of generation.py: it prints a line of JSON and waits, and answers a line of input that says prompt, greedy or drawn.
local qlora = require "qlora"
local json = require "qlora.json"
local clock = qlora.native.clock

local p = qlora.params {
  model = "downloads/SmolLM2-135M-Instruct.Q4_1.gguf", compute = "bf16", quant = "nf4", prompt = 512, tokens = 128, rounds = 5,
  turns = false,
}
local start = clock()
local model = qlora.load(p.model, { quant = p.quant, compute = p.compute })
local loaded = clock() - start

local ids = {}
for i = 1, p.prompt do ids[i] = i * 7919 % (model.config.vocab_size - 1) + 1 end
local text = "Once upon a time there was a"
local function generation(options)
  options.max_new_tokens = p.tokens
  return function() return #model.tokenizer:encode(model:generate(text, options)) end
end
--- What is measured, by name; each returns the number of its tokens.
local work = {
  prompt = function()
    model:generate(ids, { max_new_tokens = 1 })
    return p.prompt
  end,
  greedy = generation {},
  drawn = generation { temperature = 0.8, top_p = 0.95, seed = 1 },
}
local function timed(name)
  local began = clock()
  local made = work[name]()
  return made, clock() - began
end

local function measure(name)
  work[name]()
  local rates = {}
  for round = 1, p.rounds do
    local made, seconds = timed(name)
    rates[round] = made / seconds
  end
  table.sort(rates)
  local title = name == "prompt" and "prompt of " .. p.prompt or name
  print(("%-24s %7.1f tok/s median %7.1f best"):format(title, rates[(#rates + 1) // 2], rates[#rates]))
end

local function say(fields)
  print(json.encode(fields))
  io.stdout:flush()
end

if not p.turns then
  for _, name in ipairs { "prompt", "greedy", "drawn" } do measure(name) end
  return
end
say { load_s = loaded, isa = qlora.cpu().set }
for name in io.lines() do
  local made, seconds = timed(name)
  say { tokens = made, seconds = seconds }
end
say { peak_mb = qlora.memory().peak_rss / 2 ^ 20 }
