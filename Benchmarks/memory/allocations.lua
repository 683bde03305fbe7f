-- What allocations.py counts: training steps (SmolLM2 QLoRA, 1 x 512), or greedily generated tokens.
local qlora = require "qlora"

local p = qlora.params { model = "downloads/SmolLM2-135M-Instruct.Q4_1.gguf", steps = 0, tokens = 0 }
local model = qlora.load(p.model, { quant = "nf4", double_quant = true, compute = "bf16" })
if p.tokens > 0 then model:generate("Once upon a time there was a", { max_new_tokens = p.tokens }) end
if p.steps > 0 then
  model:add_lora { select = "all-linear", rank = 16, alpha = 16, quiet = true }
  local optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3 })
  local ids = {}
  for i = 1, 512 do ids[i] = i * 7919 % model.config.vocab_size end
  local batch = qlora.native.batch { { ids = ids } }
  for _ = 1, p.steps do
    optimizer:zero_grad()
    model:loss(batch):backward()
    optimizer:step()
  end
end
