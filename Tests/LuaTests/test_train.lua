local t = require "harness"
local native = require "qlora.native"
local qlora = require "qlora"
local observe = require "qlora.run_observe"

local root = os.tmpname()
os.remove(root)
native.mkdir(root)

local function setup(o)
  local model = native.mock_model(o)
  local records = {}
  for i = 1, 13 do records[i] = { text = ("abcdefghijklm"):sub(1, i) } end
  local data = qlora.data.load(records, { format = "completion", tokenizer = model.tokenizer,
    max_length = 528 })
  return model, data, qlora.optim.sgd(model:trainable(), { lr = 0.5 })
end

local function train(options, o)
  local model, data, optimizer = setup(o)
  local all = { model = model, data = data, optimizer = optimizer, batch = 8, micro_batch = 8, steps = 6, seed = 1 }
  for key, value in pairs(options or {}) do all[key] = value end
  return qlora.train(all), model, optimizer
end

local function same_weights(a, b, tolerance)
  for id = 0, 258 do t.close(a.weights[id], b.weights[id], tolerance, "weight of " .. id) end
end

t.test("the loss falls and the result tells the run", function()
  local result = train()
  t.equal({ result.steps, #result.losses }, { 6, 6 })
  t.close(result.first_loss, math.log(259), 1e-12)
  assert(result.last_loss < result.first_loss)
  assert(tostring(result):find("6 steps", 1, true))
end)

t.test("batch 8 equals 2 x 4 equals 8 x 1", function()
  local _, whole = train { micro_batch = 8 }
  for _, micro in ipairs { 4, 3, 1 } do
    local _, cut = train { micro_batch = micro }
    same_weights(whole, cut, 1e-12)
  end
end)

t.test("schedule and max_grad_norm reach the optimizer", function()
  local _, _, optimizer = train { schedule = qlora.schedule.linear(6), steps = 3 }
  t.close(optimizer.rates[3], 0.5 * (1 - 2 / 6), 1e-15)
  local result, clipped = train { max_grad_norm = 1e-6, steps = 1 }
  local size = 0.0
  for id = 0, 258 do size = size + clipped.weights[id] ^ 2 end
  t.close(math.sqrt(size), 0.5e-6, 1e-12)
  assert(result.history[1].norm > 1e-3)
end)

t.test("a resumed run ends with the bits of one that was never stopped", function()
  local _, straight = train { dir = root .. "/straight", steps = 6 }
  train { dir = root .. "/stopped", steps = 6, save_every = 2, on_step = function(s) return s.step < 4 end }
  native.options.resume = true
  local result, resumed = train { dir = root .. "/stopped", steps = 6 }
  native.options.resume = nil
  same_weights(straight, resumed, 0)
  t.equal(#result.history, 6)
  t.raises(function()
    native.options.resume = root .. "/stopped"
    train { batch = 4, micro_batch = 4 }
  end, "batch was 8", "is 4 now")
  native.options.resume = nil
end)

t.test("what the last session ran with is what the run directory says and --resume alone takes up", function()
  local dir, recall = root .. "/extended", require "qlora.run_recall"
  local function read() return qlora.json.decode(assert(io.open(dir .. "/params.json")):read "a") end
  native.options.set, native.options.seed = { rate = "a", steps = "4" }, 7
  train { dir = dir, steps = 4, seed = 7 }
  local first = read()
  native.options.resume, native.options.set, native.options.seed = dir, { steps = "6" }, nil
  train { dir = dir, steps = 6, seed = 7 }
  local last = read()
  t.equal({ last.set, last.settings.steps, last.seed }, { { steps = "6" }, 6, nil })
  t.equal({ last.started, last.version }, { first.started, first.version })
  native.options.set = {}
  recall.apply(dir)
  t.equal(native.options.set, { steps = "6" })
  -- A session that could not go on says nothing there.
  t.raises(function() train { dir = dir, steps = 8, seed = 7, batch = 4, micro_batch = 4 } end, "batch was 8")
  t.equal(read().settings, last.settings)
  -- Nor does one that asks for fewer steps than are done; it says so.
  local text = t.captured(function() train { dir = dir, steps = 3, seed = 7 } end)
  native.options.resume, native.options.set = nil, nil
  assert(text:find("finished: 6 of 3 steps are done", 1, true), text)
  t.equal({ read().settings.steps, qlora.json.decode(assert(io.open(dir .. "/summary.json")):read "a").steps }, { 6, 6 })
end)

t.test("a run directory holds parameters, journal, events, checkpoints and report", function()
  qlora.params { rank = 4 }
  local result = train { dir = root .. "/full", save_every = 1, keep = 2 }
  local names = native.list_dir(root .. "/full")
  t.equal({ names[1], names[2] }, { "checkpoint-000005", "checkpoint-000006" })
  local text = table.concat(names, " ")
  for _, name in ipairs { "journal.jsonl", "params.json", "report.html", "events.out.tfevents" } do
    assert(text:find(name, 1, true), name)
  end
  local lines = 0
  for line in io.lines(root .. "/full/journal.jsonl") do
    lines = lines + 1
    assert(line:find('"loss":', 1, true) and line:find(('"step":%d'):format(lines), 1, true), line)
  end
  t.equal(lines, 6)
  local again = train { dir = root .. "/full", steps = 1 }
  t.equal({ result.dir, again.dir }, { root .. "/full", root .. "/full-2" }) -- an earlier run is never written over
end)

t.test("evaluation goes into the history", function()
  local model, data, optimizer = setup()
  local result = qlora.train { model = model, data = data, optimizer = optimizer, batch = 8, steps = 4,
    eval_data = data, eval_every = 2 }
  assert(not result.history[1].eval_loss and result.history[2].eval_loss and result.history[4].perplexity)
  t.close(math.exp(result.history[4].eval_loss), result.history[4].perplexity, 1e-12)
end)

t.test("a loss that is no number stops with step, micro-batch and samples", function()
  t.raises(function() train({ micro_batch = 4 }, { poison = 3 }) end, "at step 3, micro-batch 1 of 2 (samples ",
    "every module's output is finite")
  t.raises(function() train({ micro_batch = 4 }, { poison = 3, sick = "model.layers.2.mlp.up_proj" }) end,
    "the first module whose output is not finite is model.layers.2.mlp.up_proj")
end)

t.test("a gradient that is no number stops before the optimizer spreads it", function()
  local model, data, optimizer = setup()
  model.overflowing = { "x.lora_A.weight" }
  t.raises(function() qlora.train { model = model, data = data, optimizer = optimizer, steps = 2, batch = 8 } end,
    "gradient norm is", "at step 1", "1 gradients are not, the first of x.lora_A.weight")
  t.equal(optimizer.rates, {})
end)

t.test("an optimizer that lacks a trained tensor stops the run before its first step", function()
  local model, data = setup()
  local other = setup()
  local optimizer = qlora.optim.sgd({ other }, { lr = 1 })
  t.raises(function() qlora.train { model = model, data = data, optimizer = optimizer, steps = 2, batch = 8 } end,
    "the optimizer does not hold 1 of the model's 1 trained tensors", "after the last add_lora")
  model.trainable = function() return {} end
  t.raises(function() qlora.train { model = model, data = data, optimizer = optimizer, steps = 2, batch = 8 } end,
    "nothing to train", "add_lora")
end)

t.test("tokens that the model has no rows for are found before the first step", function()
  local model, data, rates = setup()
  model.config.vocab_size = 100
  t.raises(function() qlora.train { model = model, data = data, optimizer = rates, batch = 8, steps = 1 } end,
    "(record 1) has the token 100, but the model has 100 rows, 0 to 99", "tokens were added to the tokenizer")
end)

t.test("a parameter without gradient stops the first step", function()
  t.raises(function() train({}, { missing = { "x.lora_a", "x.lora_b" } })
    end, "2 adapters or parameters got no gradient in the first step", "x.lora_a")
  -- No token was sent to this expert yet.
  local optimizer = train({ steps = 1 }, { missing = { "model.layers.0.mlp.experts.6.up_proj.lora_A.weight" } })
  assert(optimizer)
  -- A model has many thousand experts: looking through all of them for each takes minutes.
  do
    local model, data, rates = setup { missing = { "a.experts.1.b", "a.experts.2.b", "a.experts.3.b" } }
    local passes, modules = 0, model.modules
    model.modules = function(...) passes = passes + 1; return modules(...) end
    qlora.train { model = model, data = data, optimizer = rates, batch = 8, steps = 1 }
    t.equal(passes, 1)
  end
  -- Rows of tokens that come later wait; those of tokens that never come would stay as they are.
  local function rows(ids)
    local model, data, rates = setup { missing = { "embed" } }
    model.list = { { name = "embed", adapter = { ids = ids } } }
    return qlora.train { model = model, data = data, optimizer = rates, batch = 8, steps = 1 }
  end
  assert(rows { ("e"):byte() + 3, 999 })
  t.raises(function() rows { 998, 999 } end, "none of the 2 trained tokens of embed occurs")
end)

t.test("an interrupt leaves a checkpoint of the last whole step, and resuming repeats the rest", function()
  local _, straight = train { steps = 6, micro_batch = 4 }
  native.interrupt_after = 2
  local model, data, optimizer = setup()
  t.raises(function() qlora.train { model = model, data = data, optimizer = optimizer, steps = 2, batch = 8 } end,
    "interrupted at step 1")
  for id = 0, 258 do t.equal(model.gradient[id], 0.0) end
  native.interrupt_after = 6 -- the second micro-batch of step 3
  local ok, message = pcall(train, { dir = root .. "/ctrl-c", micro_batch = 4 })
  t.equal({ ok, message.exit_code }, { false, 130 })
  assert(tostring(message):find("checkpoint-000002", 1, true), tostring(message))
  native.options.resume = true
  local result, resumed = train { dir = root .. "/ctrl-c", micro_batch = 4 }
  native.options.resume = nil
  same_weights(straight, resumed, 0)
  local tokens = 0 -- of this session: steps 3 to 6
  for i = 3, 6 do tokens = tokens + result.history[i].tokens end
  t.equal({ result.steps, result.tokens }, { 6, tokens })
end)

t.test("a plan before the first step knows what the loop will set, and its errors are the run's", function()
  native.options.memory = 1 << 40
  local _, model = train { steps = 1, checkpointing = 3, offload = true }
  t.equal({ model.planned.checkpointing, model.planned.offload }, { 3, true })
  _, model = train { steps = 1, checkpointing = false }
  t.equal({ model.planned.checkpointing, model.planned.offload }, { false, false })
  _, model = train { steps = 1 }
  t.equal({ model.planned.checkpointing, model.planned.offload }, {})
  local broken, data, optimizer = setup()
  local message = "no such plan"
  rawset(broken, "plan_step", function() error(message, 0) end)
  local o = { model = broken, data = data, optimizer = optimizer, steps = 1, batch = 8 }
  t.raises(function() qlora.train(o) end, "no such plan")
  message = "out of memory: the system has no 1 MiB left"
  qlora.train(o) -- the first pass decides
  native.options.memory = nil
end)

t.test("a step's entry has what went through spill files since the step before", function()
  local pages, offloaded = { bytes_written = 100, bytes_read = 10 }, { bytes_written = 1, bytes_read = 2 }
  local o = { optimizer = { pages = function() return pages end }, model = { offloaded = function() return offloaded end } }
  local before = {}
  t.equal(observe.spilled(o, before), { written = 101, read = 12 })
  pages, offloaded = { bytes_written = 150, bytes_read = 10 }, { bytes_written = 3, bytes_read = 4 }
  t.equal(observe.spilled(o, before), { written = 52, read = 2 })
  pages, offloaded = nil, nil
  t.equal(observe.spilled(o, {}), {})
end)

t.test("a prompt inside the step may let the run go on", function()
  local seen, steps_then
  native.break_prompt = function(env) seen, steps_then = env, #env.history; return true end
  native.interrupt_after = 3
  local result = train()
  native.break_prompt = nil
  t.equal({ result.steps, seen.step, steps_then }, { 6, 3, 2 })
end)

t.test("--smoke cuts the steps, --plan prints and leaves", function()
  native.options.smoke = true
  local result = train()
  native.options.smoke = nil
  t.equal(result.steps, 3)

  local function planned(limit)
    native.options.plan, native.options.memory = true, limit
    local code
    local text = t.captured(function()
      local ok, e = pcall(train, { batch = 4, micro_batch = 4 })
      code = not ok and e.exit_code
    end)
    native.options.plan, native.options.memory = nil, nil
    return code, text
  end
  local code, text = planned(nil)
  t.equal(code, 0)
  assert(text:find("4.00 GiB", 1, true) and text:find("40.0 M", 1, true), text)
  assert(text:find("micro_batch = 2 +2.00 GiB +-2.00 GiB") and text:find("optimizer bits = 8 +2.00 GiB"), text)
  t.equal(planned(4 << 30), 0)
  t.equal(planned((4 << 30) - 1), 3)
end)

t.test("a loop by hand stops at --plan too", function()
  native.options.plan = true
  local model = qlora.load("m", {})
  local code
  t.captured(function()
    local data = qlora.data.load("missing.json", { format = "alpaca", tokenizer = model.tokenizer, max_length = 64 })
    local ok, e = pcall(data.steps, data, { steps = 3, batch = 2 })
    code = not ok and e.exit_code
  end)
  native.options.plan = nil
  t.equal({ code, model.planned.length, model.planned.batch, model.planned.micro_batch }, { 0, 64, 2, 2 })
end)

t.test("mistakes in the options are named", function()
  t.raises(function() train { bacth = 1 } end, '"batch"')
  t.raises(function() train { epochs = 1 } end, "steps or epochs")
  t.raises(function() train { micro_batch = 9 } end, "larger than batch")
  t.raises(function() train { eval_every = 2 } end, "eval_data")
  t.raises(function() qlora.train {} end, "'data' is missing")
end)

t.test("an interrupt while a checkpoint is saved or loaded stays one", function()
  local raised = { exit_code = 130, message = "recipe.lua:3: interrupted" }
  local save, load = native.save_checkpoint, native.load_checkpoint
  local run = qlora.run { dir = root .. "/halted" }
  native.save_checkpoint = function() error(raised, 0) end
  local ok, message = pcall(run.checkpoint, run, native.mock_model(), nil, { step = 1 })
  native.save_checkpoint = save
  t.equal({ ok, message == raised }, { false, true })
  native.mkdir(run.dir .. "/checkpoint-000001")
  run.resuming = true
  native.load_checkpoint = function() error(raised, 0) end
  ok, message = pcall(run.restore, run, native.mock_model(), nil)
  native.load_checkpoint = load
  t.equal({ ok, message == raised }, { false, true })
end)

t.test("after a write that failed a run is told to go on where it can", function()
  local place = require "qlora.run_place"
  local run, save = qlora.run { dir = root .. "/full" }, native.save_checkpoint
  local journal = run.journal
  run.journal = { write = function() return nil, "journal: No space left on device" end }
  native.save_checkpoint = function() error("No space left on device", 0) end
  local function both(...)
    t.raises(function() run:log { step = 1 } end, "cannot write ", ": No space left on device; free space and ", ...)
    t.raises(function() run:checkpoint(native.mock_model(), nil, { step = 2 }) end, "the checkpoint of step 2", ...)
  end
  both "start again: there is no checkpoint yet"
  t.raises(function() place.chosen(run.dir) end, "holds no complete checkpoint; start again without --resume")
  native.mkdir(run.dir .. "/checkpoint-000001")
  both("go on with --resume " .. run.dir)
  t.raises(function() run:checkpoint(native.mock_model(), nil, { step = 2 }) end, "those before it are whole; go on")
  t.raises(function() place.chosen(run.dir, 4) end, "holds no complete checkpoint of step 4")
  run.journal, native.save_checkpoint = journal, save
end)

t.test("what killed writers left in a run directory goes when it is resumed, wherever they ran", function()
  local place = require "qlora.run_place"
  local dir = root .. "/left"
  for _, name in ipairs {
    "checkpoint-000002", "checkpoint-000002.qlora-old-0a1b2c3d-77-9", "checkpoint-000004.qlora-tmp-0a1b2c3d-77-5",
    "checkpoint-000005.qlora-tmp-77", "checkpoint-000006.qlora-old-0a1b2c3d-77-9", "summary.json.qlora-tmp-77-5",
    "params.json.qlora-tmp-0a1b2c3d-77-5", "adapter.qlora-tmp-0a1b2c3d-77-5", "notes.txt",
  } do native.mkdir(dir .. "/" .. name) end
  place.reopen(dir)
  t.equal(table.concat(native.list_dir(dir), " "),
    "adapter.qlora-tmp-0a1b2c3d-77-5 checkpoint-000002 checkpoint-000006 notes.txt")
end)

native.remove_tree(root)
