--- Learning-rate schedules: functions from the step (1 is the first) to a factor on the optimizer's rate.
local strict = require "qlora.strict"

local schedule = {}

local function count(name, value)
  if type(value) ~= "number" or not math.tointeger(value) or value < 1 then
    strict.fail("schedule.%s: the number of steps must be a whole number of at least 1, got %s", name, tostring(value))
  end
  return math.tointeger(value)
end

--- Always 1 (the paper's choice).
function schedule.constant()
  return function() return 1.0 end
end

--- From 1 at the first step towards `floor` (default 0), which step `steps` + 1 would reach: as transformers' "linear".
function schedule.linear(steps, options)
  steps = count("linear", steps)
  local floor = strict.options("schedule.linear", options, { floor = "number" }).floor or 0.0
  return function(step)
    local done = math.min((step - 1) / steps, 1.0)
    return floor + (1.0 - floor) * (1.0 - done)
  end
end

--- Half a cosine wave from 1 down to `floor` (default 0), as transformers' "cosine".
function schedule.cosine(steps, options)
  steps = count("cosine", steps)
  local floor = strict.options("schedule.cosine", options, { floor = "number" }).floor or 0.0
  return function(step)
    local done = math.min((step - 1) / steps, 1.0)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * done))
  end
end

--- Rises as step / steps during the first `steps` steps, then follows `after` (default constant) from its own step 1.
--- The first step is never 0: a step that changes nothing would be a silent no-op.
function schedule.warmup(steps, after)
  steps = count("warmup", steps)
  after = after or schedule.constant()
  return function(step)
    if step <= steps then return step / steps * after(1) end
    return after(step - steps)
  end
end

return strict.namespace("qlora.schedule", schedule)
