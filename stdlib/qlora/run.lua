--- Run directories: everything needed to know, repeat and continue a run.
---   recipe.lua  params.json  journal.jsonl  events.out.tfevents.*  checkpoint-000250/  report.html
local native = require "qlora.native"
local json = require "qlora.json"
local params = require "qlora.params"
local report = require "qlora.report"
local strict = require "qlora.strict"
local tensorboard = require "qlora.tensorboard"

local Run = { __name = "run" }
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

--- Starts (or, under --resume, reopens) a run directory. Options: dir, keep (checkpoints kept, default 3), tensorboard
--- (default true).
function run.new(options)
  local o = strict.options("qlora.run", options, { dir = "string", keep = "count", tensorboard = "boolean" })
  local wanted, resume = o.dir or default_dir(), native.options.resume
  if native.options.smoke then wanted, resume = wanted .. "-smoke", nil end
  local self = setmetatable({ keep = o.keep or 3, resuming = resume ~= nil and resume ~= false }, Run)
  self.dir = place(wanted, self.resuming and resume or nil)
  native.mkdir(self.dir)
  if not self.resuming then self:describe() end
  self.journal = assert(io.open(self.dir .. "/journal.jsonl", "a"))
  if o.tensorboard ~= false then self.events = tensorboard.open(self.dir) end
  return self
end

--- Writes the recipe's source and the resolved parameters.
function Run:describe()
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

--- Appends a line to the journal, at once on disk as far as Lua can tell; numbers of a step also go to TensorBoard.
function Run:log(entry)
  self.journal:write(json.encode(entry), "\n")
  self.journal:flush()
  if self.events and entry.step then
    local scalars = {}
    for key, value in pairs(entry) do
      if key ~= "step" and type(value) == "number" then scalars[key] = value + 0.0 end
    end
    if next(scalars) then self.events:add(entry.step, scalars) end
  end
end

--- Saves model, optimizer and `state` as checkpoint-STEP and removes the oldest beyond `keep`. Returns the directory.
function Run:checkpoint(model, optimizer, state)
  local dir = ("%s/checkpoint-%06d"):format(self.dir, state.step)
  if not native.exists(dir) then
    native.save_checkpoint(dir, { model = model, optimizer = optimizer, state = state })
  end
  local numbers = checkpoints(self.dir)
  for i = 1, #numbers - self.keep do
    native.remove_tree(("%s/checkpoint-%06d"):format(self.dir, numbers[i]))
  end
  return dir
end

--- Under --resume: loads the latest checkpoint into model and optimizer and returns its state; otherwise nil.
function Run:restore(model, optimizer)
  if not self.resuming then return nil end
  local numbers = checkpoints(self.dir)
  if #numbers == 0 then error(("--resume: %s holds no complete checkpoint"):format(self.dir), 0) end
  local dir = ("%s/checkpoint-%06d"):format(self.dir, numbers[#numbers])
  local state = native.load_checkpoint(dir, model, optimizer)
  self:log { resumed_from = dir, at = state.step }
  return state
end

--- Writes report.html and closes the files. `result` is what `qlora.train` returns.
function Run:finish(result)
  native.write_file(self.dir .. "/report.html", report.html(self, result))
  self.journal:close()
  if self.events then self.events.file:close() end
end

return setmetatable(run, { __call = function(_, options) return run.new(options) end })
