-- One setting of the grid: with --plan it prints the plan, without it trains a few steps and prints the highest
-- resident memory the process ever had (VmHWM). plan_grid.py runs it in a fresh process each time.
local qlora = require "qlora"

local p = qlora.params {
  model = "downloads/SmolLM2-135M-Instruct.Q4_1.gguf", quant = "nf4", compute = "bf16", rank = 16, dropout = 0.05,
  batch = 4, micro_batch = 4, length = 256, checkpointing = false, bits = 32, paged = false, budget = "8MiB", steps = 3,
  scripted = false,
}

local model = qlora.load(p.model, {
  quant = p.quant ~= "false" and p.quant, double_quant = p.quant ~= "false" or nil, compute = p.compute,
})
local rank, scale, dropout = p.rank, 32 / p.rank, p.dropout
if p.scripted then -- the same in Lua
  model:add_adapter_module("all-linear", {
    quiet = true,
    parameters = function(m)
      return { A = qlora.randn(rank, m.in_features) / m.in_features ^ 0.5, B = qlora.zeros(m.out_features, rank) }
    end,
    forward = function(x, base, w, training)
      if training and dropout > 0 then x = x * qlora.rand(x:shape()):ge(dropout) / (1 - dropout) end
      return base + x:matmul(w.A:t()):matmul(w.B:t()) * scale
    end,
  })
else
  model:add_lora { select = "all-linear", rank = rank, alpha = 32, dropout = dropout, quiet = true }
end
local optimizer = qlora.optim.adamw(model:trainable(), {
  lr = 1e-4, bits = p.bits, paged = p.paged, budget = p.budget,
})

if qlora.native.options.plan then
  local plan = model:plan { batch = p.batch, micro_batch = p.micro_batch, length = p.length,
    checkpointing = p.checkpointing, optimizer = optimizer }
  print(plan)
  print(("plan_peak %d\nplan_seconds %.4f"):format(plan.peak, plan.seconds_per_step))
  return
end

local words = {}
for i = 1, p.batch * p.length do words[i] = ("word %d"):format(i * 7919 % 1000) end
local data = qlora.data.load({ { text = table.concat(words, " ") } }, {
  format = "text", tokenizer = model.tokenizer, max_length = p.length, quiet = true,
})
local result = qlora.train {
  model = model, data = data, steps = p.steps, batch = p.batch, micro_batch = p.micro_batch, max_grad_norm = 1.0,
  checkpointing = p.checkpointing, optimizer = optimizer,
}
local seconds = (result.history[p.steps].seconds - result.history[1].seconds) / (p.steps - 1)
print(("measured_peak %d\nmeasured_seconds %.4f"):format(qlora.memory().peak_rss, seconds))
