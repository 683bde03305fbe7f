-- Which modules: adapters on attention, on the feed-forward part, on everything (the paper's figure 2).
--
--   qlora-run experiments/which_modules.lua
--   qlora-run --set model=SmolLM2-135M-Instruct.Q4_1.gguf --set data=my_alpaca.json --set format=alpaca \
--     --set max_length=256 experiments/which_modules.lua
--
-- Expected: 50 MB and 5 s on the tiny model. The paper's finding: all linear layers are needed to match full
-- fine-tuning; query and value alone are not enough. Compare eval losses. The first four rows train different numbers
-- of parameters; the last row spends as many as "all linear" on attention alone.
local qlora = require "qlora"
local world = require "qlora.world"

local p = qlora.params {
  model = qlora.resource "models/tiny", data = "", format = "input_output", samples = 800, max_length = 128,
  rank = 8, lr = 4e-3, steps = 100, batch = 8, micro_batch = 8,
}

local function data_for(model)
  local all = qlora.data.load(p.data ~= "" and p.data or world.records(p.samples, 0), {
    format = p.format, tokenizer = model.tokenizer, max_length = p.max_length, limit = p.samples,
  })
  return all:split(0.1, 0)
end

local select = qlora.select
qlora.sweep {
  variants = {
    { modules = "query and value", select = { "q_proj", "v_proj" }, rank = p.rank },
    { modules = "attention", select = select.attention(), rank = p.rank },
    { modules = "feed-forward", select = select.mlp(), rank = p.rank },
    { modules = "all linear", select = "all-linear", rank = p.rank },
    { modules = "attention, equal size", select = select.attention(), rank = 3 * p.rank },
  },
  columns = { "modules", "rank", "trained", "loss", "eval_loss", "seconds" }, lowest = "eval_loss",
  dir = "runs/which_modules",
  base = function() return qlora.load(p.model, { quant = "nf4", double_quant = true }) end,
  run = function(v, model)
    local training, held_out = data_for(model)
    local report = model:add_lora { select = v.select, rank = v.rank, alpha = 2 * v.rank }
    local result = qlora.train {
      model = model, data = training, optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr }),
      schedule = qlora.schedule.warmup(5, qlora.schedule.cosine(p.steps)),
      batch = p.batch, micro_batch = p.micro_batch, steps = p.steps, max_grad_norm = 1.0,
    }
    local _, eval_loss = qlora.eval.perplexity(model, held_out, { batch = p.micro_batch })
    return { trained = report.trainable, loss = result.last_loss, eval_loss = eval_loss }
  end,
}
