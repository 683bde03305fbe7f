--- Run directories: everything needed to know, repeat and continue a run.
---   recipe.lua  params.json  journal.jsonl  events.out.tfevents.*  checkpoint-000250/  summary.json  report.html  lock
--- Of several ranks the first writes all of it, each of the others a journal of its own, journal.rank-3.jsonl.
--- The directory that holds them has an index, runs.sqlite (see qlora.runs).
local native = require "qlora.native"
local format = require "qlora.format"
local journal = require "qlora.run_journal"
local json = require "qlora.json"
local params = require "qlora.params"
local place = require "qlora.run_place"
local run_params = require "qlora.run_params"
local report = require "qlora.report"
local runs = require "qlora.runs"
local strict = require "qlora.strict"
local tensorboard, values = require "qlora.tensorboard", require "qlora.tensorboard_values"
local together = require "qlora.together"

local Run = strict.class("Run", { __name = "run" }, {
  doc = "A run directory: recipe.lua, params.json, journal.jsonl, events.out.tfevents.*, checkpoint-000250, "
    .. "summary.json and report.html.", receiver = "run",
  fields = { { "dir", "string", "the directory" }, { "keep", "integer", "checkpoints that are kept" },
    { "resuming", "boolean", "whether it was opened by --resume" },
    { "is_complete", "boolean|nil", "whether --resume found all of its steps done" } },
})
Run.__index = Run

local run = {}

--- Brings the index up to date; a run never stops because of it.
local function update_index(self)
  local ok, message = runs.record(self.dir)
  if not ok then
    io.stderr:write(("qlora.run: not in the index now: %s; qlora.runs adds it from its directory\n"):format(message))
  end
end

--- Tells the user of this program; a run goes on.
local function tell(text, ...) io.stderr:write(("qlora.run: " .. text .. "\n"):format(...)) end

--- Opens the journal for what is to come.
local function open_journal(self)
  self.journal_path = ("%s/journal%s.jsonl"):format(self.dir, self.rank > 0 and ".rank-" .. self.rank or "")
  self.journal = assert(io.open(self.journal_path, "a"))
end

--- Follows a directory that was moved, and makes one anew that was removed: what is trained is not lost at the end.
local function settle(self)
  if self.is_finished or self.rank > 0 then return end
  local now = native.locked_place(self.dir)
  if now == self.dir then return end
  local was = self.dir
  if now then
    self.dir = now
    tell("the directory %s was moved while the run goes on; it goes on in %s", was, now)
  else
    self.dir = place.new(was)
    tell("the directory %s was removed while the run goes on; journal and checkpoints begin again in %s", was, self.dir)
    self.written, self.events, self.is_bare = nil, nil, true
    self.journal:close()
    self.params = run_params.describe(self.dir, self.given)
    open_journal(self)
  end
  if native.spill_directory() == was then native.spill_directory(self.dir) end
end

--- Adds what a training loop runs with, so that reports and the index know it without the recipe's help.
--- @param settings table values by name
--- @example qlora.run({ dir = "runs/a" }):settings { rank = 8 }
function Run:settings(settings)
  self.given = settings
  if not self.params then return end -- resumed: written as soon as the run goes on
  self.params.settings = settings
  run_params.write(self.dir, self.params)
  update_index(self)
end

--- Adds values of a step to the event file of this session, which begins with the run's settings. What cannot be
--- written is told once: the run goes on without it.
local function add_events(self, step, told)
  local ok, message
  if not self.events then
    local name = self.dir:match "([^/]+)/*$" or self.dir
    self.events, message = tensorboard.open(self.dir, self.resumed_at,
      values.start({ params.resolved or {}, self.given or {} }, name, os.time() + 0.0))
  end
  if self.events then ok, message = self.events:add(step, told) end
  if ok then return end
  tell("TensorBoard gets no more of this run: cannot write %s", message)
  if self.events then self.events.file:close() end
  self.events, self.wants_events = nil, false
end

--- Appends a line to the journal; numbers of a step and samples of text also go to TensorBoard.
--- @param entry table values by name, with `step` for those of a step
--- @throws when the disk is full, or a field that reports read is of another type
--- @example qlora.run({ dir = "runs/a" }):log { step = 1, loss = 3.5 }
function Run:log(entry)
  settle(self)
  local ok, message = self.journal:write(json.encode(journal.check_entry("log", entry)), "\n")
  if ok then ok, message = self.journal:flush() end
  if not ok then
    error(("cannot write %s: %s; free space and %s"):format(self.journal_path, message:gsub("^[^:]*: ", ""),
      place.way_on(self)), 0)
  end
  if self.wants_events and math.tointeger(entry.step) and entry.step >= 0 then
    local told = values.numbers(entry) .. values.samples(entry.samples or {})
    if told ~= "" then add_events(self, entry.step, told) end
  end
