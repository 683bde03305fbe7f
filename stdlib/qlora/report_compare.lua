--- Several runs in one page, and in the terminal: their curves over one another, what they have reached and the
--- settings in which they differ.
local native = require "qlora.native"
local charts = require "qlora.report_charts"
local format = require "qlora.format"
local journal = require "qlora.run_journal"
local page = require "qlora.report_page"
local plot = require "qlora.plot"
local report = require "qlora.report"
local runs = require "qlora.runs"

local compare = {}

--- Reads run directories; each gets its row of results and settings. Runs of one name are told apart by directory.
--- @param dirs string[] the directories
--- @return table[] what each holds
function compare.read(dirs)
  local records, count = {}, {}
  for i, dir in ipairs(dirs) do
    records[i] = journal.read(dir)
    count[records[i].name] = (count[records[i].name] or 0) + 1
  end
  for _, record in ipairs(records) do
    if count[record.name] > 1 then record.name = record.dir end
    record.row = journal.row(record)
  end
  return records
end

local function rows_of(records)
  local rows = {}
  for i, record in ipairs(records) do rows[i] = record.row end
  return rows
end

local function columns_of(rows)
  local keys = { table.unpack(journal.results) }
  for _, key in ipairs(runs.differences(rows, 12)) do keys[#keys + 1] = key end
  return keys
end

--- One line per run: { name =, points = } from `points_of(record)`; a run without points is left out, and the others
--- keep their colours.
local function series(records, points_of, thin)
  local list = {}
  for i, record in ipairs(records) do
    local points = points_of(record)
    local class = "s" .. (i - 1) % 8 + 1
    if #points > 0 then list[#list + 1] = { name = record.name, points = points, class = class, dots = thin } end
  end
  return list
end

local function losses(record)
  local raw = report.points(record.steps, "loss")
  return #raw > 20 and charts.averaged(raw) or raw
end

--- The page for records of `compare.read`.
--- @param records table[] of compare.read
--- @return string the HTML
function compare.html(records)
  local rows = rows_of(records)
  local keys = columns_of(rows)
  local cells = {}
  for i, row in ipairs(rows) do
    cells[i] = {}
    for c, key in ipairs(keys) do
      local value = row[key]
      cells[i][c] = key == "peak_memory" and value and format.bytes(value)
        or math.type(value) == "float" and (math.abs(value) >= 1000 and "%.0f" or "%.5g"):format(value) or value
    end
  end
  local function chart(title, points_of, o)
    local list = series(records, points_of, o and o.dots)
    return page.figure(title, #list > 0 and charts.lines(list, o) or '<p class="none">nothing recorded</p>')
  end
  local legend = {}
  for i, record in ipairs(records) do legend[i] = { name = record.name, class = "s" .. (i - 1) % 8 + 1 } end
  local parts = { ("<h1>%d runs</h1>"):format(#records), page.table(keys, cells), "<h2>Curves</h2>",
    charts.legend(legend),
    page.wide(function(width, height)
      return chart("Loss (moving average)", losses, { width = width, height = height })
    end),
    page.pair {
      chart("Evaluation loss", function(r) return report.points(r.evaluations, "eval_loss") end, { dots = true }),
      chart("Gradient norm", function(r) return report.points(r.steps, "norm") end),
      chart("Learning rate", function(r) return report.points(r.steps, "lr") end, { zero = true }),
      chart("Tokens per second", function(r) return report.rates(r.steps) end,
        { zero = true, show = format.thousands }),
      chart("Memory (MiB)", function(r)
        local points = {}
        for i, point in ipairs(report.points(r.steps, "memory")) do points[i] = { point[1], point[2] / 2 ^ 20 } end
        return points
      end, { zero = true }),
    } }
  return page.document(("%d runs"):format(#records), table.concat(parts, "\n"))
end

--- The same for a terminal: the table, a sparkline each, and the losses over one another.
--- @param records table[] of compare.read
--- @param width integer columns
--- @return string the text
function compare.text(records, width)
  local rows = rows_of(records)
  local parts, longest, curves = { runs.columns(rows, columns_of(rows)), "" }, 0, {}
  for _, record in ipairs(records) do longest = math.max(longest, utf8.len(record.name) or #record.name) end
  for i, record in ipairs(records) do
    local values = {}
    for j, point in ipairs(losses(record)) do values[j] = point[2] end
    curves[i] = { name = record.name, points = losses(record) }
    parts[#parts + 1] = record.name .. (" "):rep(longest - (utf8.len(record.name) or #record.name)) .. "  "
      .. plot.sparkline(values, math.max(8, math.min(50, width - longest - 2)))
  end
  parts[#parts + 1] = ""
  parts[#parts + 1] = plot.curves(curves,
    { width = math.max(20, math.min(100, width) - 14), height = 12, title = "loss" })
  return table.concat(parts, "\n")
end

--- Writes the page.
--- @param records table[] of compare.read
--- @param path string the file
--- @return string where it lies
function compare.write(records, path)
  native.write_file(path, compare.html(records))
  return native.place_to_read(path)
end

return compare
