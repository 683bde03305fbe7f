--- `--plan` and `model:plan`: what a run needs, told from shapes alone, before any weight is read.
local native = require "qlora.native"
local format = require "qlora.format"
local lockstep = require "qlora.lockstep"
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
  title(("Plan for %s: %s%d x %d tokens a step, %d at a time"):format(figures.name,
    figures.variants and figures.variants .. " variants together, " or "", figures.batch, figures.length,
    figures.micro_batch))
  if figures.ranks > 1 then line("ranks, each of which needs this", figures.ranks) end
  if figures.stages > 1 then line("ranks, of which the largest needs this", figures.stages) end
  line("parameters", format.count(figures.parameters))
  line("trainable", format.count(figures.trainable))
  line("compute", figures.compute)
  title "Memory by category, at the peak"
  for _, category in ipairs(figures.categories) do line(category.name, format.bytes(category.bytes)) end
  title "Memory by moment"
  for _, moment in ipairs(figures.moments) do line(moment.name, format.bytes(moment.bytes)) end
  line("peak", format.bytes(figures.peak))
  for _, row in ipairs(figures.choices) do title(row) end
  title "State and disk"
  line("adapters", format.bytes(figures.adapter_bytes))
  line("optimizer state", format.bytes(figures.optimizer_bytes))
  line("checkpoint on disk", format.bytes(figures.checkpoint_bytes))
  if figures.spill_bytes > 0 then line("spill file on disk", format.bytes(figures.spill_bytes)) end
  if figures.streamed_bytes > 0 then line("base read per step", format.bytes(figures.streamed_bytes)) end
  title "Work"
  line("FLOPs per step", format.count(figures.flops_per_step))
  line("time per step", seconds(figures.seconds_per_step))
  if figures.steps then
    local each = figures.seconds_per_usual_step or figures.seconds_per_step
    local mean = figures.mean_length
    if mean then line(("time per step of %.0f tokens each"):format(mean), seconds(each)) end
    line("time for " .. figures.steps .. " steps", format.seconds(each * figures.steps))
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

--- Bytes of a category of a plan.
local function bytes(figures, name)
  for _, category in ipairs(figures.categories) do
    if category.name == name then return category.bytes end
  end
  return 0
end

local function base_bytes(figures) return bytes(figures, "weights") + bytes(figures, "model file") end
local function state_bytes(figures) return bytes(figures, "optimizer") end
local function activation_bytes(figures) return figures.activation_bytes end

