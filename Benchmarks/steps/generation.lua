-- Prompt and generation speed, one token at a time with the key-value cache.
--
--   qlora-run [--set KEY=VALUE]... generation.lua
--
-- Prints tokens per second: a prompt of `prompt` tokens (one forward pass), then `tokens` new ones after a short prompt,
-- without and with drawing (temperature 0.8, top_p 0.95); the median and the best of `rounds`.
local qlora = require "qlora"
local clock = qlora.native.clock

local p = qlora.params {
  model = "downloads/SmolLM2-135M-Instruct.Q4_1.gguf", compute = "bf16", prompt = 512, tokens = 128, rounds = 5,
}
local model = qlora.load(p.model, { quant = "nf4", double_quant = true, compute = p.compute })

local function measure(name, count, body)
  body()
  local rates = {}
  for round = 1, p.rounds do
    local start = clock()
    local made = body() or count
    rates[round] = made / (clock() - start)
  end
  table.sort(rates)
  print(("%-24s %7.1f tok/s median %7.1f best"):format(name, rates[(#rates + 1) // 2], rates[#rates]))
end

local ids = {}
for i = 1, p.prompt do ids[i] = i * 7919 % (model.config.vocab_size - 1) + 1 end
measure("prompt of " .. p.prompt, p.prompt, function() model:generate(ids, { max_new_tokens = 1 }) end)

local text = "Once upon a time there was a"
local function generation(options)
  options.max_new_tokens = p.tokens
  return function() return #model.tokenizer:encode(model:generate(text, options)) end
end
measure("greedy", p.tokens, generation {})
measure("drawn", p.tokens, generation { temperature = 0.8, top_p = 0.95, seed = 1 })
