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

-- 2. Samples as in training, with the beginning and the end of a text: answers and their ends have labels.
local function samples(list, answer)
  return qlora.data.load(list, { tokenizer = model.tokenizer, format = function(pair)
    return { { text = pair.prompt }, { text = pair[answer], train = true } }
  end })
end

-- 3. The log probability of an answer, with its gradient: what the last norm gives, times the output matrix.
local output = model:module(model.config.tie_word_embeddings and "model.embed_tokens" or "lm_head"):weight():t()
local hidden --- @type Tensor
local _ <close> = model:hook("model.norm", function(_module, result) hidden = result end)
local function log_probability(sample)
  model:loss(qlora.data.batch { sample })
  local targets = {}
  for i, label in ipairs(sample.labels) do
    if label ~= -100 then targets[#targets + 1] = { sample.ids[i] + 1 } end
  end
  -- Each token is foretold by the one before it; the answer is the end of the sample.
  local rows = hidden:narrow(1, #sample.ids - #targets, #targets):matmul(output)
  return rows:log_softmax():gather(2, qlora.tensor(targets, { dtype = "i64" })):sum()
end

-- 4. How much more than its base the model prefers the chosen answer.
local function margin(chosen, rejected)
  local base = model:without_adapters(function()
    return log_probability(chosen):item() - log_probability(rejected):item()
  end)
  return log_probability(chosen) - log_probability(rejected) - base
end

local training, held_out = preferences(p.steps * p.batch, 0), preferences(20, 1000)
local chosen, rejected = samples(training, "chosen"), samples(training, "rejected")
for step = 1, p.steps do
  optimizer:zero_grad()
  local sum = 0.0
  for place = (step - 1) * p.batch, step * p.batch - 1 do
    local i = place % #chosen + 1
    -- -log sigmoid(x), which overflows nowhere: of two scores x and 0 the first is right.
    local x = margin(chosen[i], rejected[i]) * p.beta
    local loss = qlora.cat({ x:view(1, 1), qlora.zeros(1, 1) }, 2):log_softmax()[1][1]:neg() / p.batch
    loss:backward()
    sum = sum + loss:item()
  end
  qlora.clip_grad_norm(model:trainable(), 1.0)
  optimizer:step()
  if step == 1 or step % 10 == 0 then print(("step %d  loss %.4f"):format(step, sum)) end
end

local right = 0
chosen, rejected = samples(held_out, "chosen"), samples(held_out, "rejected")
for i = 1, #chosen do
  if margin(chosen[i], rejected[i]):item() > 0 then right = right + 1 end
end
print(("the chosen answer gained in %d of %d unseen pairs"):format(right, #chosen))
model:save_adapter(p.out)
