--- Learning-rate schedules: functions from the step (1 is the first) to a factor on the optimizer's rate.
local native = require "qlora.native"
local strict = require "qlora.strict"

local schedule = {}

local floor_schema = { floor = { "number", "the factor at the end", default = 0.0, at_least = 0, at_most = 1 } }
local linear_schema = strict.declare("qlora.schedule.linear", floor_schema)
local cosine_schema = strict.declare("qlora.schedule.cosine", floor_schema)

-- What the schedules made here are, by their functions.
local texts = setmetatable({}, { __mode = "k" })

local function named(schedule_function, format, ...)
  texts[schedule_function] = format:format(...)
  return schedule_function
end

local dump, upvalue = string.dump, debug.getupvalue -- a sandbox has neither

--- A schedule as text, so that a run can tell whether it goes on with the one it had: the call that made it, or for a
--- function of the recipe's own a sum of its code and of the plain values it captures. It is never called for that.
--- @param schedule_function function the schedule
--- @return string the text
--- @example assert(qlora.schedule.describe(qlora.schedule.cosine(10)) == "cosine(10, floor 0.0)")
function schedule.describe(schedule_function)
  if texts[schedule_function] then return texts[schedule_function] end
  if type(schedule_function) ~= "function" or not dump then return "a schedule of the recipe" end
  local parts = { dump(schedule_function, true) }
  for i = 1, 255 do
    local name, value = upvalue(schedule_function, i)
    if not name then break end
    local kind = type(value)
    if kind == "number" or kind == "string" or kind == "boolean" then parts[#parts + 1] = tostring(value) end
  end
  return native.checksum(table.concat(parts, "\0")):sub(1, 16)
end

local function count(name, value)
  if not strict.is_count(value) then
    strict.fail("schedule.%s: the number of steps must be a whole number of at least 1, got %s", name,
      strict.show(value))
  end
  return math.tointeger(value)
end

--- A factor of 1 at every step, the paper's choice.
--- @return fun(step:integer):number the schedule
--- @example assert(qlora.schedule.constant()(77) == 1)
function schedule.constant()
  return named(function() return 1.0 end, "constant()")
end

--- A factor that falls from 1 at the first step towards `floor`, which step `steps` + 1 would reach: as transformers'
--- "linear".
--- @param steps integer steps of the run
--- @return fun(step:integer):number the schedule
--- @example assert(qlora.schedule.linear(10)(6) == 0.5)
function schedule.linear(steps, options)
  steps = count("linear", steps)
  local floor = strict.options("schedule.linear", options, linear_schema).floor
  return named(function(step)
    local done = math.min((step - 1) / steps, 1.0)
    return floor + (1.0 - floor) * (1.0 - done)
  end, "linear(%d, floor %s)", steps, floor + 0.0)
end

--- A factor that falls over half a cosine wave from 1 to `floor`, as transformers' "cosine".
--- @param steps integer steps of the run
--- @return fun(step:integer):number the schedule
--- @example assert(qlora.schedule.cosine(10, { floor = 0.1 })(11) == 0.1)
function schedule.cosine(steps, options)
  steps = count("cosine", steps)
  local floor = strict.options("schedule.cosine", options, cosine_schema).floor
  return named(function(step)
    local done = math.min((step - 1) / steps, 1.0)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * done))
  end, "cosine(%d, floor %s)", steps, floor + 0.0)
end

--- A factor that rises as step / steps during the first `steps` steps and then follows `after` from its own step 1.
--- The first step is never 0: a step that changes nothing would be a silent no-op.
--- @param steps integer steps of the rise
--- @param after? function the schedule that follows; constant when left out
--- @return fun(step:integer):number the schedule
--- @example assert(qlora.schedule.warmup(4, qlora.schedule.linear(10))(1) == 0.25)
function schedule.warmup(steps, after)
  steps = count("warmup", steps)
  after = after or schedule.constant()
  if type(after) ~= "function" and not (getmetatable(after) or {}).__call then
    strict.fail("schedule.warmup: expected a schedule that follows, such as qlora.schedule.cosine(steps), got %s",
      strict.show(after))
  end
  return named(function(step)
    if step <= steps then return step / steps * after(1) end
    return after(step - steps)
  end, "warmup(%d, %s)", steps, schedule.describe(after))
end

return strict.namespace("qlora.schedule", schedule)
