--- Measures of a model: perplexity, agreement of two models, MMLU as qlora.py runs it.
local native = require "qlora.native"
local strict = require "qlora.strict"

local eval = {}

--- Mean loss over trained targets of `data`: returns perplexity, mean negative log-likelihood (nats), targets counted.
function eval.perplexity(model, data, options)
  local o = strict.options("eval.perplexity", options, { batch = "count", limit = "count" })
  local size, last = o.batch or 1, math.min(o.limit or #data, #data)
  if native.options.smoke then last = math.min(last, 4) end
  if native.options.plan then return 0 / 0, 0 / 0, 0 end -- a plan has neither weights nor data
  if last == 0 then strict.fail("eval.perplexity: the data set is empty") end
  local sum, count = 0.0, 0
  for from = 1, last, size do
    local numbers = {}
    for i = from, math.min(from + size - 1, last) do numbers[#numbers + 1] = i end
    local nll, targets = model:nll(data:batch(numbers))
    sum, count = sum + nll, count + targets
  end
  return math.exp(sum / count), sum / count, count
end

local Comparison = {
  __tostring = function(self)
    return ("mean KL %.6f nats, %.1f %% equal top tokens, %d tokens"):format(self.kl, 100 * self.agreement, self.tokens)
  end,
}

--- How far `b` is from `a` on `data`: { kl = mean KL(a || b) per position in nats, agreement = share of equal top
--- tokens, tokens = }. `b` may be "base": the same model with its adapters switched off.
function eval.compare(a, b, data, options)
  local o = strict.options("eval.compare", options, { limit = "count" })
  local kl, agree, rows = 0.0, 0, 0
  for i = 1, math.min(o.limit or #data, #data) do
    local ids = data[i].ids
    local first = a:logits(ids)
    local second = b == "base" and a:without_adapters(function() return a:logits(ids) end) or b:logits(ids)
    local sum, same, count = native.compare_logits(first, second)
    kl, agree, rows = kl + sum, agree + same, rows + count
  end
  if rows == 0 then strict.fail("eval.compare: the data set is empty") end
  return setmetatable({ kl = kl / rows, agreement = agree / rows, tokens = rows }, Comparison)
end

local letters = { "A", "B", "C", "D" }

--- MMLU: each question's answer is the letter whose token has the highest logit after the prompt. Accuracy is the
--- unweighted mean over subjects, as qlora.py reports it. Returns { accuracy =, subjects = { name = accuracy },
--- questions = }.
function eval.mmlu(model, path, options)
  local o = strict.options("eval.mmlu", options, { limit = "count", max_length = "count" })
  local tokenizer, answer_ids = model.tokenizer, {}
  for i, letter in ipairs(letters) do answer_ids[i] = tokenizer:encode(letter, { special = false })[1] end
  local limit = native.options.smoke and math.min(o.limit or 4, 4) or o.limit
  local right, total, order, questions = {}, {}, {}, 0
  for index, record in ipairs(native.read_records(path, { limit = limit })) do
    if type(record.input) ~= "string" or type(record.output) ~= "string" or not record.subject then
      strict.fail("eval.mmlu: record %d of %s needs subject, input and output", index, path)
    end
    local ids = tokenizer:encode(record.input, { special = true })
    if #ids > (o.max_length or 2048) then ids = table.move(ids, 1, o.max_length or 2048, 1, {}) end
    local row = model:logits(ids, { last = true })[1]
    local best
    for i, id in ipairs(answer_ids) do
      local logit = row[id + 1]:item() -- token ids count from 0, tensor indices from 1
      if not best or logit > best[1] then best = { logit, letters[i] } end
    end
    local subject = record.subject
    if not total[subject] then total[subject], right[subject], order[#order + 1] = 0, 0, subject end
    total[subject] = total[subject] + 1
    if best[2] == record.output then right[subject] = right[subject] + 1 end
    questions = questions + 1
  end
  if questions == 0 then strict.fail("eval.mmlu: %s has no questions", path) end
  local subjects, sum = {}, 0.0
  for _, subject in ipairs(order) do
    subjects[subject] = right[subject] / total[subject]
    sum = sum + subjects[subject]
  end
  return { accuracy = sum / #order, subjects = subjects, questions = questions }
end

return strict.namespace("qlora.eval", eval)
