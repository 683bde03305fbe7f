-- Dropout: LoRA dropout against overfitting on few samples, over several epochs (appendix A.1).
--
--   qlora-run experiments/dropout.lua
--   qlora-run --set model=SmolLM2-135M-Instruct.Q4_1.gguf --set data=my_alpaca.json --set format=alpaca \
--     --set max_length=256 experiments/dropout.lua
--
-- Expected: 50 MB and 8 s on the tiny model. The paper's finding: 0.05 helps small models (7B, 13B) a little and large
-- ones not at all. Dropout should narrow the gap between loss and eval loss. The default task is learnt by rule, and
-- there no dropout does best.
local qlora = require "qlora"
local world = require "qlora.world"

local p = qlora.params {
  model = qlora.resource "models/tiny", data = "", format = "input_output", samples = 800, max_length = 128,
  rank = 16, lr = 4e-3, steps = 120, batch = 8, micro_batch = 8, few = 64,
  rates = { 0.0, 0.05, 0.1, 0.2 },
}

local function data_for(model)
  local all = qlora.data.load(p.data ~= "" and p.data or world.records(p.samples, 0), {
    format = p.format, tokenizer = model.tokenizer, max_length = p.max_length, limit = p.samples,
  })
  return all:split(0.1, 0)
end

qlora.sweep {
  variants = { dropout = p.rates }, lowest = "eval_loss", dir = "runs/dropout",
  columns = { "dropout", "epochs", "loss", "eval_loss", "seconds" },
  base = function() return qlora.load(p.model, { quant = "nf4", double_quant = true }) end,
  run = function(v, model)
    local rest, held_out = data_for(model)
    local few = rest
    if #rest > p.few then few = select(2, rest:split(p.few, 1)) end
    model:add_lora { select = "all-linear", rank = p.rank, alpha = 2 * p.rank, dropout = v.dropout }
    local result = qlora.train {
      model = model, data = few, optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr }),
      schedule = qlora.schedule.warmup(5, qlora.schedule.cosine(p.steps)),
      batch = p.batch, micro_batch = p.micro_batch, steps = p.steps, max_grad_norm = 1.0,
    }
    local _, eval_loss = qlora.eval.perplexity(model, held_out, { batch = p.micro_batch })
    return { epochs = p.steps * p.batch / #few, loss = result.last_loss, eval_loss = eval_loss }
  end,
}
