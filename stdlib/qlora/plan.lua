--- `--plan`: what a run needs, told from headers alone, before any weight is read.
local native = require "qlora.native"
local format = require "qlora.format"

local plan = {}

-- The recipe's last model and optimizer, for loops written by hand; held weakly, so that a dropped model is freed.
plan.last = setmetatable({}, { __mode = "v" })

local function line(name, value) print(("  %-34s %12s"):format(name, value)) end

--- Prints the plan table of native `model:plan` and says whether it fits `--memory` (true when no limit is set).
function plan.show(model, figures)
  print("Plan for " .. (model.name or "the model"))
  line("parameters", format.count(figures.parameters))
  line("trainable", format.count(figures.trainable))
  print "Memory by category"
  for _, category in ipairs(figures.categories) do line(category.name, format.bytes(category.bytes)) end
  if figures.moments and #figures.moments > 0 then
    print "Memory by moment"
    for _, moment in ipairs(figures.moments) do line(moment.name, format.bytes(moment.bytes)) end
  end
  line("peak", format.bytes(figures.peak))
  if figures.disk then line("disk", format.bytes(figures.disk)) end
  line("FLOPs per step", format.count(figures.flops_per_step))
  if figures.seconds_per_step then
    line("time per step", ("%.3g s"):format(figures.seconds_per_step))
    if figures.steps then
      line("time for " .. figures.steps .. " steps", format.seconds(figures.seconds_per_step * figures.steps))
    end
  end
  local limit = native.options.memory
  if not limit then return true end
  local fits = figures.peak <= limit
  print(fits and ("fits into %s"):format(format.bytes(limit))
    or ("does NOT fit into %s: %s too much"):format(format.bytes(limit), format.bytes(figures.peak - limit)))
  return fits
end

--- Prints the plan and leaves: exit code 0 when it fits, 3 when not.
function plan.stop(o)
  local model, optimizer = o.model or plan.last.model, o.optimizer or plan.last.optimizer
  if not model then error("--plan: the recipe reached its first step without having loaded a model", 0) end
  local figures = model:plan {
    batch = o.batch, micro_batch = o.micro_batch, max_length = o.max_length or rawget(o.data or {}, "max_length"),
    checkpointing = o.checkpointing ~= false, optimizer = optimizer,
  }
  figures.steps = o.steps
  native.exit(plan.show(model, figures) and 0 or 3)
end

return plan
