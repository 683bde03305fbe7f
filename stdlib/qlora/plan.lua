--- `--plan` and `model:plan`: what a run needs, told from shapes alone, before any weight is read.
local native = require "qlora.native"
local format = require "qlora.format"
local strict = require "qlora.strict"

local plan = {}

-- The recipe's last model and optimizer, for loops written by hand; held weakly, so that a dropped model is freed.
plan.last = setmetatable({}, { __mode = "v" })

local function seconds(value) return value < 100 and ("%.3g s"):format(value) or format.seconds(value) end

--- The plan as text, one figure per line; docs/planner.md says what each means.
local function text(figures)
  local lines = {}
  local function line(name, value) lines[#lines + 1] = ("  %-34s %12s"):format(name, value) end
  local function title(words) lines[#lines + 1] = words end
  title(("Plan for %s: %d x %d tokens a step, %d at a time"):format(figures.name, figures.batch, figures.length,
    figures.micro_batch))
  line("parameters", format.count(figures.parameters))
  line("trainable", format.count(figures.trainable))
  title "Memory by category, at the peak"
  for _, category in ipairs(figures.categories) do line(category.name, format.bytes(category.bytes)) end
  title "Memory by moment"
  for _, moment in ipairs(figures.moments) do line(moment.name, format.bytes(moment.bytes)) end
  line("peak", format.bytes(figures.peak))
  title "State and disk"
  line("adapters", format.bytes(figures.adapter_bytes))
  line("optimizer state", format.bytes(figures.optimizer_bytes))
  line("checkpoint on disk", format.bytes(figures.checkpoint_bytes))
  if figures.spill_bytes > 0 then line("spill file on disk", format.bytes(figures.spill_bytes)) end
  title "Work"
  line("FLOPs per step", format.count(figures.flops_per_step))
  line("time per step", seconds(figures.seconds_per_step))
  if figures.steps then
    line("time for " .. figures.steps .. " steps", format.seconds(figures.seconds_per_step * figures.steps))
  end
  if figures.levers[1] then
    title(("What each lever would change     %14s %12s %12s"):format("peak", "change", "step"))
    for _, lever in ipairs(figures.levers) do
      local change = lever.peak - figures.peak
      title(("  %-34s %10s %12s %12s"):format(lever.name, format.bytes(lever.peak),
        (change < 0 and "-" or "+") .. format.bytes(math.abs(change)), seconds(lever.seconds_per_step)))
    end
  end
  return table.concat(lines, "\n")
end

local Plan = { __name = "plan", __tostring = text }

--- The changes that cost or save memory, each by itself.
local function levers(figures)
  local list = {}
  local function add(name, change) list[#list + 1] = { name = name, change = change } end
  add("checkpointing = " .. tostring(not figures.checkpointing), { checkpointing = not figures.checkpointing })
  add("offload = " .. tostring(not figures.offload),
    { offload = not figures.offload, checkpointing = figures.checkpointing or true })
  if figures.micro_batch > 1 then
    local half = figures.micro_batch // 2
    add("micro_batch = " .. half, { micro_batch = half })
  end
  if figures.batch > 1 then
    local half = figures.batch // 2
    add("batch = " .. half, { batch = half, micro_batch = math.min(half, figures.micro_batch) })
  end
  if figures.length > 1 then add("length = " .. figures.length // 2, { length = figures.length // 2 }) end
  local bits = figures.bits == 8 and 32 or 8
  add("optimizer bits = " .. bits, { bits = bits })
  add("optimizer paged = " .. tostring(not figures.paged), { paged = not figures.paged })
  return list
end

local schema = { batch = "!count", length = "!count", micro_batch = "count", checkpointing = "boolean|count",
  offload = "boolean", optimizer = "object" }
local hints = { batch = "the sequences of a step, batch = 8", length = "the tokens of a sequence, length = 512" }

--- What a training step of this model needs: `.peak`, `.categories`, `.moments`, `.adapter_bytes`, `.optimizer_bytes`,
--- `.disk`, `.flops_per_step`, `.seconds_per_step`, `.levers`; printing it shows all. Options: batch, length,
--- micro_batch (default batch), checkpointing and offload (default as the model is set), optimizer (default AdamW in 32
--- bits).
function plan.of(model, options)
  if options == nil and type(model) == "table" and not model.modules then
    strict.fail("plan: call it with a colon, model:plan { batch = 8, length = 512 }; with a dot it gets no model")
  end
  local o = strict.options("plan", options, schema, hints)
  local figures = model:plan_step(o)
  figures.name = model.name or "the model"
  figures.levers = {}
  for i, lever in ipairs(levers(figures)) do
    local changed = {}
    for _, given in ipairs { o, lever.change } do
      for key, value in pairs(given) do changed[key] = value end
    end
    local other = model:plan_step(changed)
    figures.levers[i] = { name = lever.name, peak = other.peak, seconds_per_step = other.seconds_per_step }
  end
  return setmetatable(figures, Plan)
end

--- Prints a plan and says whether it fits `--memory` (true when no limit is set).
local function show(figures)
  print(figures)
  local limit = native.options.memory
  if not limit then return true end
  local fits = figures.peak <= limit
  print(fits and ("fits into %s"):format(format.bytes(limit))
    or ("does NOT fit into %s: %s too much"):format(format.bytes(limit), format.bytes(figures.peak - limit)))
  return fits
end

--- Prints the plan of a training loop's options and leaves: exit code 0 when it fits, 3 when not.
function plan.stop(o)
  local model, optimizer = o.model or plan.last.model, o.optimizer or plan.last.optimizer
  if not model then error("--plan: the recipe reached its first step without having loaded a model", 0) end
  local length = o.max_length or rawget(o.data or {}, "max_length")
  if not length or length < 1 then
    strict.fail("--plan: the length of a sample is not known; give data.load a max_length")
  end
  local figures = plan.of(model, {
    batch = o.batch, micro_batch = o.micro_batch, length = length, optimizer = optimizer,
    checkpointing = o.checkpointing == nil and o.offload and true or o.checkpointing, offload = o.offload and true,
  })
  figures.steps = o.steps
  native.exit(show(figures) and 0 or 3)
end

return plan
