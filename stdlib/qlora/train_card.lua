--- What a run says of itself in the card beside the adapters that it trained: rows of a name and a text.
local format = require "qlora.format"
local native = require "qlora.native"
local made = require "qlora.made"
local schedules = require "qlora.schedule"

local function losses(first, last)
  return first == first and ("%.4f at first, %.4f at last"):format(first, last) or nil
end

--- @param o table the options of the run
--- @param result Training what it came to
--- @param tokens integer tokens of the whole run, those before a resume too
--- @return table[] the rows, in the order of the card
return function(o, result, tokens)
  local evaluated = result.eval_losses
  local rows = {}
  local function add(name, text) if text then rows[#rows + 1] = { name = name, text = text } end end
  add("data", made.of(o.data).data)
  add("chat template", made.of(o.data).template)
  add("samples", format.thousands(#o.data))
  add("steps", format.thousands(result.steps))
  add("tokens", format.thousands(tokens))
  add("loss", losses(result.first_loss, result.last_loss))
  add("evaluation loss", evaluated[1] and losses(evaluated[1], evaluated[#evaluated]))
  add("evaluation data", o.eval_data and ("%s samples"):format(format.thousands(#o.eval_data)))
  add("batch", ("%d in micro-batches of %d"):format(o.batch, o.micro_batch))
  add("optimizer", o.optimizer.settings)
  add("learning rate", ("%.7g"):format(o.optimizer.lr))
  add("schedule", schedules.describe(o.schedule))
  add("largest gradient norm", o.max_grad_norm and ("%.7g"):format(o.max_grad_norm))
  add("seed", ("%d"):format(o.seed))
  add("program", ("qlora %s, kernels %s"):format(native.version, native.cpu().set))
  return rows
end
