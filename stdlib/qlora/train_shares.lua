--- How `qlora.train` shares its steps with other ranks: who computes what, and whether all compute the same.
local native = require "qlora.native"
local strict = require "qlora.strict"
local together = require "qlora.together"

local shares = {}

--- The sum of gradients that a run has: over the parts that it names, else those of the checkpoint that it goes on from,
--- else one a rank.
function shares.sum(o, run, params)
  local sum = native.gradient_sum(params, { parts = o.parts or run and run:parts() })
  local count = math.ceil(o.batch / o.micro_batch)
  if count < sum.parts then
    strict.fail("train: a step of %d samples in micro-batches of %d has %d of them, too few for %d parts (one a rank where "
      .. "parts is not given); lower micro_batch or parts, or raise batch", o.batch, o.micro_batch, count, sum.parts)
  end
  return sum
end

--- Raises where the ranks would not train the same from the first step on.
function shares.agree(o, params)
  if o.ranks.size == 1 then return end
  local facts = native.run_identity(o.model, o.optimizer, o.deciding)
  local script = native.options.script and io.open(native.options.script, "rb")
  facts.recipe = script and script:read("a") or ""
  if script then script:close() end
  facts["first adapter"] = native.hash(params)
  together.agree("start of training", facts)
end

--- Raises every 100 steps where the ranks have not trained the same.
function shares.compare(step, params)
  if step % 100 == 0 and native.ranks().size > 1 then
    together.agree("step " .. step, { ["trained tensor"] = native.hash(params) })
  end
end

return shares
