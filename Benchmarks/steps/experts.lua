-- What a step of a model with experts costs beside one of a dense model with the same products for each token.
--
--   qlora-run [--set KEY=VALUE]... Benchmarks/steps/experts.lua        (writes 1.5 GB into `folder`, once)
--
-- The shape is that of Qwen3-30B-A3B with `layers` layers and a small vocabulary, with random weights in NF4. The dense
-- model's feed-forward layers are as wide as the experts of a token together. LoRA on all linear layers; steps in turns.
local qlora = require "qlora"
local clock, batch_of = qlora.native.clock, qlora.native.batch

local p = qlora.params { folder = "out", layers = 4, length = 512, rank = 8, warmup = 1, steps = 5, compute = "bf16" }

local shape = {
  hidden_size = 2048, num_hidden_layers = p.layers, num_attention_heads = 32, num_key_value_heads = 4, head_dim = 128,
  vocab_size = 4096, max_position_embeddings = 4096, rms_norm_eps = 1e-6, rope_theta = 1e6,
}

local function side(changes)
  local config = {}
  for _, fields in ipairs { shape, changes } do
    for key, value in pairs(fields) do config[key] = value end
  end
  local path = ("%s/%s-%d"):format(p.folder, config.model_type, p.layers)
  if not qlora.native.exists(path) then qlora.native.synthetic_checkpoint(path, { config = config }) end
  local model = qlora.load(path, { compute = p.compute, stream = false })
  model:add_lora { select = "all-linear", rank = p.rank, alpha = p.rank }
  return { model = model, opt = qlora.optim.adamw(model:trainable(), { lr = 1e-4 }), times = {} }
end

local ids, id = {}, 1
for t = 1, p.length do
  id = (id * 1103515245 + 12345) % 2147483648
  ids[t] = (id >> 8) % shape.vocab_size
end

local function step(s)
  local began = clock()
  s.opt:zero_grad()
  s.model:loss(batch_of { { ids = ids } }):backward()
  s.opt:step()
  return clock() - began
end

local experts = side {
  model_type = "qwen3_moe", intermediate_size = 6144, moe_intermediate_size = 768, num_experts = 128,
  num_experts_per_tok = 8, norm_topk_prob = true,
}
local dense = side { model_type = "qwen3", intermediate_size = 8 * 768 }
for index = 1, p.warmup + p.steps do
  for _, s in ipairs { experts, dense } do
    local seconds = step(s)
    if index > p.warmup then s.times[#s.times + 1] = seconds end
  end
end

local function median(values)
  table.sort(values)
  return values[(#values + 1) // 2]
end
local a, b = median(experts.times), median(dense.times)
print(("%d layers, %d tokens: experts %.2f s, dense %.2f s, ratio %.2f"):format(p.layers, p.length, a, b, a / b))
