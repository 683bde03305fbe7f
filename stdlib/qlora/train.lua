--- `qlora.train { … }`: the training loop. recipes/custom_loop.lua is its shortest form, to copy and change.
local native = require "qlora.native"
local checks = require "qlora.checks"
local eval = require "qlora.eval"
local plan = require "qlora.plan"
local plot = require "qlora.plot"
local format = require "qlora.format"
local lockstep = require "qlora.lockstep"
local progress = require "qlora.progress"
local run_directory = require "qlora.run"
local observe = require "qlora.run_observe"
local settings_of = require "qlora.run_settings"
local screen = require "qlora.screen"
local schedules = require "qlora.schedule"
local card = require "qlora.train_card"
local shares = require "qlora.train_shares"
local strict = require "qlora.strict"
local together = require "qlora.together"

local schema = strict.declare("qlora.train", {
  model = { "Model", "the model, with adapters to train", required = true, hint = "pass what qlora.load returned" },
  data = { "Dataset", "the samples", required = true, hint = "pass what qlora.data.load returned" },
  optimizer = { "Optimizer", "made for model:trainable()", required = true,
    hint = "pass qlora.optim.adamw(model:trainable(), { lr = 2e-4 })" },
  steps = { "count", "optimizer steps; give steps or epochs" },
  epochs = { "positive", "passes over the data, instead of steps, default 1; a last step begins another" },
  schedule = { "callable", "a function step -> factor on the optimizer's rate; without it the rate is constant",
    hint = "pass qlora.schedule.cosine(steps) or any function step -> factor" },
  batch = { "count", "samples of a whole step", default = 16 },
  micro_batch = { "count", "samples that are in memory at once", default = 1 },
  parts = { "count", "runs of neighbouring micro-batches that are summed in sequence, then joined pairwise: they "
    .. "decide the bits, whatever the number of ranks, which divides them; default one a rank, of a resumed run as "
    .. "it was" },
  max_grad_norm = { "positive", "larger gradients are scaled down to this norm; without it none are" },
  group_by_length = { "boolean", "samples of similar length in one step", default = false },
  shuffle = { "boolean", "another order in each epoch", default = true },
  seed = { "integer", "of the order of samples; default --seed, else 0" },
  save_every = { "count", "steps between checkpoints; the last step always has one in a run directory" },
  save_seconds = { "positive", "seconds between checkpoints; default 60 where several ranks train, else none" },
  keep = { "count", "checkpoints that are kept", default = 3 },
  dir = { "string", "the run directory; default runs/RECIPE where a run needs one" },
  run = { "Run", "a run directory that qlora.run made, instead of dir" },
  log_every = { "count", "steps between lines where the output is no terminal", default = 10 },
  eval_data = { "Dataset", "held-out samples, measured before, at the end and every eval_every steps",
    hint = "pass what qlora.data.load returned" },
  eval_every = { "count", "steps between evaluations; default only at the end" },
  eval_limit = { "count", "most samples of an evaluation; default all" },
  on_step = { "callable", "called after each step with a table: step, loss, lr, norm, tokens, seconds, memory, model, "
    .. "optimizer, history, and after an evaluation eval_loss and perplexity; false stops the run",
    hint = "pass function(s) … end; s has step, loss, lr, norm" },
  checkpointing = { "boolean|count", "recompute layers instead of keeping activations, so many together; "
    .. "default as the model is set", hint = "true recomputes layer by layer, 4 by groups of four" },
  offload = { "boolean|string", "keep the inputs of recomputed layers in a file: true, or a directory for it",
    hint = "true, or a directory on a disk with room" },
  samples = { "table", "prompts to continue on the way: { \"text\", …, every =, max_new_tokens = }" },
})

--- What decides how a run goes on besides model and optimizer, which the checkpoint keeps too.
local function deciding(o)
  return { samples = o.data.samples, loop = { seed = o.seed, batch = o.batch, micro_batch = o.micro_batch,
    steps = o.steps, shuffle = o.shuffle, group_by_length = o.group_by_length,
    parts = o.sum.parts > 1 and o.sum.parts or nil, max_grad_norm = o.max_grad_norm or "none",
    schedule = schedules.describe(o.schedule) } }
