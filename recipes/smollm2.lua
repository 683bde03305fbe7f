-- SmolLM2 135M: teach a real chat model to solve word problems step by step, from its GGUF file.
--
--   qlora-run --set model=SmolLM2-135M-Instruct.Q4_1.gguf smollm2.lua
--   qlora-run --set model=SmolLM2-135M-Instruct.Q4_1.gguf --plan smollm2.lua
--
-- Expected: below 1 GB of memory; --plan says how long it takes here. `make smollm2` fetches the model (98 MB) and runs
-- this. The problems ship with the program; --set data=FILE takes any Alpaca file.
local qlora = require "qlora"

local p = qlora.params {
  model = "SmolLM2-135M-Instruct.Q4_1.gguf", data = qlora.resource "data/word_problems.jsonl", out = "out/smollm2",
  rank = 16, alpha = 32, dropout = 0.05, lr = 1e-3, steps = 100, batch = 16, micro_batch = 8, max_length = 256,
  limit = 3000, asked = 20,
}

local model = qlora.load(p.model, { quant = "nf4", double_quant = true })

-- An Alpaca record as a chat, in the template the tokenizer brings along.
local function as_chat(record, context)
  return qlora.chat.spans(context.template or "chatml", {
    { role = "user", content = record.instruction }, { role = "assistant", content = record.output },
  }, context.chat)
end

local data = qlora.data.load(p.data, {
  format = as_chat, tokenizer = model.tokenizer, max_length = p.max_length, limit = p.limit, eos = false,
})
data:preview(1)
local training, held_out = data:split(math.min(p.asked, math.max(1, #data // 10)), 42)

-- Asks what training never sees. An answer is right when its last number is that of the record.
local function last_number(text) return (text:gsub("(%d),(%d)", "%1%2"):match ".*%f[%d](%d+)") end
local function ask(title)
  local right = 0
  for i = 1, #held_out do
    local sample, question, answer = held_out[i], {}, {}
    for position, id in ipairs(sample.ids) do
      local part = sample.labels[position] == -100 and #answer == 0 and question or answer
      table.insert(part, id)
    end
    local text, expected = model.tokenizer:decode(question), model.tokenizer:decode(answer)
    local got = model:generate(text, { max_new_tokens = 64, temperature = 0, stop = "<|im_end|>" })
    if last_number(got) == last_number(expected) then right = right + 1 end
    if i == 1 then print(title .. ": " .. got) end
  end
  print(("%d of %d unseen problems solved"):format(right, #held_out))
end

if not qlora.native.options.plan then ask "Before" end
model:add_lora { select = "all-linear", rank = p.rank, alpha = p.alpha, dropout = p.dropout }
qlora.train {
  model = model, data = training, optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr, bits = 8 }),
  schedule = qlora.schedule.warmup(10, qlora.schedule.cosine(p.steps)),
  batch = p.batch, micro_batch = p.micro_batch, steps = p.steps, max_grad_norm = 1.0, group_by_length = true,
  eval_data = held_out, eval_every = 25, save_every = 50, dir = "runs/smollm2",
}
ask "After"
model:save_adapter(p.out)
