--- Reads what a run directory tells: parameters, journal, summary, recipe. A run that was killed at any moment reads as
--- far as it came: a half-written line is skipped and counted. What is whole and of a wrong type is an error that names
--- file and line.
local native = require "qlora.native"
local json = require "qlora.json"
local json_file = require "qlora.json_file"
local run_params = require "qlora.run_params"

-- What lists and pages show of every run, as columns.
local journal = { results = { "name", "status", "step", "loss", "eval_loss", "tokens_per_second", "peak_memory" } }

local function text_of(path)
  local file <close> = io.open(path, "rb")
  return file and file:read "a"
end

local kinds = {
  summary = { finished = "string", steps = "number", tokens = "number", seconds = "number", peak_memory = "number",
    tokens_per_second = "number", first_loss = "number", last_loss = "number" },
  entry = { step = "number", loss = "number", lr = "number", norm = "number", tokens = "number", seconds = "number",
    memory = "number", eval_loss = "number", perplexity = "number", spill_written = "number", spill_read = "number",
    adapter_norms = "table of numbers", samples = "list", resumed_from = "string", at = "number" },
  sample = { prompt = "string", text = "string" },
}

--- Checks a line of the journal, which is read or written at `place`.
function journal.check_entry(place, entry)
  json_file.check(place, entry, kinds.entry)
  for _, sample in ipairs(entry.samples or {}) do json_file.check(place .. ": samples", sample, kinds.sample) end
  return entry
end

-- Fields of a step that have a place of their own in reports; any other number that a loop logs gets a curve too.
local known = { step = true, loss = true, lr = true, norm = true, tokens = true, seconds = true, memory = true,
  eval_loss = true, perplexity = true, spill_written = true, spill_read = true }

local function last_of(list, key)
  for i = #list, 1, -1 do
    if list[i][key] then return list[i][key] end
  end
  return nil
end

--- Drops what came after step `at`: a resumed run repeats those steps.
local function rewind(record, at)
  for _, list in ipairs { record.steps, record.evaluations, record.norms, record.samples } do
    for i = #list, 1, -1 do
      if list[i].step > at then table.remove(list, i) end
    end
  end
  for _, points in pairs(record.extra) do
    for i = #points, 1, -1 do
      if points[i][1] > at then table.remove(points, i) end
    end
  end
end

local function take(record, entry)
  if entry.resumed_from then
    record.resumed[#record.resumed + 1] = entry.at
    return rewind(record, entry.at or math.huge)
  end
  if not math.tointeger(entry.step) then return end
  if entry.loss or entry.lr then record.steps[#record.steps + 1] = entry end
  if entry.eval_loss then record.evaluations[#record.evaluations + 1] = entry end
  if entry.adapter_norms then record.norms[#record.norms + 1] = entry end
  for _, sample in ipairs(entry.samples or {}) do
    record.samples[#record.samples + 1] = { step = entry.step, prompt = sample.prompt, text = sample.text }
  end
  for key, value in pairs(entry) do
    if not known[key] and type(value) == "number" then
      record.extra[key] = record.extra[key] or {}
      table.insert(record.extra[key], { entry.step, value })
    end
  end
end

--- A run as { dir, name, params, settings, started, recipe, steps, evaluations, norms, samples, extra, resumed,
--- summary, finished, broken }. Raises when `dir` is no run directory, or a file in it has another form.
function journal.read(dir)
  dir = dir:gsub("(.)/+$", "%1")
  local description = run_params.read(dir)
  local record = {
    dir = dir, name = dir:match("[^/]+$"), params = description.params or {}, settings = description.settings or {},
    started = description.started, script = description.recipe, version = description.version,
    seed = description.seed, command = description.command, recipe = text_of(dir .. "/recipe.lua"),
    steps = {}, evaluations = {}, norms = {}, samples = {}, extra = {}, resumed = {}, broken = 0,
    summary = json_file.read(dir .. "/summary.json", kinds.summary) or {},
    finished = native.exists(dir .. "/summary.json"),
  }
  local path, number = dir .. "/journal.jsonl", 0
  for line in (text_of(path) or ""):gmatch("([^\n]*)\n?") do
    number = number + 1
    local ok, entry = pcall(json.decode, line)
    if ok then
      take(record, journal.check_entry(("%s: line %d"):format(path, number), entry))
    elseif line:find "%S" then
      record.broken = record.broken + 1
    end
  end
  return record
end

--- Tokens and seconds of all sessions of a run, their rate, and the most memory:
--- { tokens, seconds, tokens_per_second, peak_memory }.
--- `seconds` starts anew when a run is resumed, so it is summed piece by piece.
function journal.totals(record)
  local tokens, seconds, before, memory = 0, 0.0, 0.0, nil
  for _, entry in ipairs(record.steps) do
    tokens = tokens + (entry.tokens or 0)
    local now = entry.seconds or before
    seconds = seconds + (now >= before and now - before or now)
    before = now
    if entry.memory then memory = math.max(memory or 0, entry.memory) end
  end
  return { tokens = tokens, seconds = seconds, tokens_per_second = seconds > 0 and tokens / seconds or nil,
    peak_memory = record.summary.peak_memory or memory }
end

--- Bytes written to and read from spill files by all steps, or nil.
function journal.spilled(record)
  local written, read
  for _, entry in ipairs(record.steps) do
    if entry.spill_written then
      written, read = (written or 0) + entry.spill_written, (read or 0) + (entry.spill_read or 0)
    end
  end
  return written and { written = written, read = read }
end

--- One flat table of a run: its results, its settings and its parameters, as the index and comparisons use it.
function journal.row(record)
  local totals, steps = journal.totals(record), record.steps
  local row = {}
  for _, source in ipairs { record.settings, record.params } do
    for key, value in pairs(source) do row[key] = type(value) == "table" and json.encode(value) or value end
  end
  row.name, row.started, row.status = record.name, record.started, record.finished and "finished" or "unfinished"
  row.recipe, row.step = record.script, steps[#steps] and steps[#steps].step or 0
  row.first_loss, row.loss = steps[1] and steps[1].loss, last_of(steps, "loss")
  row.eval_loss, row.perplexity = last_of(record.evaluations, "eval_loss"), last_of(record.evaluations, "perplexity")
  row.params = json.encode(record.params)
  for key, value in pairs(totals) do row[key] = value end
  return row
end

return journal