--- What was chosen, what it holds in memory, and what it would hold otherwise, as lines. `plan_with` makes the plan
--- with a change.
local function choices(figures, plan_with)
  local rows = { ("Choices%27s %12s %12s %12s"):format("", "in memory", "otherwise", "peak then") }
  local function add(name, chosen, size, change, instead)
    local other = plan_with(change)
    rows[#rows + 1] = ("  %-16s %-15s %12s %12s %12s  %s"):format(name, chosen, format.bytes(size(figures)),
      format.bytes(size(other)), format.bytes(other.peak), instead)
  end
  local streamed, paged, recomputed = figures.stream, figures.paged, figures.checkpointing
  add("base", streamed and "streamed" or "resident", base_bytes, { stream = not streamed },
    "with stream = " .. tostring(not streamed))
  add("optimizer state", paged and "paged" or "in memory", state_bytes, { paged = not paged },
    "with paged = " .. tostring(not paged))
  add("activations", figures.offload and "offloaded" or recomputed and "checkpointed" or "kept", activation_bytes,
    streamed and { checkpointing = not recomputed, stream = not recomputed } or { checkpointing = not recomputed },
    ("with checkpointing = %s%s"):format(not recomputed, streamed and ", stream = false" or ""))
  if figures.reason then
    rows[#rows + 1] = ("  base %s: %s"):format(streamed and "streamed" or "resident", figures.reason)
  end
  if figures.regrouped then
    rows[#rows + 1] = ("  checkpointing = %d counts as true: a streamed base is recomputed layer by layer"):format(
      figures.regrouped)
  end
  return rows
end

local Plan = strict.class("Plan", { __name = "plan", __tostring = text }, {
  doc = "What a training step needs, as model:plan returns it; printing it shows all.", receiver = "plan",
  fields = {
    { "compute", "string", "what the model computes in" }, { "peak", "integer", "most bytes at any moment" },
    { "categories", "table[]", "name and bytes of each category" },
    { "moments", "table[]", "name and bytes of each moment of a step" },
    { "adapter_bytes", "integer", "bytes of the adapters" },
    { "optimizer_bytes", "integer", "bytes of the optimizer's state" },
    { "disk", "integer", "bytes on disk" }, { "flops_per_step", "number", "operations of a step" },
    { "seconds_per_step", "number", "estimated time of a step" },
    { "stream", "boolean", "whether the base stays on disk" },
    { "levers", "table[]", "name, peak and seconds_per_step of each change" },
  },
})

--- The changes that cost or save memory, each by itself.
local function levers(figures)
  local list = {}
  local function add(name, change) list[#list + 1] = { name = name, change = change } end
  if figures.stream then
    add("stream = false", { stream = false })
  else
    add("checkpointing = " .. tostring(not figures.checkpointing), { checkpointing = not figures.checkpointing })
    add("stream = true" .. (figures.can_stream and "" or ", after quantize.lua"), { stream = true })
  end
  add("offload = " .. tostring(not figures.offload),
    { offload = not figures.offload, checkpointing = figures.checkpointing or true })
  if figures.micro_batch > 1 and not figures.variants then
    local half = figures.micro_batch // 2
    add("micro_batch = " .. half, { micro_batch = half })
  end
  if figures.batch > 1 and not figures.variants then
    local half = figures.batch // 2
    add("batch = " .. half, { batch = half, micro_batch = math.min(half, figures.micro_batch) })
  end
  if figures.length > 1 and not figures.variants then
    local half = figures.length // 2
    add("length = " .. half, { length = half })
  end
  if figures.other_bits then
    add("optimizer bits = " .. figures.other_bits, { bits = figures.other_bits })
  end
  add("optimizer paged = " .. tostring(not figures.paged), { paged = not figures.paged })
  return list
end

local schema = strict.declare("model:plan",
  strict.native("Model:plan_step",
    { "batch", "length", "micro_batch", "checkpointing", "offload", "stream", "parts", "optimizer" }))
schema.batch.hint, schema.length.hint = "the sequences of a step, batch = 8", "the tokens of a sequence, length = 512"

local function merged(...)
  local result = {}
  for _, part in ipairs { ... } do
    for key, value in pairs(part) do result[key] = value end
  end
  return result
end

--- The figures of a step with the base resident or streamed: as was asked for, else streamed where resident does not
--- fit the limit and streaming is possible. `time` false leaves out how long it takes.
local function chosen(model, o, time)
  local figures = model:plan_step(merged(o, { time = time }))
  figures.can_stream = model:can_stream()
  local asked = o.stream
  if asked == nil then asked = figures.stream_asked end
  local limit = native.memory().limit or math.huge
  if asked ~= nil then
    figures.reason = "asked for"
  elseif figures.can_stream and o.checkpointing ~= false then
    local resident = figures.stream and model:plan_step(merged(o, { stream = false, time = time })) or figures
    local fits = resident.peak <= limit
    figures = fits and resident or figures.stream and figures
      or model:plan_step(merged(o, { stream = true, time = time }))
    figures.can_stream = true
    figures.reason = ("resident the run needs %s, %s the limit of %s"):format(format.bytes(resident.peak),
      fits and "within" or "more than", format.bytes(limit))
  elseif figures.peak > limit then
    figures.reason = figures.can_stream and "checkpointing = false needs the layers in memory"
      or "its file is not in 4 bits; qlora-run quantize.lua IN OUT once makes one that can be streamed"
  end
  local group = math.type(o.checkpointing) and o.checkpointing > 1 and o.checkpointing
  figures.regrouped = figures.stream and group or nil
  return figures
end

--- A function that plans the step `o` with a change, each change once: choices and levers name some twice.
local function planner(model, o)
  local known = {}
  return function(change)
    local names = {}
    for name, value in pairs(change) do names[#names + 1] = name .. "=" .. tostring(value) end
    table.sort(names)
    local key = table.concat(names, " ")
    known[key] = known[key] or model:plan_step(merged(o, change))
    return known[key]
  end
end

--- The figures of a step, with its choices and levers.
local function planned(model, o)
  local figures = chosen(model, o, true)
  local plan_with = planner(model, merged(o, { stream = figures.stream }))
  figures.name, figures.variants = model.name or "the model", o.together and #o.together
  figures.choices = choices(figures, plan_with)
  figures.levers = {}
  for i, lever in ipairs(levers(figures)) do
    local other = plan_with(lever.change)
    figures.levers[i] = { name = lever.name, peak = other.peak, seconds_per_step = other.seconds_per_step }
  end
  return setmetatable(figures, Plan)
end

--- What a training step of this model needs, told from shapes alone, with what each lever would change. Without
--- `stream` the base is streamed when it does not fit otherwise.
--- @return Plan the figures; printing it shows all of them
--- @throws when a sequence is longer than the model allows, or micro_batch is larger than batch
--- @example
--- local plan = model:plan { batch = 2, length = 32 }
--- assert(plan.peak > 0)
function plan.of(model, options)
  if options == nil and type(model) == "table" and not model.modules then
    strict.fail("plan: call it with a colon, model:plan { batch = 8, length = 512 }; with a dot it gets no model")
  end
  return planned(model, strict.options("plan", options, schema))
end

--- What the options of a loop say of checkpointing and offload: what `model:checkpointing` will be told, or nothing.
local function recomputation(o)
  if o.checkpointing == nil and o.offload == nil then return nil, nil end
  return o.checkpointing == nil or o.checkpointing, o.offload and true or false
end

--- Before the first step: leaves the base on disk where the run needs that, and explains the choice once, where memory
--- is short or was limited. Groups of layers become single ones then (`o.checkpointing`), unless the recipe asked for
--- streaming too: that is an error.
function plan.choose(o)
  local model, limited = o.model, native.options.memory
  if native.options.smoke or not (limited or model:can_stream()) then return end
  local step = { batch = o.batch, micro_batch = o.micro_batch, length = o.data:stats().longest, parts = o.sum.parts,
    optimizer = o.optimizer }
  step.checkpointing, step.offload = recomputation(o)
  local steps = lockstep.meet(model, step)
  if steps == false then -- another variant has chosen for all
    if math.type(o.checkpointing) and model:streaming() then o.checkpointing = true end
    return
  end
  if steps then step = lockstep.joined(steps) end
  -- A plan needs address space of its own; where there is none (ulimit -v) the first pass decides.
  local is_planned, figures = pcall(chosen, model, step, false)
  if not is_planned then
    if tostring(figures):find("the system has no", 1, true) then return end
    error(figures, 0)
  end
  if figures.regrouped and figures.stream_asked == nil then o.checkpointing = true end
  if figures.stream ~= (model:streaming() ~= nil) then model:set_streaming(figures.stream) end
  if native.options.quiet or not (limited or figures.stream) then return end
  local plan_with = planner(model, merged(step, { stream = figures.stream, time = false }))
  for _, row in ipairs(choices(figures, plan_with)) do print(row) end
  print(("  planned peak %s of %s"):format(format.bytes(figures.peak), format.bytes(native.memory().limit)))
end

--- Prints a plan and says whether its peak fits `--memory` (true when no limit is set).
function plan.fits(figures, peak)
  print(figures)
  local limit = native.options.memory
  if not limit then return true end
  local fits = peak <= limit
  print(fits and ("fits into %s"):format(format.bytes(limit))
    or ("does NOT fit into %s: %s too much"):format(format.bytes(limit), format.bytes(peak - limit)))
  return fits
end

--- Prints the plan of a training loop's options and leaves: exit code 0 when it fits, 3 when not.
function plan.stop(o)
  local model, optimizer = o.model or plan.last.model, o.optimizer or plan.last.optimizer
  if not model then error("--plan: the recipe reached its first step without having loaded a model", 0) end
  local stats = o.data and not rawget(o.data, "max_length") and o.data:stats()
  local length = stats and stats.longest or rawget(o.data or {}, "max_length")
  if not length or length < 1 then
    strict.fail("--plan: the length of a sample is not known; give data.load a max_length")
  end
  local step = { batch = o.batch, micro_batch = o.micro_batch, length = length, parts = o.parts, optimizer = optimizer }
  step.checkpointing, step.offload = recomputation(o)
  local steps = lockstep.meet(model, step)
  if steps then step = lockstep.joined(steps) end
  local figures = planned(model, step)
  figures.steps = o.steps
  if stats then -- the longest sample decides the memory, the mean one the time
    figures.mean_length = stats.mean
    local mean = math.max(1, math.ceil(stats.mean))
    local usual = merged(step, { length = mean, stream = figures.stream, memory = false })
    for _, own in ipairs(usual.together or {}) do own.length = mean end
    figures.seconds_per_usual_step = model:plan_step(usual).seconds_per_step
  end
  native.exit(plan.fits(figures, figures.peak) and 0 or 3)
end

return plan
