-- Steps of two micro-batches: prints the seconds of the fastest and of the median one.
local qlora = require "qlora"
local p = qlora.params { model = "downloads/SmolLM2-135M-Instruct.Q4_1.gguf", steps = 6, tokens = 256, micro_batches = 2 }
local model = qlora.load(p.model, { quant = "nf4", double_quant = true })
model:add_lora { select = "all-linear", rank = 16, alpha = 32 }
local words, text = { "bread", "and", "water", "on", "the", "table", "under", "a", "tree" }, {}
for i = 1, 40 * p.tokens do text[i] = words[i * i % 9 + 1] end
local data = qlora.data.load({ { text = table.concat(text, " ") } },
  { format = "text", tokenizer = model.tokenizer, max_length = p.tokens })
local seconds, before = {}, nil
qlora.train {
  model = model, data = data, steps = p.steps, batch = p.micro_batches, micro_batch = 1, dir = "out/ranks-step",
  parts = p.micro_batches, save_every = 1000, optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-4 }),
  on_step = function(s)
    if before then seconds[#seconds + 1] = s.seconds - before end
    before = s.seconds
  end,
}
table.sort(seconds)
print(("seconds %.4f %.4f"):format(seconds[1], seconds[(#seconds + 1) // 2]))