end

local Interrupted = { __name = "interrupted", __tostring = function(self) return self.message end }

--- Ctrl-C: a prompt inside the step where there is one, else (or at the second Ctrl-C) a checkpoint and out with exit
--- code 130. Of variants that train together all are `told`, and leave without a prompt.
local function interrupted(o, run, step, state, told)
  if native.break_prompt and not told then
    local env = { model = o.model, opt = o.optimizer, step = step, history = state.history, data = o.data, run = run }
    if native.break_prompt(env) then return end
  end
  o.optimizer:zero_grad() -- the unfinished step leaves no trace; it will be repeated whole
  local message = ("interrupted at step %d"):format(step)
  if run and state.step > 0 then
    local dir = run:checkpoint(o.model, o.optimizer, state, o.deciding)
    message = ("%s; checkpoint in %s, go on with --resume %s"):format(message, dir, format.word(run.dir))
  end
  error(setmetatable({ exit_code = 130, message = message }, Interrupted), 0)
end

--- A stop after a whole step, on all ranks after the same: a checkpoint and out with exit code 130.
local function stopped(o, run, state)
  local message = ("stopped after step %d"):format(state.step)
  if run then
    local dir = run:checkpoint(o.model, o.optimizer, state, o.deciding)
    message = ("%s; checkpoint in %s, go on with --resume %s"):format(message, dir, format.word(run.dir))
  end
  error(setmetatable({ exit_code = 130, silent = o.ranks.rank > 0, message = message }, Interrupted), 0)
end

