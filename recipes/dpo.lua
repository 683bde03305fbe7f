-- DPO: preferences instead of answers, with a loss made by hand.
--
--   qlora-run dpo.lua
--   qlora-run dpo.lua --set beta=0.3
--
-- Expected: half a minute on two cores; the first loss is ln 2, 0.6931. Dropout stays 0, so that model and base are
-- comparable. Granite and Gemma 2 scale or cap their logits: do the same to `rows` there.
local qlora = require "qlora"
local world = require "qlora.world"

local p = qlora.params {
  model = qlora.resource "models/tiny", rank = 8, lr = 1e-3, beta = 0.1, steps = 40, batch = 8, out = "out/dpo",
}
if qlora.native.options.plan then
  return print "no plan: what a loss made by hand keeps is not known before it runs"
end

local model = qlora.load(p.model, { quant = "nf4" })
model:add_lora { select = "all-linear", rank = p.rank, alpha = 2 * p.rank }
local optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr })

-- 1. Pairs: the place is wanted, the person is not. qlora.native.read_records(path) reads those of a file.
local function preferences(count, seed)
  local list = {}
  for i, scene in ipairs(world.scenes(count, seed)) do
    local prompt = scene.sentence .. "\nSummary:"
    list[i] = { prompt = prompt, chosen = " Where: " .. scene.where, rejected = " Who: " .. scene.who }
  end
  return list
end

-- 2. The log probability of an answer, with its gradient: what the last norm gives, times the output matrix.
local output = model:module(model.config.tie_word_embeddings and "model.embed_tokens" or "lm_head"):weight():t()
local hidden --- @type Tensor
local _ <close> = model:hook("model.norm", function(_module, result) hidden = result end)
local function log_probability(prompt, answer)
  local ids = model.tokenizer:encode_parts { prompt, answer }
  local first = #model.tokenizer:encode(prompt) + 1
  model:loss(qlora.data.batch { { ids = ids } })
  local targets = {}
  for i = first, #ids do targets[#targets + 1] = { ids[i] + 1 } end
  local rows = hidden:narrow(1, first - 1, #targets):matmul(output)
  return rows:log_softmax():gather(2, qlora.tensor(targets, { dtype = "i64" })):sum()
end

-- 3. How much more than its base the model prefers the chosen answer.
local function margin(pair)
  local base = model:without_adapters(function()
    return log_probability(pair.prompt, pair.chosen):item() - log_probability(pair.prompt, pair.rejected):item()
  end)
  return log_probability(pair.prompt, pair.chosen) - log_probability(pair.prompt, pair.rejected) - base
end

local training, held_out = preferences(p.steps * p.batch, 0), preferences(20, 1000)
for step = 1, p.steps do
  optimizer:zero_grad()
  local sum = 0.0
  for i = 1, p.batch do
    local loss = (margin(training[(step - 1) * p.batch + i]) * p.beta):sigmoid():log():neg() / p.batch
    loss:backward()
    sum = sum + loss:item()
  end
  qlora.clip_grad_norm(model:trainable(), 1.0)
  optimizer:step()
  if step == 1 or step % 10 == 0 then print(("step %d  loss %.4f"):format(step, sum)) end
end

local right = 0
for _, pair in ipairs(held_out) do
  if margin(pair):item() > 0 then right = right + 1 end
end
print(("the chosen answer gained in %d of %d unseen pairs"):format(right, #held_out))
model:save_adapter(p.out)
