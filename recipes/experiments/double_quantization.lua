-- Double quantization: on and off at two block sizes: bytes against perplexity and loss (section 3).
--
--   qlora-run experiments/double_quantization.lua
--   qlora-run --set model=SmolLM2-135M-Instruct.Q4_1.gguf --set data=my_alpaca.json --set format=alpaca \
--     --set max_length=256 experiments/double_quantization.lua
--
-- Expected: 50 MB and 5 s on the tiny model. The paper's finding: it saves 0.37 bits per parameter at block size 64 and
-- costs nothing. Blocks of 256 without it save as much.
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

--- Stored bits per parameter of the quantized matrices.
local function bits(model)
  local bytes, count = 0, 0
  for m in model:modules() do
    if m.quant then bytes, count = bytes + m.bytes, count + m.params end
  end
  return 8 * bytes / math.max(count, 1)
end

qlora.sweep {
  variants = { block = { 64, 256 }, double_quant = { false, true } },
  columns = { "block", "double_quant", "bits", "base_loss", "loss", "eval_loss", "seconds" }, lowest = "eval_loss",
  dir = "runs/double_quantization",
  base = function(v) return qlora.load(p.model, { quant = "nf4", block = v.block, double_quant = v.double_quant }) end,
  run = function(_, model)
    local training, held_out = data_for(model)
    local _, base_loss = qlora.eval.perplexity(model, held_out, { batch = p.micro_batch })
    model:add_lora { select = "all-linear", rank = p.rank, alpha = 2 * p.rank }
    local result = qlora.train {
      model = model, data = training, optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr }),
      schedule = qlora.schedule.warmup(5, qlora.schedule.cosine(p.steps)),
      batch = p.batch, micro_batch = p.micro_batch, steps = p.steps, max_grad_norm = 1.0,
    }
    local _, eval_loss = qlora.eval.perplexity(model, held_out, { batch = p.micro_batch })
    return { bits = bits(model), base_loss = base_loss, loss = result.last_loss, eval_loss = eval_loss }
  end,
}
