--- Several training loops that share their passes over one base: `qlora.sweep { together = true }`. Each loop is a
--- coroutine. It waits where a pass begins until all others do; then one pass computes the losses and gradients of all,
--- and each goes on with its own.
local native = require "qlora.native"
local strict = require "qlora.strict"

local lockstep = {}

-- The loops that run together: { model =, current =, agreed =, has_passed = }; nil outside.
local group

--- The loop that calls, where it trains the model that all share; nil outside.
local function member(model)
  if not group or group.model ~= model then return nil end
  local thread = coroutine.running()
  if thread ~= group.current.thread then
    strict.fail("sweep: together needs qlora.train in the function run itself, not in a coroutine that it makes")
  end
  if not coroutine.isyieldable() then
    strict.fail("sweep: together needs qlora.train in the function run itself, not in one that with_adapters, "
      .. "without_adapters or another function of the engine calls")
  end
  return group.current
end

--- The loss of a batch, and the tensor for `backward`; or, where the pass is that of several variants, the loss alone,
--- whose gradients are there already, and whether an interrupt came to all.
--- @return number, Tensor|nil, boolean|nil
function lockstep.loss(model, batch)
  if not member(model) then
    local share = model:loss(batch)
    return share:item(), share
  end
  -- In a pass of its own backward would say so; in one of several the others have gradients.
  if not model:trainable()[1] then strict.fail("train: nothing is trained any more: the adapters in use are not") end
  return coroutine.yield { batch = batch }
end

--- Waits before the first pass until all loops have come. The first of them gets the list of what all gave, with their
--- numbers as `variant`, the others false; nil outside, where nobody waits.
function lockstep.meet(model, step)
  local own = member(model)
  if not own then return nil end
  step.variant = own.number
  return coroutine.yield { meet = step }
end

--- What the pass decides for all must be the same in all.
function lockstep.agree(model, name, value)
  if not member(model) then return end
  local text = strict.show(value)
  group.agreed[name] = group.agreed[name] or text
  if group.agreed[name] ~= text then
    strict.fail("sweep: together needs the same %s in all variants, got %s and %s", name, group.agreed[name], text)
  end
end

--- Lets a loop go on until it waits or ends; `ended` hears of its end.
local function advance(one, ended, ...)
  local model = group.model
  model:enter_variant(one.number)
  group.current = one
  native.spill_directory(one.spill)
  local ok, answer = coroutine.resume(one.thread, ...)
  one.spill = native.spill_directory()
  local is_open = coroutine.status(one.thread) ~= "dead"
  one.waits = is_open and type(answer) == "table" and (answer.meet or answer.batch) and answer or nil
  if one.waits then return end
  if is_open then
    coroutine.close(one.thread)
    ok, answer = false, "sweep: together: run yielded, which only qlora.train in it may do"
  end
  ended(one.number, ok, answer)
  model:enter_variant(0)
  model:drop_variant(one.number)
  collectgarbage() -- its adapters, gradients and optimizer state
end

--- One pass over the base for all that wait for it: their losses, in order. Gradients are in the adapters then.
local function pass(waiting)
  local model, parts = group.model, {}
  for i, one in ipairs(waiting) do parts[i] = { variant = one.number, batch = one.waits.batch } end
  if #parts == 1 then
    model:enter_variant(parts[1].variant)
    local loss = model:loss(parts[1].batch)
    loss:backward()
    return { loss:item() }
  end
  local losses = model:losses(parts)
  losses:sum():backward()
  return losses:totable()
end

local function go_on(members, ended)
  while true do
    local meeting, waiting = {}, {}
    for _, one in ipairs(members) do
      if one.waits then
        local list = one.waits.meet and meeting or waiting
        list[#list + 1] = one
      end
    end
    if meeting[1] then
      local steps = not waiting[1] and {}
      for i, one in ipairs(steps and meeting or {}) do steps[i] = one.waits.meet end
      for i, one in ipairs(meeting) do advance(one, ended, i == 1 and steps) end
    elseif waiting[1] then
      local values = pass(waiting)
      group.has_passed = true
      local told = native.interrupted()
      for i, one in ipairs(waiting) do advance(one, ended, values[i], nil, told) end
    else
      return
    end
  end
end

--- Runs functions that train `model`, each with adapters of its own, in one pass over the base for all.
--- @param model Model the base; what adapters it has wait until all have ended
--- @param bodies function[] one for each variant
--- @param ended function called with the number of a variant, and what pcall gives of its function. Not called for an
---   error before the first pass, nor for one that is no text and no interrupt: these end all
function lockstep.run(model, bodies, ended)
  if group then strict.fail("sweep: together cannot be inside a sweep together") end
  local members, interrupts = {}, {}
  for i, body in ipairs(bodies) do
    members[i] = { number = i, thread = coroutine.create(body), spill = native.spill_directory() }
  end
  local function heard(number, ok, answer)
    if ok then return ended(number, true, answer) end
    local is_interrupt = type(answer) == "table" and answer.exit_code == 130
    if not is_interrupt and (type(answer) == "table" or not group.has_passed) then error(answer, 0) end
    if is_interrupt then interrupts[#interrupts + 1] = answer end
    ended(number, false, tostring(answer))
  end
  group = { model = model, agreed = {} }
  local ok, message = pcall(function()
    for _, one in ipairs(members) do advance(one, heard) end
    go_on(members, heard)
  end)
  group = nil
  local left, why = pcall(model.leave_variants, model)
  if not ok then error(message, 0) end
  if not left then error(why, 0) end
  if interrupts[1] then
    local lines = {}
    for i, one in ipairs(interrupts) do lines[i] = one.message:gsub("%-%-resume [^\n]+", "--resume") end
    error(setmetatable({ exit_code = 130, message = table.concat(lines, "\n") }, getmetatable(interrupts[1])), 0)
  end
end

--- The step of variants that share their passes: what each gave, and in the fields of one step the sums.
function lockstep.joined(steps)
  local step = { together = {}, batch = 0, micro_batch = 0, length = 0, optimizer = steps[1].optimizer,
    checkpointing = steps[1].checkpointing, offload = steps[1].offload }
  for i, own in ipairs(steps) do
    step.together[i] = { variant = own.variant, batch = own.batch, micro_batch = own.micro_batch, length = own.length,
      optimizer = own.optimizer }
    step.batch, step.micro_batch = step.batch + own.batch, step.micro_batch + own.micro_batch
    step.length = math.max(step.length, own.length)
  end
  return step
end

return lockstep
