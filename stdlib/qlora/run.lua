--- Run directories: everything needed to know, repeat and continue a run.
---   recipe.lua  params.json  journal.jsonl  events.out.tfevents.*  checkpoint-000250/  summary.json  report.html
--- The directory that holds them has an index, runs.sqlite (see qlora.runs).
local native = require "qlora.native"
local json = require "qlora.json"
local params = require "qlora.params"
local report = require "qlora.report"
local runs = require "qlora.runs"
local strict = require "qlora.strict"
local tensorboard = require "qlora.tensorboard"

local Run = strict.class("Run", { __name = "run" }, {
  doc = "A run directory: recipe.lua, params.json, journal.jsonl, events.out.tfevents.*, checkpoint-000250, "
    .. "summary.json and report.html.", receiver = "run",
  fields = { { "dir", "string", "the directory" }, { "keep", "integer", "checkpoints that are kept" },
    { "resuming", "boolean", "whether it was opened by --resume" } },
})
Run.__index = Run

local run = {}

--- "runs/guanaco" for recipes/guanaco.lua.
local function default_dir()
  local script = native.options.script or "session"
  return "runs/" .. (script:match("([^/]+)%.lua$") or script:match("[^/]+$"))
end

--- The numbers of the checkpoints in `dir`, ascending. A checkpoint directory is complete or absent.
local function checkpoints(dir)
  local numbers = {}
  for _, name in ipairs(native.list_dir(dir)) do
    local digits = name:match("^checkpoint%-(%d+)$")
    if digits then numbers[#numbers + 1] = tonumber(digits) end
  end
  table.sort(numbers)
  return numbers
end

--- A run never writes over an earlier one: the first of dir, dir-2, dir-3 … that is free, or the last that exists when
--- resuming.
local function place(dir, resume)
  if type(resume) == "string" then
    if not native.exists(resume) then error(("--resume %s: no such directory"):format(resume), 0) end
    return resume
  end
  local last, number, candidate = nil, 1, dir
  while native.exists(candidate) do
    last, number = candidate, number + 1
    candidate = dir .. "-" .. number
  end
  if not resume then return candidate end
  if not last then error(("--resume: there is no run in %s"):format(dir), 0) end
  return last
end

--- A run that goes on is not finished, and what it appends starts on a line of its own.
local function reopen(self)
  local summary, path = self.dir .. "/summary.json", self.dir .. "/journal.jsonl"
  if native.exists(summary) then native.remove_tree(summary) end
  local file = io.open(path, "r+b")
  if not file then return end
  if file:seek "end" > 0 then
    file:seek("end", -1)
    if file:read(1) ~= "\n" then
      file:seek "end"
      file:write "\n"
    end
  end
  file:close()
end

--- Brings the index up to date; a run never stops because of it.
local function update_index(self)
  local ok, message = runs.record(self.dir)
  if not ok then
    io.stderr:write(("qlora.run: not in the index now: %s; qlora.runs adds it from its directory\n"):format(message))
  end
end

--- Writes the recipe's source and the resolved parameters.
local function describe(self)
  local script = native.options.script
  local file = script and io.open(script, "rb")
  if file then
    native.write_file(self.dir .. "/recipe.lua", file:read("a"))
    file:close()
  end
  self.params = {
    params = params.resolved or {}, version = native.version, seed = native.options.seed, recipe = script,
    command = arg and table.concat(arg, " ", math.min(0, #arg)) or nil, started = os.date("!%Y-%m-%dT%H:%M:%SZ"),
  }
  native.write_file(self.dir .. "/params.json", json.encode(self.params) .. "\n")
end

--- Adds what a training loop runs with, so that reports and the index know it without the recipe's help.
--- @param settings table values by name
--- @example qlora.run({ dir = "runs/a" }):settings { rank = 8 }
function Run:settings(settings)
  if not self.params then return end -- resumed: the first session wrote them
  self.params.settings = settings
  native.write_file(self.dir .. "/params.json", json.encode(self.params) .. "\n")
  update_index(self)
end

--- Appends a line to the journal; numbers of a step also go to TensorBoard.
--- @param entry table values by name, with `step` for those of a step
--- @throws when the disk is full
--- @example qlora.run({ dir = "runs/a" }):log { step = 1, loss = 3.5 }
function Run:log(entry)
  local ok, message = self.journal:write(json.encode(entry), "\n")
  if ok then ok, message = self.journal:flush() end
  if not ok then
    error(("cannot write %s/journal.jsonl: %s; free space and go on with --resume %s"):format(self.dir,
      message:gsub("^[^:]*: ", ""), self.dir), 0)
  end
  if self.wants_events and not self.events then self.events = tensorboard.open(self.dir, self.resumed_at) end
  if self.events and math.tointeger(entry.step) and entry.step >= 0 then
    local scalars = {}
    for key, value in pairs(entry) do
      if key ~= "step" and type(value) == "number" then scalars[key] = value + 0.0 end
    end
    if next(scalars) then self.events:add(entry.step, scalars) end
  end
end

--- Saves a checkpoint, complete or not at all, and removes the oldest beyond `keep`.
--- @param model Model its trained parameters
--- @param optimizer Optimizer its state
--- @param state table what the loop needs to go on, with `step`
--- @return string the directory of the checkpoint
--- @throws when the disk is full; the checkpoints before it stay whole
--- @example
--- local run = qlora.run { dir = "runs/a" }
--- assert(run:checkpoint(model, optimizer, { step = 1 }) == "runs/a/checkpoint-000001")
function Run:checkpoint(model, optimizer, state)
  local dir = ("%s/checkpoint-%06d"):format(self.dir, state.step)
  if not native.exists(dir) then
    local ok, message = pcall(native.save_checkpoint, dir, { model = model, optimizer = optimizer, state = state })
    if not ok then
      error(("%s (the checkpoint of step %d is not written, those before it are whole; go on with --resume %s)"):format(
        message, state.step, self.dir), 0)
    end
  end
  local numbers = checkpoints(self.dir)
  for i = 1, #numbers - self.keep do
    native.remove_tree(("%s/checkpoint-%06d"):format(self.dir, numbers[i]))
  end
  return dir
end

--- Loads the latest checkpoint under --resume.
--- @param model Model a model with the same adapters
--- @param optimizer Optimizer an optimizer of the same kind
--- @return table|nil the loop's state; nil without --resume
--- @throws when the directory holds no complete checkpoint
--- @example assert(qlora.run({ dir = "runs/a" }):restore(model, optimizer) == nil)
function Run:restore(model, optimizer)
  if not self.resuming then return nil end
  local numbers = checkpoints(self.dir)
  if #numbers == 0 then error(("--resume: %s holds no complete checkpoint"):format(self.dir), 0) end
  local dir = ("%s/checkpoint-%06d"):format(self.dir, numbers[#numbers])
  local state = native.load_checkpoint(dir, model, optimizer)
  self.resumed_at = state.step
  self:log { resumed_from = dir, at = state.step }
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
  self.journal:close()
  if self.events then self.events.file:close() end
  native.write_file(self.dir .. "/summary.json", json.encode {
    finished = os.date("!%Y-%m-%dT%H:%M:%SZ"), steps = result.steps, tokens = result.tokens, seconds = result.seconds,
    tokens_per_second = result.tokens_per_second, peak_memory = result.peak_memory,
    first_loss = result.first_loss, last_loss = result.last_loss,
  } .. "\n")
  report.write(self.dir)
  update_index(self)
end

local schema = strict.declare("qlora.run", {
  dir = { "string", "the directory; default runs/RECIPE. A taken name gets -2, -3, …" },
  keep = { "count", "checkpoints that are kept", default = 3 },
  tensorboard = { "boolean", "write TensorBoard event files", default = true },
})
strict.declare("qlora.run.new", schema)

--- Starts a run directory, or reopens one under --resume.
--- @return Run the run
--- @throws when --resume finds no run
--- @example assert(qlora.run.new({ dir = "runs/a" }).dir == "runs/a")
function run.new(options)
  local o = strict.options("qlora.run", options, schema)
  local wanted, resume = o.dir or default_dir(), native.options.resume
  if native.options.smoke then wanted, resume = wanted .. "-smoke", nil end
  local self = setmetatable({ keep = o.keep, resuming = resume ~= nil and resume ~= false }, Run)
  self.dir = place(wanted, self.resuming and resume or nil)
  native.mkdir(self.dir)
  if self.resuming then reopen(self) else describe(self) end
  self.journal = assert(io.open(self.dir .. "/journal.jsonl", "a"))
  self.wants_events = o.tensorboard
  update_index(self)
  return self
end

--- Starts a run directory, or reopens one under --resume.
--- @return Run the run
--- @throws when --resume finds no run
--- @example assert(qlora.run({ dir = "runs/a" }).dir == "runs/a")
return setmetatable(run, { __call = function(_, options) return run.new(options) end })
