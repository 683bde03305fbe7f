-- SmolLM2 135M: fine-tune a real chat model from its GGUF file on grade-school arithmetic (GSM8K in Alpaca form).
--
--   qlora-run --set model=SmolLM2-135M-Instruct.Q4_1.gguf --set data=gsm8k_alpaca.json smollm2.lua
--
-- Expected: below 1 GB of memory; time and exact memory for your machine: add --plan. The loss falls slowly: a model of
-- this size learns the form of the answers, not arithmetic.
local qlora = require "qlora"

local p = qlora.params {
  model = "SmolLM2-135M-Instruct.Q4_1.gguf", data = "gsm8k_alpaca.json", out = "out/smollm2-gsm8k",
  rank = 16, alpha = 32, dropout = 0.05, lr = 5e-4, steps = 100, batch = 8, micro_batch = 4, max_length = 256,
  limit = 3000, eval_samples = 32, eval_every = 25,
}

local model = qlora.load(p.model, { quant = "nf4", double_quant = true })

-- Alpaca records as a chat, in the template the tokenizer brings along.
local function as_chat(record, context)
  return qlora.chat.spans(context.template or "chatml", {
    { role = "user", content = record.instruction }, { role = "assistant", content = record.output },
  }, context.chat)
end

local data = qlora.data.load(p.data, {
  format = as_chat, tokenizer = model.tokenizer, max_length = p.max_length, limit = p.limit, eos = false,
})
data:preview(1)
local training, held_out = data:split(math.min(p.eval_samples, math.max(1, #data // 10)), 42)

local function ask(question)
  local messages = { { role = "user", content = question } }
  local text = model.tokenizer:apply_chat(messages, { add_generation_prompt = true, template = "chatml" })
  return model:generate(text, { max_new_tokens = 96, temperature = 0, stop = "<|im_end|>" })
end
local question = "Ben has 3 boxes with 12 pencils each. He gives 9 pencils away. How many are left?"

if not qlora.native.options.plan then print("Before: " .. ask(question)) end
model:add_lora { select = "all-linear", rank = p.rank, alpha = p.alpha, dropout = p.dropout }

qlora.train {
  model = model, data = training, optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr, bits = 8 }),
  schedule = qlora.schedule.warmup(10, qlora.schedule.cosine(p.steps)),
  batch = p.batch, micro_batch = p.micro_batch, steps = p.steps, max_grad_norm = 1.0, group_by_length = true,
  eval_data = held_out, eval_every = p.eval_every, save_every = 50, dir = "runs/smollm2-gsm8k",
}

print("After:  " .. ask(question))
model:save_adapter(p.out)
