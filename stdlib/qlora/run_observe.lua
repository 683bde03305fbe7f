--- What a training loop tells a run directory besides its numbers: adapter norms, samples of text.
local native = require "qlora.native"
local strict = require "qlora.strict"

local observe = {}

--- Adapter norms are journaled about this many times in a run, which is as many columns as a heat map can show.
local norm_count = 40

local sampling_schema = strict.declare("train: samples", {
  every = { "count", "steps between samples; default a tenth of the run" },
  max_new_tokens = { "count", "most tokens of a sample", default = 48 },
})

--- Checks `samples = { "prompt", …, every =, max_new_tokens = }` of `qlora.train`.
function observe.sampling(samples)
  if not samples then return nil end
  local prompts, rest = {}, {}
  for key, value in pairs(samples) do
    if math.tointeger(key) then prompts[key] = value else rest[key] = value end
  end
  local o = strict.options("train: samples", rest, sampling_schema)
  if #prompts == 0 then
    strict.fail 'train: samples holds no prompt; write samples = { "text to continue", every = 50 }'
  end
  for i, prompt in ipairs(prompts) do
    if type(prompt) ~= "string" then strict.fail("train: samples[%d] must be a text, got a %s", i, type(prompt)) end
  end
  o.prompts = prompts
  return o
end

--- Prompts longer than the model reads, found before the first step.
function observe.check_prompts(model, samples)
  local limit = model.positions
  if not samples or not limit or not model.tokenizer then return end
  for i, prompt in ipairs(samples.prompts) do
    local count = #model.tokenizer:encode(prompt)
    if count > limit then
      strict.fail("train: samples[%d] has %d tokens, but the model reads at most %d; shorten the prompt", i, count,
        limit)
    end
  end
end

--- What is said before the first step: what it is computed in and by, and that a step takes samples more than once.
function observe.opening(o)
  local cpu = native.cpu()
  local text = ("computing in %s on %d thread%s, kernels %s, %s"):format(o.model.compute, cpu.threads,
    cpu.threads == 1 and "" or "s", cpu.set, cpu.processor)
  if o.batch <= #o.data then return text end
  return text .. ("\nbatch = %d is more than the %d samples: every step takes some of them again"):format(o.batch,
    #o.data)
end

local function sample(o, run, bar, step)
  local list = {}
  for i, prompt in ipairs(o.samples.prompts) do
    local count = native.options.smoke and 4 or o.samples.max_new_tokens
    local text = o.model:generate(prompt, { max_new_tokens = count })
    list[i] = { prompt = prompt, text = text }
    bar:note(("sample at step %d: %s ->%s"):format(step, prompt, text))
  end
  if run then run:log { step = step, samples = list } end
end

--- Bytes that went to and came from spill files (paged optimizer state, offloaded activations) since the last call with
--- the same `before`; nothing where there are none.
function observe.spilled(o, before)
  local now = {}
  for _, counters in pairs { o.optimizer:pages() or false, o.model:offloaded() or false } do
    if counters then
      now.written = (now.written or 0) + counters.bytes_written
      now.read = (now.read or 0) + counters.bytes_read
    end
  end
  local since = {}
  for key, bytes in pairs(now) do since[key], before[key] = bytes - (before[key] or 0), bytes end
  return since
end

--- The journal's line of a step: the entry, with the norm of each adapter when it is due.
function observe.line(o, entry, total)
  local step = entry.step
  if step ~= 1 and step ~= total and step % math.max(1, total // norm_count) ~= 0 then return entry end
  local line, norms = {}, o.model:adapter_norms()
  for key, value in pairs(entry) do line[key] = value end
  line.adapter_norms = next(norms) and norms
  return line
end

--- Writes and shows samples after a step when they are due; one rank does.
function observe.samples(o, run, bar, step, total)
  local samples = o.samples
  if samples and o.ranks.rank == 0 and (step == total or step % (samples.every or math.max(1, total // 10)) == 0) then
    sample(o, run, bar, step)
  end
end

return observe
