-- Several adapters trained at once: ranks and rates on one pass over the base.
--
--   qlora-run sweep_together.lua
--   qlora-run sweep_together.lua --set together=false
--   qlora-run --set model=path/to/model --set data=my_alpaca.json --set format=alpaca sweep_together.lua
--
-- Expected: both ways print the same losses up to rounding, which in bf16 is about 0.5 %. With `together` the frozen
-- weights are decoded, streamed and multiplied once for all variants, and memory holds the activations of all: --plan
-- tells how much. Ctrl-C stops all of them, each with a checkpoint of its own, and --resume goes on with all.
local qlora = require "qlora"
local world = require "qlora.world"

local p = qlora.params {
  model = qlora.resource "models/tiny", data = "", format = "input_output", samples = 400, max_length = 96,
  together = true, ranks = { 2, 8 }, rates = { 1e-3, 4e-3 }, steps = 60, batch = 8, micro_batch = 8,
  dir = "runs/sweep_together",
}

qlora.sweep {
  together = p.together, variants = { rank = p.ranks, lr = p.rates }, lowest = "eval_loss", dir = p.dir,
  columns = { "rank", "lr", "trained", "loss", "eval_loss", "seconds" },
  base = function() return qlora.load(p.model, { quant = "nf4", double_quant = true }) end,
  run = function(v, model)
    local all = qlora.data.load(p.data ~= "" and p.data or world.records(p.samples, 0), {
      format = p.format, tokenizer = model.tokenizer, max_length = p.max_length, limit = p.samples,
    })
    local training, held_out = all:split(0.1, 0)
    local report = model:add_lora { select = "all-linear", rank = v.rank, alpha = 2 * v.rank, dropout = 0.05 }
    local result = qlora.train {
      model = model, data = training, optimizer = qlora.optim.adamw(model:trainable(), { lr = v.lr }),
      schedule = qlora.schedule.warmup(5, qlora.schedule.cosine(p.steps)), steps = p.steps,
      batch = p.batch, micro_batch = p.micro_batch, max_grad_norm = 1.0,
      dir = ("%s/rank-%d-lr-%g"):format(p.dir, v.rank, v.lr),
    }
    local _, eval_loss = qlora.eval.perplexity(model, held_out, { batch = p.micro_batch })
    return { trained = report.trainable, loss = result.last_loss, eval_loss = eval_loss }
  end,
}
