-- Guanaco 33B: LLaMA-33B on OpenAssistant with the settings of the QLoRA paper.
--
--   qlora-run --plan llama33b.lua
--   qlora-run --set data=openassistant_best_replies_train.jsonl llama33b.lua
--
-- Expected: 488 million trained parameters; 26 GiB with the base in memory, 5.4 GiB with the base streamed from disk
-- (both planned). Not run to the end here, so no loss is promised. docs/recipes.md explains the settings.
local qlora = require "qlora"

local p = qlora.params {
  model = "huggyllama/llama-30b", data = "data/openassistant_best_replies_train.jsonl", out = "out/guanaco-33b",
  rank = 64, alpha = 16, dropout = 0.05, lr = 1e-4, steps = 1875, batch = 16, micro_batch = 1,
  source_max_length = 16, target_max_length = 512, seed = 0,
  save_every = 250, -- 0: no run directory and no checkpoints
}

local model = qlora.load(p.model, { quant = "nf4", double_quant = true, compute = "bf16" })

model:add_lora {
  select = "all-linear", rank = p.rank, alpha = p.alpha, dropout = p.dropout,
}

local data = qlora.data.load(p.data, {
  format = "oasst1", tokenizer = model.tokenizer, -- trains the whole conversation, as qlora.py does
  source_max_length = p.source_max_length, target_max_length = p.target_max_length,
})

qlora.train {
  model = model, data = data,
  optimizer = qlora.optim.adamw(model:trainable(), {
    lr = p.lr, betas = { 0.9, 0.999 }, weight_decay = 0.0, paged = true,
  }),
  schedule = qlora.schedule.constant(), batch = p.batch, micro_batch = p.micro_batch, steps = p.steps,
  max_grad_norm = 0.3, group_by_length = true, seed = p.seed,
  save_every = p.save_every > 0 and p.save_every or nil, keep = 40,
  dir = p.save_every > 0 and "runs/guanaco-33b" or nil,
  on_step = function(s)
    if s.step % 187 == 0 then
      print(model:generate("### Human: What is NF4?### Assistant:", { max_new_tokens = 128, stop = "### Human:" }))
    end
  end,
}
if p.out ~= "" then model:save_adapter(p.out) end