end

--- Saves a checkpoint, complete or not at all. Of those before it the latest `keep` stay; those after it, of a course
--- that a resumed run has left, go.
--- @param model Model its trained parameters
--- @param optimizer Optimizer its state
--- @param state table what the loop needs to go on, with `step`
--- @param deciding? table what else decides the run: samples = data.samples, loop = { seed =, batch =, … }
--- @return string the directory of the checkpoint
--- @throws when the disk is full; the checkpoints before it stay whole
--- @example
--- local run = qlora.run { dir = "runs/a" }
--- assert(run:checkpoint(model, optimizer, { step = 1 }) == "runs/a/checkpoint-000001")
function Run:checkpoint(model, optimizer, state, deciding)
  settle(self)
  local dir = place.checkpoint(self.dir, state.step)
  if self.rank > 0 and model.stages == 1 then return dir end -- stages are gathered by rank 0
  if self.written ~= state.step then
    deciding = deciding or {}
    local ok, message = pcall(native.save_checkpoint, dir, { model = model, optimizer = optimizer, state = state,
      samples = deciding.samples, loop = deciding.loop })
    if not ok then
      strict.pass_on(message)
      error(("%s (the checkpoint of step %d is not written; %s)"):format(message, state.step,
        place.way_on(self, "those before it are whole; ")), 0)
    end
    self.written, self.is_bare = state.step, nil
  end
  if self.rank > 0 then return dir end
  local steps = place.checkpoints(self.dir)
  local latest = #steps
  while steps[latest] and steps[latest] > state.step do latest = latest - 1 end
  for i, step in ipairs(steps) do
    if i <= latest - self.keep or i > latest then native.remove_checkpoint(place.checkpoint(self.dir, step)) end
  end
  return dir
end