--- Forward and backward over the micro-batches of one step that are this rank's. Each loss is already divided by the
--- trained targets of the whole step, so their sum is the mean over the step however the batch is cut. Returns the
--- loss, the tokens of all, and whether the run is to stop after the step.
local function accumulate(o, run, step, batches, numbers, state)
  local tokens, stop = 0, run ~= nil and run:is_told_to_stop()
  for _, batch in ipairs(batches) do tokens = tokens + batch.tokens end
  for _, part in ipairs(o.sum:begin(#batches)) do
    local loss, first = shares.through_stages(o, batches, part)
    for i = first, part[2] do
      local batch = batches[i]
      local value, share, stop_now = lockstep.loss(o.model, batch)
      checks.loss(value, o.model, batch, { step = step, micro_batch = i, micro_batches = #batches, samples = numbers })
      if share then share:backward() end -- of several variants the pass has done it
      loss = loss + value
      if share then stop_now = native.interrupted() end
      if stop_now then
        if o.ranks.size == 1 then interrupted(o, run, step, state, share == nil) else stop = true end
      end
    end
    o.sum:add(loss)
  end
  return shares.finish(o, tokens, stop)
end

local function prepare(options)
  local o = strict.options("train", options, schema)
  o.seed = o.seed or native.options.seed or 0
  o.schedule = o.schedule or schedules.constant()
  if o.steps and o.epochs then
    strict.fail("train: give steps or epochs, not both; %d steps are %.3g epochs of this data", o.steps,
      o.steps * o.batch / math.max(#o.data, 1))
  end
  if o.micro_batch > o.batch then
    strict.fail("train: micro_batch (%d) is larger than batch (%d); batch counts the samples of a whole step, "
      .. "micro_batch those that are in memory at once", o.micro_batch, o.batch)
  end
  if o.eval_every and not o.eval_data then
    strict.fail("train: eval_every needs eval_data, for example the second part of data:split(0.05)")
  end
  o.samples = observe.sampling(o.samples)
  observe.check_prompts(o.model, o.samples)
  if not o.steps then o.steps = math.max(1, math.ceil((o.epochs or 1) * #o.data / o.batch)) end
  return o
end

--- Loss on held-out data, shown above the progress and written to the journal.
local function evaluate(o, run, bar, step)
  local perplexity, loss = eval.perplexity(o.model, o.eval_data, { batch = o.micro_batch, limit = o.eval_limit })
  bar:note(("evaluation at step %d: loss %.4f, perplexity %.3f"):format(step, loss, perplexity))
  if run then run:log { step = step, eval_loss = loss, perplexity = perplexity } end
  return loss, perplexity
end

--- Two digits at least, whole numbers where they are large.
local function rate(value) return value < 10 and ("%.2f"):format(value) or format.thousands(value) end

--- What streaming the base cost, as a line of the summary.
local function streaming(result)
  local s = result.streaming
  return s and ("\nbase streamed: %s of %s in memory, %s read a step, %.2f s waited for in all"):format(
    format.bytes(s.peak), format.bytes(s.bytes), format.bytes(s.read / math.max(result.steps, 1)),
    s.seconds_waited) or ""
end

local Result = strict.class("Training", { __name = "training" }, {
  doc = "What qlora.train returns; printing it shows the curve and the figures.", receiver = "result",
  fields = {
    { "history", "table[]", "one entry a step: step, loss, lr, norm, tokens, seconds, memory, …" },
    { "losses", "number[]", "the loss of each step" },
    { "eval_losses", "number[]", "the loss of each evaluation" },
    { "first_loss", "number", "loss of the first step" },
    { "last_loss", "number", "loss of the last step" },
    { "steps", "integer", "steps done, those before a resume too" },
    { "tokens", "integer", "tokens read in this session" },
    { "seconds", "number", "time of this session" },
    { "tokens_per_second", "number", "tokens by seconds" },
    { "peak_memory", "integer", "most resident bytes of the process" },
    { "dir", "string|nil", "the run directory" },
    { "streaming", "table|nil", "what streaming the base cost, as model:streaming() gives it" },
  },
})

function Result:__tostring()
  local evaluation = self.eval_losses[1] and ("evaluation loss %.4f -> %.4f\n"):format(
    self.eval_losses[1], self.eval_losses[#self.eval_losses]) or ""
  return ("loss %.4f -> %.4f  %s\n%s%s steps, %s tokens in %s: %s tok/s, peak memory %s%s%s"):format(
    self.first_loss, self.last_loss, plot.sparkline(self.losses, math.max(8, math.min(40, screen.columns(80) - 30))),
    evaluation, format.thousands(self.steps), format.thousands(self.tokens), format.seconds(self.seconds),
    rate(self.tokens_per_second), format.bytes(self.peak_memory), streaming(self),
    self.dir and ("\nrun directory " .. self.dir) or "")
end

local function summary(model, history, eval_losses, seconds, tokens, run)
  local losses = {}
  for i, entry in ipairs(history) do losses[i] = entry.loss end
  local memory = native.memory()
  return setmetatable({
    history = history, losses = losses, eval_losses = eval_losses, steps = #history, seconds = seconds,
    tokens = tokens, dir = run and run.dir, streaming = model.streaming and model:streaming(),
    tokens_per_second = tokens / math.max(seconds, 1e-9), peak_memory = memory.peak_rss or memory.peak,
    first_loss = losses[1] or 0 / 0, last_loss = losses[#losses] or 0 / 0,
  }, Result)
end

--- Trains a model: forward and backward over the micro-batches of each step, clipping, the optimizer's step,
--- evaluation, samples, journal and checkpoints.
--- @return Training the course of the run; printing it shows the figures
--- @throws when there is nothing to train, when the optimizer does not hold every trained tensor, when an adapter
---   gets no gradient, or when a loss or a gradient is not finite
--- @example
--- local result = qlora.train {
---   model = model, data = data, optimizer = optimizer, schedule = qlora.schedule.cosine(2),
---   steps = 2, batch = 2, max_grad_norm = 0.3,
--- }
--- assert(result.steps == 2)
return function(options)
  local o = prepare(options)
  local model, optimizer, history = o.model, o.optimizer, {}
  if native.options.plan then plan.stop(o) end
  checks.optimizer(model, optimizer)
  checks.training_data(model, o.data, o.eval_data)
  local run = o.run
  o.ranks = shares.ranks(o)
  if o.ranks.size > 1 then o.save_seconds = o.save_seconds or not o.save_every and 60 or nil end
  if not run and (o.dir or o.save_every or o.save_seconds or native.options.resume) then
    run = run_directory { dir = o.dir, keep = o.keep }
  end

  local params = model:trainable()
  o.sum = shares.sum(o, run, params)
  if run and o.ranks.size == 1 then native.spill_directory(run.dir) end -- ranks spill on disks of their hosts
  lockstep.agree(model, "checkpointing", o.checkpointing)
  lockstep.agree(model, "offload", o.offload)
  plan.choose(o)
  if run then run:settings(settings_of(o)) end
  if o.checkpointing ~= nil or o.offload ~= nil then
    model:checkpointing(o.checkpointing == nil or o.checkpointing, { offload = o.offload })
  end
  local state = { step = 0, tokens = 0, history = history, eval_losses = {} }
  o.deciding = (run or o.ranks.size > 1) and deciding(o)
  local restored = run and run:restore(model, optimizer, o.deciding)
  if restored then
    state.step, state.tokens = restored.step, restored.tokens
    table.move(restored.history, 1, #restored.history, 1, history)
    state.eval_losses = restored.eval_losses
  end
  model:note_training({}, { chat_template = o.data.chat_template }) -- for what on_step saves
  shares.agree(o, params)
  if not native.options.quiet then print(observe.opening(o)) end
  local start = state.step + 1
  local total = native.options.smoke and math.min(o.steps, 3) or o.steps
  local bar, began = progress.new(total, start, o.log_every), native.clock()
  local saved, before, spilled_before = began, state.tokens, {}
  if o.eval_data and start == 1 then state.eval_losses[1] = evaluate(o, run, bar, 0) end
  for step, batches, numbers in o.data:steps {
    steps = total, start = start, batch = o.batch, micro_batch = o.micro_batch, seed = o.seed,
    group_by_length = o.group_by_length, shuffle = o.shuffle,
  } do
    optimizer:zero_grad()
    local loss, tokens, is_stopping = accumulate(o, run, step, batches, numbers, state)
    if step == 1 then checks.gradients(model, o.data) end
    local norm, scale = native.gradient_norm(params, o.max_grad_norm or math.huge)
    checks.gradient_norm(norm, model, step)
    local lr = optimizer.lr * checks.factor(o.schedule(step), step)
    optimizer:step { lr = lr, grad_scale = scale }
    local spilled = observe.spilled(o, spilled_before)

    local entry = { step = step, loss = loss, lr = format.rate(lr), norm = norm, tokens = tokens,
      seconds = native.clock() - began, memory = native.memory().rss,
      spill_written = spilled.written, spill_read = spilled.read }
    history[#history + 1] = entry
    state.step, state.tokens = step, state.tokens + tokens
    if run then run:log(observe.line(o, entry, total)) end
    bar:update(entry)
    observe.samples(o, run, bar, step, total)
    if o.eval_data and (step % (o.eval_every or total) == 0 or step == total) then
      entry.eval_loss, entry.perplexity = evaluate(o, run, bar, step)
      state.eval_losses[#state.eval_losses + 1] = entry.eval_loss
    end
    local stop = false
    if o.on_step then
      local given = setmetatable({ model = model, optimizer = optimizer, history = history }, { __index = entry })
      bar:aside(function() stop = o.on_step(given) == false end)
    end
    stop = o.on_step and together.any("on_step", stop)
    local is_due = shares.is_due(o, run, saved)
    if run and (o.save_every and step % o.save_every == 0 or is_due or step == total or stop) then
      run:checkpoint(model, optimizer, state, o.deciding)
      saved = native.clock()
    end
    shares.compare(o, step, params)
    if stop then break end
    if is_stopping and step < total then stopped(o, run, state) end
  end
  bar:finish()
  local result = summary(model, history, state.eval_losses, native.clock() - began, state.tokens - before, run)
  if run then run:finish(result) end
  model:note_training(card(o, result, state.tokens), { chat_template = o.data.chat_template })
  if run and run.is_complete then
    print(("the run in %s is finished: %d of %d steps are done; --set steps=… takes more where the recipe has that "
      .. "parameter"):format(run.dir, state.step, o.steps))
  elseif not native.options.quiet then
    print(result)
  end
  return result
end
