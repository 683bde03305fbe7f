--- report.html of a run: its curves, adapter norms by layer, samples, recipe and parameters. It is drawn from the run
--- directory, so a run that is going on or was killed has one too: `qlora.report "runs/guanaco"`.
local native = require "qlora.native"
local charts = require "qlora.report_charts"
local distance = require "qlora.report_distance"
local format = require "qlora.format"
local journal = require "qlora.run_journal"
local json = require "qlora.json"
local norm_maps = require "qlora.report_norms"
local page = require "qlora.report_page"
local strict = require "qlora.strict"

local report = {}
local escape = charts.escape

--- The values of a journal as points.
--- @param entries table[] lines of a journal
--- @param key string which value, such as "loss"
--- @return number[][] { step, value } where the value is a number
--- @example assert(qlora.report.points({ { step = 1, loss = 3.5 } }, "loss")[1][2] == 3.5)
function report.points(entries, key)
  local points = {}
  for _, entry in ipairs(entries) do
    if type(entry[key]) == "number" then points[#points + 1] = { entry.step, entry[key] } end
  end
  return points
end

--- Tokens per second of each step; the clock starts anew in each session.
--- @param entries table[] lines of a journal with seconds and tokens
--- @return number[][] { step, rate } of each step
--- @example assert(qlora.report.rates({ { step = 1, seconds = 2.0, tokens = 10 } })[1][2] == 5)
function report.rates(entries)
  local points, before = {}, 0.0
  for _, entry in ipairs(entries) do
    local now = entry.seconds or before
    local spent = now >= before and now - before or now
    if spent > 0 and entry.tokens then points[#points + 1] = { entry.step, entry.tokens / spent } end
    before = now
  end
  return points
end

local rate_text = format.thousands

--- Points in bytes as points in the unit that suits the largest.
--- @param points number[][] { step, bytes } of each step
--- @return number[][], string the points in that unit, and its name
--- @example assert(select(2, qlora.report.in_units { { 1, 3 << 20 } }) == "MiB")
function report.in_units(points)
  local high, units, power = 0, { "bytes", "KiB", "MiB", "GiB", "TiB" }, 1
  for _, point in ipairs(points) do high = math.max(high, point[2]) end
  while high >= 1024 and power < #units do high, power = high / 1024, power + 1 end
  local scaled = {}
  for i, point in ipairs(points) do scaled[i] = { point[1], point[2] / 1024.0 ^ (power - 1) } end
  return scaled, units[power]
end

--- The loss of each step, faint, under its moving average, and the evaluations as dots.
local function loss_series(record)
  local raw = report.points(record.steps, "loss")
  local series = { { name = "loss of each step", points = raw, class = "s1 faint" } }
  if #raw > 20 then
    series[2] = { name = "moving average", points = charts.averaged(raw), class = "s1" }
  else
    series[1].class = "s1"
  end
  if #record.evaluations > 0 then
    series[#series + 1] = { name = "evaluation", points = report.points(record.evaluations, "eval_loss"), class = "s2",
      dots = true }
  end
  return series
end

--- What each step wrote to the spill files and read from them.
local function spill_figure(record)
  local written, unit = report.in_units(report.points(record.steps, "spill_written"))
  local read = report.points(record.steps, "spill_read")
  local power = ({ bytes = 0, KiB = 1, MiB = 2, GiB = 3, TiB = 4 })[unit]
  for _, point in ipairs(read) do point[2] = point[2] / 1024.0 ^ power end
  local series = { { name = "written", points = written }, { name = "read", points = read } }
  return page.figure(("Spill file, each step (%s)"):format(unit), charts.legend(series)
    .. charts.lines(series, { zero = true }))
end

local function summary(record)
  local totals, steps = journal.totals(record), record.steps
  local tiles = { { "steps", format.thousands(steps[#steps] and steps[#steps].step or 0) } }
  local function add(name, value, show) if value then tiles[#tiles + 1] = { name, show(value) } end end
  local function decimal(value) return ("%.4f"):format(value) end
  add("first loss", steps[1] and steps[1].loss, decimal)
  add("last loss", steps[#steps] and steps[#steps].loss, decimal)
  local last = record.evaluations[#record.evaluations]
  add("evaluation loss", last and last.eval_loss, decimal)
  add("tokens", totals.tokens, format.count)
  add("tokens/s", totals.tokens_per_second, rate_text)
  add("time", totals.seconds, format.seconds)
  add("peak memory", totals.peak_memory, format.bytes)
  local spilled = journal.spilled(record)
  add("written to the spill file", spilled and spilled.written, format.bytes)
  add("read from it", spilled and spilled.read, format.bytes)
  return page.tiles(tiles)
end

local function heading(record)
  local words = { record.script and "recipe " .. record.script, record.started and "started " .. record.started,
    record.version and "qlora " .. record.version }
  local parts = { "<h1>" .. escape(record.name) .. "</h1>" }
  local list = {}
  for i = 1, 3 do list[#list + 1] = words[i] end
  parts[#parts + 1] = '<p class="sub">' .. escape(table.concat(list, " · ")) .. "</p>"
  local function warn(text) parts[#parts + 1] = '<p class="warn">' .. escape(text) .. "</p>" end
  if not record.finished then warn "This run has not finished: it is still going on, or was stopped." end
  for _, at in ipairs(record.resumed) do warn(("Stopped and resumed after step %.14g."):format(at)) end
  if record.broken > 0 then warn(("%d line(s) of the journal could not be read."):format(record.broken)) end
  return table.concat(parts, "\n")
end

-- The page -----------------------------------------------------------------------------------------------------------

local function samples(record)
  local parts, step = {}, nil
  for _, sample in ipairs(record.samples) do
    if sample.step ~= step then
      step = sample.step
      parts[#parts + 1] = ("<h3>step %d</h3>"):format(step)
    end
    parts[#parts + 1] = ('<div class="sample"><em>%s</em>%s</div>'):format(escape(sample.prompt), escape(sample.text))
  end
  return table.concat(parts, "\n")
end

--- A value of a setting as text; counts of more than four digits with commas, which a seed is none of.
local function shown(value, key)
  if type(value) == "table" then return json.encode(value) end
  local is_count = math.type(value) == "integer" and key ~= "seed"
  if is_count and math.abs(value) >= 10000 then return format.thousands(value) end
  return math.type(value) == "float" and ("%.7g"):format(value) or tostring(value)
end

--- What decides the run: the parameters of its recipe, and what the training loop was given.
local function parameters(record)
  local parts = {}
  for _, group in ipairs { { "Of the recipe", record.params }, { "Of the run", record.settings } } do
    local rows = {}
    for _, key in ipairs(strict.sorted_keys(group[2])) do
      rows[#rows + 1] = { key, shown(group[2][key], key) }
    end
    if #rows > 0 then parts[#parts + 1] = page.figure(group[1], page.table(nil, rows)) end
  end
  local body = #parts > 0 and page.pair(parts) or '<p class="none">none recorded</p>'
  return body .. (record.command and '<h3 class="below">Command</h3><pre>' .. escape(record.command) .. "</pre>" or "")
end

--- The page of a run as text.
--- @param record table what qlora.run_journal reads from a run directory
--- @return string the HTML
--- @example
--- local run = qlora.run { dir = "runs/a" }
--- run:log { step = 1, loss = 3.5 }
--- assert(qlora.report.html(require("qlora.run_journal").read "runs/a"):find "<html")
function report.html(record)
  local series = loss_series(record)
  local parts = { heading(record), summary(record), "<h2>Loss</h2>", charts.legend(series),
    page.wide(function(width, height)
      return charts.lines(series, { width = width, height = height, label = "loss", hover = 1 })
    end), "<h2>Course</h2>" }
  local function figure(title, points, o)
    return page.figure(title, charts.lines({ { name = title, points = points } }, o))
  end
  local memory, unit = report.in_units(report.points(record.steps, "memory"))
  local course = {
    figure("Learning rate", report.points(record.steps, "lr"), { zero = true }),
    figure("Gradient norm", report.points(record.steps, "norm")),
    figure("Tokens per second", report.rates(record.steps), { zero = true, show = rate_text }),
    figure(("Memory (%s)"):format(unit), memory, { zero = true }),
  }
  if journal.spilled(record) then course[#course + 1] = spill_figure(record) end
  for _, key in ipairs(strict.sorted_keys(record.extra)) do course[#course + 1] = figure(key, record.extra[key]) end
  parts[#parts + 1] = page.pair(course)
  if #record.norms > 0 then
    parts[#parts + 1] = "<h2>Adapter norms</h2>"
      .. '<p class="note">Frobenius norm of what the adapters add to the weights.</p>' .. norm_maps(record)
  end
  parts[#parts + 1] = distance.html(record.comparisons or {})
  if #record.samples > 0 then parts[#parts + 1] = "<h2>Samples during training</h2>" .. samples(record) end
  parts[#parts + 1] = "<h2>Parameters</h2>" .. parameters(record)
  if record.recipe then parts[#parts + 1] = "<h2>Recipe</h2><pre>" .. escape(record.recipe) .. "</pre>" end
  return page.document(record.name, table.concat(parts, "\n"))
end

--- Draws report.html in a run directory from what the directory holds.
--- @param dir string the run directory
--- @return string the path of the page
--- @example
--- qlora.run({ dir = "runs/a" }):log { step = 1, loss = 3.5 }
--- assert(qlora.report.write "runs/a" == "runs/a/report.html")
function report.write(dir)
  local path = dir .. "/report.html"
  local record = journal.read(dir)
  record.comparisons = distance.read(dir)
  native.write_file(path, report.html(record))
  return path
end

--- Adds a picture to the report of a run: how far other forms of the trained model are from it, in KL per token, top-1
--- agreement and perplexity. A later call replaces it.
--- @param dir string the run directory
--- @param comparisons table what qlora.eval.compare gave for the trained model and each other form, by name; or what
---   qlora.merge gave
--- @return string the path of the page
--- @throws when the directory holds no run, or one of them is no comparison
--- @example
--- qlora.run({ dir = "runs/a" }):log { step = 1, loss = 3.5 }
--- qlora.report.comparison("runs/a", { base = qlora.eval.compare(model, "base", data, { limit = 1 }) })
--- assert(io.open("runs/a/report.html"):read("a"):find "Comparisons")
function report.comparison(dir, comparisons)
  if type(dir) ~= "string" then
    strict.fail("report.comparison: expected a run directory, got %s", strict.show(dir))
  end
  local ok, message = pcall(journal.read, dir)
  if not ok then
    strict.pass_on(message)
    strict.fail("report.comparison: %s", message)
  end
  distance.keep(dir, comparisons)
  return report.write(dir)
end

--- Draws report.html in a run directory from what the directory holds; a run that goes on or was killed has one too.
--- @param dir string the run directory
--- @return string the path of the page
--- @throws when the directory holds no run
--- @example
--- qlora.run({ dir = "runs/a" }):log { step = 1, loss = 3.5 }
--- assert(qlora.report "runs/a" == "runs/a/report.html")
return setmetatable(report, { __call = function(_, dir)
  if type(dir) ~= "string" then strict.fail("qlora.report: expected a run directory, got %s", type(dir)) end
  local ok, path = pcall(report.write, dir)
  if not ok then
    strict.pass_on(path)
    strict.fail("qlora.report: %s", path)
  end
  return path
end })
