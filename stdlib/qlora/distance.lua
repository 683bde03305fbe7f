--- How far forms of a model are from each other on a data set: what qlora.eval.compare and qlora.merge measure.
local checks = require "qlora.checks"
local native = require "qlora.native"
local strict = require "qlora.strict"

local distance = {}

-- Most tokens that are computed together. More need fewer passes over the base and more memory.
local batch_tokens = 1024

local Comparison = {
  __tostring = function(self)
    return ("mean KL %.6f nats, %.1f %% equal top tokens, perplexity %.4f and %.4f, %d tokens"):format(self.kl,
      100 * self.agreement, self.perplexity[1], self.perplexity[2], self.tokens)
  end,
}

--- The numbers of the samples that are computed together, and the lengths of those in the batch with the most tokens.
function distance.batches(data, limit)
  local lengths, list, most = data.samples:lengths(), {}, { tokens = 0 }
  local open
  for i = 1, math.min(limit or #lengths, #lengths) do
    if not open or open.tokens + lengths[i] > batch_tokens then
      open = { tokens = 0, lengths = {} }
      list[#list + 1] = open
    end
    open[#open + 1], open.lengths[#open + 1] = i, lengths[i]
    open.tokens = open.tokens + lengths[i]
    if open.tokens > most.tokens then most = open end
  end
  return list, most.lengths
end

--- Compares `a` with each of `others`, in one pass of each over the data: a list of what qlora.eval.compare gives.
function distance.measure(what, a, others, data, limit)
  for _, side in ipairs { a, table.unpack(others) } do
    if side ~= "base" then
      checks.lengths(getmetatable(side) == "MergedWeights" and side.model or side, data, what)
    end
  end
  local batches = distance.batches(data, limit)
  if not batches[1] then strict.fail("%s: the data set is empty", what) end
  local tokens, targets, results = 0, 0, {}
  for i = 1, #others do results[i] = { kl = 0.0, agreements = 0, kls = {}, loss_a = 0.0, loss_b = 0.0 } end
  for _, numbers in ipairs(batches) do
    local batch = data:batch(numbers)
    tokens, targets = tokens + batch.tokens, targets + batch.trained
    for i, part in ipairs(native.compare_batch(batch, a, others)) do
      local sum = results[i]
      for _, name in ipairs { "kl", "agreements", "loss_a", "loss_b" } do sum[name] = sum[name] + part[name] end
      table.move(part.kls, 1, #part.kls, #sum.kls + 1, sum.kls)
    end
  end
  for i, sum in ipairs(results) do
    results[i] = setmetatable({
      kl = sum.kl / tokens, agreement = sum.agreements / tokens, tokens = tokens, kls = sum.kls,
      perplexity = { math.exp(sum.loss_a / targets), math.exp(sum.loss_b / targets) },
    }, Comparison)
  end
  return results
end

return distance