--- Loads a checkpoint; of a damaged one says which one before it is whole.
local function load_checkpoint(self, steps, index, model, optimizer, deciding)
  local dir = place.checkpoint(self.dir, steps[index])
  local accept = { table.unpack(native.options.accept_changed or {}) }
  if deciding.loop and deciding.loop.steps then accept[#accept + 1] = "steps" end -- more of them is no other run
  local ok, state, changes = pcall(native.load_checkpoint, dir, model, optimizer,
    { samples = deciding.samples, loop = deciding.loop, accept = accept })
  if ok then return state, changes, dir end
  strict.pass_on(state)
  local message = tostring(state)
  if pcall(native.verify_checkpoint, dir) then error(message, 0) end
  for i = index - 1, 1, -1 do
    local before = place.checkpoint(self.dir, steps[i])
    if pcall(native.verify_checkpoint, before) then
      error(("%s; the one before it is whole: --resume %s"):format(message, format.word(before)), 0)
    end
  end
  error(message .. "; no checkpoint before it is whole: start again without --resume", 0)
end

--- The parts of a step in the checkpoint that --resume means, nil without one: a resumed run keeps them, whatever the
--- number of its ranks.
--- @return integer|nil the parts
--- @example assert(qlora.run({ dir = "runs/a" }):parts() == nil)
function Run:parts()
  if not self.resuming then return nil end
  local steps, index = place.chosen(self.dir, self.from)
  return place.parts(place.checkpoint(self.dir, steps[index]))
end

--- Whether someone made a file called stop in the directory, which is taken away.
--- @return boolean whether the run is to stop
--- @example assert(not qlora.run({ dir = "runs/a" }):is_told_to_stop())
function Run:is_told_to_stop()
  local file = self.dir .. "/stop"
  if self.rank > 0 or not native.exists(file) then return false end
  native.remove_tree(file)
  return true
end

--- Loads the checkpoint that --resume means, the latest or the one it names.
--- @param model Model a model with the same adapters
--- @param optimizer Optimizer an optimizer of the same kind
--- @param deciding? table what else decides the run, as in `run:checkpoint`
--- @return table|nil the loop's state; nil without --resume
--- @throws when the directory holds no checkpoint, when it is damaged, or when something that decides the run is not
---   what it was and --accept-changed does not name it
--- @example assert(qlora.run({ dir = "runs/a" }):restore(model, optimizer) == nil)
function Run:restore(model, optimizer, deciding)
  if not self.resuming then return nil end
  local steps, index = place.chosen(self.dir, self.from)
  local state, changes, dir = load_checkpoint(self, steps, index, model, optimizer, deciding or {})
  if state.step ~= steps[index] then
    error(("--resume: %s holds the state of step %s"):format(dir, tostring(state.step)), 0)
  end
  self.resumed_at, self.written = state.step, state.step
  local summary = self.dir .. "/summary.json" -- a run that goes on is not finished
  local wanted = deciding and deciding.loop and deciding.loop.steps
  self.is_complete = wanted and (state.step > wanted or state.step == wanted and native.exists(summary))
  if self.is_complete then return state end
  if self.rank == 0 then
    if native.exists(summary) then native.remove_tree(summary) end
    self.params = run_params.describe(self.dir, self.given, true)
    update_index(self)
  end
  self:log { resumed_from = dir, at = state.step, changed = changes[1] and changes }
  for _, change in ipairs(self.rank == 0 and changes or {}) do
    tell("goes on with another %s: %s, was %s", change.name, change.now, change.was)
  end
  return state
end

--- Writes summary.json and report.html and closes the files.
--- @param result Training what qlora.train returned
--- @example
--- local run = qlora.run { dir = "runs/a" }
--- run:log { step = 1, loss = 3.5 }
--- run:finish { steps = 1, tokens = 10, seconds = 1.0, first_loss = 3.5, last_loss = 3.5 }
--- assert(qlora.native.exists "runs/a/report.html")
function Run:finish(result)
  settle(self)
  self.journal:close()
  if self.rank > 0 then
    self.is_finished = true
    return
  end
  if self.events then add_events(self, result.steps or 0, values.finish(os.time() + 0.0)) end
  if self.events then self.events.file:close() end
  if self.is_complete then -- its results stay as they are
    self.is_finished = true
    return native.unlock_directory(self.dir)
  end
  native.write_file(self.dir .. "/summary.json", json.encode {
    finished = os.date("!%Y-%m-%dT%H:%M:%SZ"), steps = result.steps, tokens = result.tokens, seconds = result.seconds,
    tokens_per_second = result.tokens_per_second, peak_memory = result.peak_memory,
    first_loss = result.first_loss, last_loss = result.last_loss,
  } .. "\n")
  report.write(self.dir)
  update_index(self)
  self.is_finished = true
  native.unlock_directory(self.dir)
end

--- Opens the directory that rank 0 has made or reopened; on a host that does not see it, one for the journal alone.
local function follow(self)
  local of_first = json.decode(together.of_first "run directory")
  self.dir, self.from = of_first.dir, of_first.from
  native.mkdir(self.dir)
  open_journal(self)
  return self
end

local schema = strict.declare("qlora.run", {
  dir = { "string", "the directory; default runs/RECIPE. A taken name gets -2, -3, …" },
  keep = { "count", "checkpoints that are kept", default = 3 },
  tensorboard = { "boolean", "write TensorBoard event files", default = true },
})
strict.declare("qlora.run.new", schema)

--- Starts a run directory, or reopens one under --resume.
--- @return Run the run
--- @throws when --resume finds no run, or another program writes into it
--- @example assert(qlora.run.new({ dir = "runs/a" }).dir == "runs/a")
function run.new(options)
  local o = strict.options("qlora.run", options, schema)
  local wanted, resume = o.dir or place.default(), native.options.resume
  if native.options.smoke or native.options.plan then wanted, resume = native.place_to_save(wanted), nil end
  local self = setmetatable({ keep = o.keep, resuming = resume ~= nil and resume ~= false,
    rank = native.ranks().rank }, Run)
  if self.rank > 0 then return follow(self) end
  if self.resuming then
    self.dir, self.from = place.resumed(wanted, resume)
    place.reopen(self.dir)
  else
    self.dir = place.new(wanted)
    self.params = run_params.describe(self.dir)
  end
  open_journal(self)
  self.wants_events = o.tensorboard
  update_index(self)
  together.of_first("run directory", json.encode { dir = self.dir, from = self.from })
  return self
end

--- Starts a run directory, or reopens one under --resume.
--- @return Run the run
--- @throws when --resume finds no run, or another program writes into it
--- @example assert(qlora.run({ dir = "runs/a" }).dir == "runs/a")
return setmetatable(run, { __call = function(_, options) return run.new(options) end })
