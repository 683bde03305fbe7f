--- How `qlora.train` shares its steps with other ranks: who computes what, and whether all compute the same.
local native = require "qlora.native"
local strict = require "qlora.strict"
local together = require "qlora.together"

local shares = {}

--- The sum of gradients that a run has: over the parts that it names, else those of the checkpoint that it goes on
--- from, else one a rank. Every part has a micro-batch, which is made smaller where that needs it.
function shares.sum(o, run, params)
  local sum = native.gradient_sum(params, { parts = o.parts or run and run:parts() })
  if o.batch < sum.parts then
    strict.fail("train: batch (%d) is smaller than parts (%d, one a rank where it is not given); a part has a sample "
      .. "at least", o.batch, sum.parts)
  end
  local size = math.min(o.micro_batch, o.batch // sum.parts)
  if size < o.micro_batch and not native.options.quiet then
    print(("micro_batch is %d instead of %d, so that each of the %d parts of a step has one"):format(size,
      o.micro_batch, sum.parts))
  end
  o.micro_batch = size
  return sum
end

--- The ranks that train; a model in stages writes no samples on the way.
function shares.ranks(o)
  if o.model.stages > 1 and o.samples then
    strict.fail "train: samples needs all layers in one place, and the model is on several ranks (pipeline = true)"
  end
  return native.ranks()
end

--- The loss that a model in stages has of a part of a step, after its backward passes, and the first micro-batch that
--- is left to the loop: none then, and all for a model in one piece.
function shares.through_stages(o, batches, part)
  if o.model.stages == 1 then return 0.0, part[1] end
  return o.model:accumulate(table.move(batches, part[1], part[2], 1, {})), part[2] + 1
end

--- The loss of the step, whose gradients every rank then has, its tokens, and whether any rank was told to stop.
function shares.finish(o, tokens, stop)
  local loss, stops = o.sum:finish(stop)
  if o.model.stages > 1 then stops = together.any("step", native.interrupted() or stop) end
  return loss, tokens, stops
end

--- Whether it is time for a checkpoint, which all stages write together.
function shares.is_due(o, run, saved)
  local due = o.save_seconds and native.clock() - saved >= o.save_seconds or run and run.is_bare
  if run and o.model.stages > 1 then return together.first("checkpoint", due) end
  return due
end

--- Raises where the ranks would not train the same from the first step on.
function shares.agree(o, params)
  if o.ranks.size == 1 then return end
  local facts = native.run_identity(o.model, o.optimizer, o.deciding)
  local script = not native.options.source and native.options.script and io.open(native.options.script, "rb")
  facts.recipe = native.options.source or script and script:read("a") or ""
  if script then script:close() end
  facts["first adapter"] = o.model.stages == 1 and native.hash(params) or nil -- stages have each their own
  together.agree("start of training", facts)
end

--- Raises every 100 steps where the ranks have not trained the same.
function shares.compare(o, step, params)
  if step % 100 == 0 and o.ranks.size > 1 and o.model.stages == 1 then
    together.agree("step " .. step, { ["trained tensor"] = native.hash(params) })
  end
end

return shares
