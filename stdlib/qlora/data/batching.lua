--- The order of samples and their grouping into steps. The position is a function of the step number, so resuming at
--- step n needs nothing but n; batches run across epoch borders, so every sample is seen once per epoch and no batch is
--- short: the last step of a run begins another epoch.
local native = require "qlora.native"
local plan = require "qlora.plan"
local random = require "qlora.data.random"
local strict = require "qlora.strict"

local batching = {}

--- Samples of similar length together, as transformers' LengthGroupedSampler: mega-batches of a random order, each
--- sorted longest first, and the longest sample of all at the very front, so that a run that does not fit fails at
--- once.
function batching.grouped(order, lengths, batch)
  local size = math.max(math.min(#order // (4 * batch), 50), 1) * batch
  local longest = 1
  for from = 1, #order, size do
    local to = math.min(from + size - 1, #order)
    local group = table.move(order, from, to, 1, {})
    -- by index among equals: table.sort is not stable and the order must be reproducible
    table.sort(group, function(a, b)
      if lengths[a] ~= lengths[b] then return lengths[a] > lengths[b] end
      return a < b
    end)
    table.move(group, 1, #group, from, order)
    if lengths[order[from]] > lengths[order[longest]] then longest = from end
  end
  order[1], order[longest] = order[longest], order[1]
  return order
end

--- The sample order of one epoch (0 is the first).
function batching.epoch_order(lengths, epoch, o)
  local order
  if o.shuffle == false then
    order = {}
    for i = 1, #lengths do order[i] = i end
  else
    order = random.permutation(#lengths, o.seed, epoch)
  end
  if o.group_by_length then batching.grouped(order, lengths, o.batch) end
  return order
end

--- A function step -> list of `batch` sample numbers, keeping the orders of the two epochs a step can touch.
function batching.sampler(lengths, o)
  local orders, count = {}, #lengths
  return function(step)
    local chosen = {}
    for position = (step - 1) * o.batch, step * o.batch - 1 do
      local epoch = position // count
      if not orders[epoch] then
        orders = { [epoch - 1] = orders[epoch - 1], [epoch] = batching.epoch_order(lengths, epoch, o) }
      end
      chosen[#chosen + 1] = orders[epoch][position % count + 1]
    end
    return chosen
  end
end

local schema = strict.declare("data:steps", {
  steps = { "count", "steps of the whole run", required = true },
  start = { "count", "the first step, for a run that goes on", default = 1 },
  batch = { "count", "samples of a step", default = 1 },
  micro_batch = { "count", "samples that are in memory at once; default batch" },
  seed = { "integer", "of the order; default --seed, else 0" },
  group_by_length = { "boolean", "samples of similar length in one step", default = false },
  shuffle = { "boolean", "another order in each epoch", default = true },
})

--- An iterator over the steps of a run: the step's number, its micro-batches, whose losses add up to the mean over
--- the step, and the numbers of its samples.
--- @return fun():integer,Batch[],integer[] the iterator
--- @throws when the data set is empty
--- @example
--- for step, batches, numbers in data:steps { steps = 2, batch = 4, micro_batch = 2, seed = 0 } do
---   optimizer:zero_grad()
---   for _, batch in ipairs(batches) do model:loss(batch):backward() end
---   optimizer:step()
--- end
function batching.steps(data, options)
  local o = strict.options("data:steps", options, schema)
  o.micro_batch = o.micro_batch or o.batch
  o.seed = o.seed or native.options.seed or 0
  if native.options.plan then plan.stop { data = data, batch = o.batch, micro_batch = o.micro_batch } end
  if #data == 0 then strict.fail("data:steps: the data set is empty") end
  local last = native.options.smoke and math.min(o.steps, 3) or o.steps
  local sample = batching.sampler(data.samples:lengths(), o)
  local step = o.start - 1
  return function()
    step = step + 1
    if step > last then return nil end
    local numbers = sample(step)
    return step, data.samples:micro_batches(numbers, o.micro_batch, step, data.explain), numbers
  end
end

return batching
