-- Four-bit types: NF4, FP4, int4 and 16 bits, before and after fine-tuning (tables 2 to 4).
--
--   qlora-run experiments/four_bit_types.lua
--   qlora-run --set model=SmolLM2-135M-Instruct.Q4_1.gguf --set data=my_alpaca.json --set format=alpaca \
--     --set max_length=256 experiments/four_bit_types.lua
--
-- Expected: 50 MB and 5 s on the tiny model, which is too small to tell the types apart. The paper's finding: before
-- fine-tuning perplexity orders them 16 bit, NF4, FP4, int4. After fine-tuning NF4 is as good as 16 bits.
-- `base_perplexity` is measured on the file `text`, or on the tiny model's own world. SmolLM2-135M on eight windows of
-- Shakespeare has 62.6, 81.0, 84.2, 96.4, the paper's order. Fine-tuning it takes 500 MB.
local qlora = require "qlora"
local world = require "qlora.world"

local p = qlora.params {
  model = qlora.resource "models/tiny", data = "", format = "input_output", samples = 800, max_length = 128,
  rank = 8, lr = 4e-3, steps = 100, batch = 8, micro_batch = 8,
  text = "", text_samples = 64,
}

local function data_for(model)
  local all = qlora.data.load(p.data ~= "" and p.data or world.records(p.samples, 0), {
    format = p.format, tokenizer = model.tokenizer, max_length = p.max_length, limit = p.samples,
  })
  return all:split(0.1, 0)
end

local function text_for(model)
  local known = {}
  for i, text in ipairs(world.texts(p.text_samples, 12345)) do known[i] = { text = text } end
  return qlora.data.load(p.text ~= "" and p.text or known, {
    format = p.text ~= "" and "text" or "completion", tokenizer = model.tokenizer, max_length = p.max_length,
  })
end

qlora.sweep {
  variants = { { quant = false }, { quant = "nf4" }, { quant = "fp4" }, { quant = "int4" } },
  columns = { "quant", "megabytes", "base_perplexity", "loss", "eval_loss", "seconds" }, lowest = "eval_loss",
  dir = "runs/four_bit_types",
  base = function(v) return qlora.load(p.model, { quant = v.quant }) end,
  run = function(_, model)
    local training, held_out = data_for(model)
    local bytes = 0
    for m in model:modules() do bytes = bytes + m.bytes end
    local measure = { batch = p.micro_batch, limit = p.text_samples }
    local base_perplexity = qlora.eval.perplexity(model, text_for(model), measure)
    model:add_lora { select = "all-linear", rank = p.rank, alpha = 2 * p.rank }
    local result = qlora.train {
      model = model, data = training, optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr }),
      schedule = qlora.schedule.warmup(5, qlora.schedule.cosine(p.steps)),
      batch = p.batch, micro_batch = p.micro_batch, steps = p.steps, max_grad_norm = 1.0,
    }
    local _, eval_loss = qlora.eval.perplexity(model, held_out, { batch = p.micro_batch })
    return {
      megabytes = bytes / 1e6, base_perplexity = base_perplexity, loss = result.last_loss, eval_loss = eval_loss,
    }
  end,
}
