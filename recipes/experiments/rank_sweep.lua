-- Rank sweep: ranks 1 to 64 with everything else equal (appendix A.1).
--
--   qlora-run experiments/rank_sweep.lua
--   qlora-run --set model=SmolLM2-135M-Instruct.Q4_1.gguf --set data=my_alpaca.json --set format=alpaca \
--     --set max_length=256 experiments/rank_sweep.lua
--
-- Expected: 60 MB and 8 s on the tiny model. The paper's finding: with adapters on all linear layers the rank hardly
-- matters. In the 100 steps of the default task small ranks learn more slowly.
local qlora = require "qlora"
local world = require "qlora.world"

local p = qlora.params {
  model = qlora.resource "models/tiny", data = "", format = "input_output", samples = 800, max_length = 128,
  ranks = { 1, 2, 4, 8, 16, 32, 64 }, lr = 4e-3, steps = 100, batch = 8, micro_batch = 8,
}

local function data_for(model)
  local all = qlora.data.load(p.data ~= "" and p.data or world.records(p.samples, 0), {
    format = p.format, tokenizer = model.tokenizer, max_length = p.max_length, limit = p.samples,
  })
  return all:split(0.1, 0)
end

qlora.sweep {
  variants = { rank = p.ranks }, lowest = "eval_loss", dir = "runs/rank_sweep",
  columns = { "rank", "trained", "loss", "eval_loss", "seconds" },
  base = function() return qlora.load(p.model, { quant = "nf4", double_quant = true }) end,
  run = function(v, model)
    local training, held_out = data_for(model)
    local report = model:add_lora { select = "all-linear", rank = v.rank, alpha = 2 * v.rank }
    local result = qlora.train {
      model = model, data = training, optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr }),
      schedule = qlora.schedule.warmup(5, qlora.schedule.cosine(p.steps)),
      batch = p.batch, micro_batch = p.micro_batch, steps = p.steps, max_grad_norm = 1.0,
    }
    local _, eval_loss = qlora.eval.perplexity(model, held_out, { batch = p.micro_batch })
    return { trained = report.trainable, loss = result.last_loss, eval_loss = eval_loss }
  end,
}
