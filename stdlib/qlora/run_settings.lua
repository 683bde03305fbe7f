--- What decides a run, by name: model and its 4-bit types, adapters, optimizer, data, loop and machine. It stands in
--- params.json, in the index of runs and in the report.
local native = require "qlora.native"
local format = require "qlora.format"
local made = require "qlora.made"
local schedules = require "qlora.schedule"

-- What of an adapter is told where all adapters have it in common.
local of_adapter = { "rank", "alpha", "dropout", "kind" }

--- What the adapters have in common, and how many there are.
local function adapters(model)
  local count, common = 0, {}
  for module in model:modules() do
    local adapter = module.adapter
    if adapter then
      for _, key in ipairs(of_adapter) do
        if count == 0 then common[key] = adapter[key] end
        if adapter[key] ~= common[key] then common[key] = nil end
      end
      count = count + 1
    end
  end
  return count, common
end

--- The types of the linear layers' weights: "nf4", or "33 in nf4, 2 in bf16" where there are several.
local function weights(model)
  local counts, names = {}, {}
  for module in model:modules() do
    local name = module.kind == "linear" and (module.quant or module.dtype)
    if name then
      if not counts[name] then counts[name], names[#names + 1] = 0, name end
      counts[name] = counts[name] + 1
    end
  end
  if #names < 2 then return names[1] end
  for i, name in ipairs(names) do names[i] = ("%d in %s"):format(counts[name], name) end
  return table.concat(names, ", ")
end

--- How many numbers are trained, and their share of all in percent.
local function trained(model, has_adapters)
  local count, base = 0, 0
  for _, tensor in ipairs(model:trainable()) do count = count + tensor:numel() end
  for module in model:modules() do base = base + module.params end
  local all = base + (has_adapters and count or 0)
  return count, tonumber(("%.3g"):format(100.0 * count / math.max(all, 1)))
end

local function add(settings, more)
  for key, value in pairs(more) do settings[key] = value end
end

--- The settings of a run of `qlora.train` with the checked options `o`.
return function(o)
  local count, common = adapters(o.model)
  local numbers, percent = trained(o.model, count > 0)
  local cpu, stats, checkpointing, offload = native.cpu(), o.data:stats(), o.checkpointing, o.offload
  local settings = {
    model = o.model.name, compute = o.model.compute, weights = weights(o.model),
    adapters = count, rank = common.rank, alpha = common.alpha, dropout = common.dropout, method = common.kind,
    trained = numbers, trained_percent = percent,
    steps = o.steps, batch = o.batch, micro_batch = o.micro_batch, parts = o.sum.parts > 1 and o.sum.parts or nil,
    seed = o.seed, max_grad_norm = o.max_grad_norm, schedule = schedules.describe(o.schedule),
    shuffle = o.shuffle, group_by_length = o.group_by_length, checkpointing = checkpointing, offload = offload,
    samples = #o.data, tokens_of_data = stats.tokens, longest_sample = stats.longest,
    eval_samples = o.eval_data and #o.eval_data or nil,
    processor = cpu.processor, kernels = cpu.set, threads = cpu.threads,
    ranks = o.ranks.size > 1 and o.ranks.size or nil,
  }
  for _, object in ipairs { o.model, o.optimizer, o.data } do add(settings, made.of(object)) end
  settings.lr = format.rate(o.optimizer.lr) -- the recipe may have assigned it
  return settings
end
