--- Measures of a model: perplexity, agreement of two models, MMLU as qlora.py runs it.
local checks = require "qlora.checks"
local distance = require "qlora.distance"
local native = require "qlora.native"
local reading = require "qlora.data.reading"
local strict = require "qlora.strict"
local together = require "qlora.together"

local eval = {}

local perplexity_schema = strict.declare("qlora.eval.perplexity", {
  batch = { "count", "samples computed at once", default = 1 },
  limit = { "count", "most samples; default all" },
})

--- How well a model predicts a data set. Ranks share the batches; the sum is that of one process.
--- @param model Model the model to measure
--- @param data Dataset its trained tokens are the targets
--- @return number, number, integer perplexity, mean loss over the targets in nats, and how many targets there were
--- @throws when the data set is empty
--- @example
--- local perplexity, loss, targets = qlora.eval.perplexity(model, data, { limit = 2 })
--- assert(math.abs(math.exp(loss) - perplexity) < 1e-6 * perplexity)
function eval.perplexity(model, data, options)
  checks.model("eval.perplexity", model)
  checks.data("eval.perplexity", data)
  local o = strict.options("eval.perplexity", options, perplexity_schema)
  local size, last = o.batch, math.min(o.limit or #data, #data)
  if native.options.smoke then last = math.min(last, 4) end
  if native.options.plan then return 0 / 0, 0 / 0, 0 end -- a plan has neither weights nor data
  if last == 0 then strict.fail("eval.perplexity: the data set is empty") end
  checks.lengths(model, data, "eval.perplexity")
  local sum, count = 0.0, 0
  for _, row in ipairs(together.share("evaluation", (last + size - 1) // size, model, function(batch)
    local numbers = {}
    for i = (batch - 1) * size + 1, math.min(batch * size, last) do numbers[#numbers + 1] = i end
    return model:nll(data:batch(numbers))
  end)) do
    sum, count = sum + row[1], count + math.tointeger(row[2])
  end
  return math.exp(sum / count), sum / count, count
end

local compare_schema = strict.declare("qlora.eval.compare", { limit = { "count", "most samples; default all" } })

local function check_side(place, side)
  if side == "base" then return end
  strict.argument("eval.compare", place, side, "Model|MergedWeights", 'give what qlora.load returned, or "base"')
end

--- How far `b` is from `a` on a data set. Each is a model, "base" (the other one with its adapters switched off) or
--- what `model:merged_weights` gives, so any two of base, adapter, merged and quantized model can be compared.
--- @param a Model|MergedWeights|string the one to compare with
--- @param b Model|MergedWeights|string the other one
--- @param data Dataset the texts; the perplexities are over their trained tokens
--- @return table { kl = mean KL(a || b) per position in nats, agreement = share of equal top tokens, tokens =
---   positions, perplexity = { of a, of b }, kls = mean KL of each sample }
--- @throws when the data set is empty, or both sides are "base"
--- @example
--- local distance = qlora.eval.compare(model, "base", data, { limit = 1 })
--- assert(distance.agreement == 1) -- fresh adapters add nothing
--- local merged = model:merged_weights "dequantized"
--- assert(qlora.eval.compare(model, merged, data, { limit = 1 }).kl < 0.01)
function eval.compare(a, b, data, options)
  check_side("a", a)
  check_side("b", b)
  checks.data("eval.compare", data)
  local o = strict.options("eval.compare", options, compare_schema)
  if a == "base" and b == "base" then strict.fail('eval.compare: only one of both can be "base"; give a model') end
  return distance.measure("eval.compare", a, { b }, data, o.limit)[1]
end

local letters = { "A", "B", "C", "D" }

local mmlu_schema = strict.declare("qlora.eval.mmlu", {
  limit = { "count", "most questions; default all" },
  max_length = { "count", "longer prompts are cut to so many tokens", default = 2048 },
})

--- MMLU as qlora.py runs it: the answer to a question is the letter whose token has the highest logit after the
--- prompt.
--- @param model Model the model to ask
--- @param path string a data file whose records have subject, input and output (a letter)
--- @return table { accuracy = unweighted mean over subjects, subjects = { name = accuracy }, questions = how many }
--- @throws when a record lacks a field
--- @example
--- qlora.native.write_file("mmlu.jsonl", '{"subject":"bread","input":"Who makes bread?\\nAnswer:","output":"B"}\n')
--- assert(qlora.eval.mmlu(model, "mmlu.jsonl", { limit = 1 }).questions == 1)
function eval.mmlu(model, path, options)
  checks.model("eval.mmlu", model)
  local o = strict.options("eval.mmlu", options, mmlu_schema)
  local tokenizer, answer_ids = model.tokenizer, {}
  for i, letter in ipairs(letters) do answer_ids[i] = tokenizer:encode(letter, { special = false })[1] end
  local limit = native.options.smoke and math.min(o.limit or 4, 4) or o.limit
  local right, total, order, questions = {}, {}, {}, 0
  local records, lines = native.read_records(path, { limit = limit })
  for index, record in ipairs(records) do
    if type(record.input) ~= "string" or type(record.output) ~= "string" or type(record.subject) ~= "string" then
      strict.fail("eval.mmlu: %s needs subject, input and output, all texts",
        reading.place({ path = path, lines = lines }, index))
    end
    local ids = tokenizer:encode(record.input, { special = true })
    if #ids > o.max_length then ids = table.move(ids, 1, o.max_length, 1, {}) end
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
