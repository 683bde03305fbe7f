--- Plots in a terminal: curves from braille dots, a sparkline, heat maps and histograms (plot_grid.lua). They are as
--- wide as the terminal, and plain ASCII where the locale or TERM asks for it.
local grid = require "qlora.plot_grid"
local screen = require "qlora.screen"
local strict = require "qlora.strict"

local plot = { heatmap = grid.heatmap, histogram = grid.histogram }

local function finite(values)
  local low, high = math.huge, -math.huge
  for _, value in ipairs(values) do
    if value == value and value ~= math.huge and value ~= -math.huge then
      low, high = math.min(low, value), math.max(high, value)
    end
  end
  return low, high
end

--- `values` as floats, whose differences do not wrap around; all are numbers, NaN too.
local function numbers(name, values)
  if type(values) ~= "table" then strict.fail("%s: expected a list of numbers, got %s", name, strict.show(values)) end
  local floats = {}
  for i, value in ipairs(values) do
    if type(value) ~= "number" then
      strict.fail("%s: value %d is %s, expected a number", name, i, strict.show(value))
    end
    floats[i] = value + 0.0
  end
  return floats
end

--- Mean of the values that fall into each of `width` equal stretches.
local function resample(values, width)
  if #values <= width then return values end
  local out = {}
  for i = 1, width do
    local from, to = (i - 1) * #values // width + 1, i * #values // width
    local sum = 0.0
    for j = from, to do sum = sum + values[j] end
    out[i] = sum / (to - from + 1)
  end
  return out
end

--- A list of numbers as one line of block characters.
--- @param values number[] the numbers
--- @param width? integer most characters; 40 when left out
--- @return string the line
--- @example assert(qlora.plot.sparkline({ 1, 2, 3 }) == "▁▅█")
function plot.sparkline(values, width)
  if width ~= nil and not strict.is_count(width) then
    strict.fail("plot.sparkline: width must be a whole number of at least 1, got %s", strict.show(width))
  end
  values = resample(numbers("plot.sparkline", values), width or 40)
  local low, high = finite(values)
  local parts, bars = {}, screen.glyphs().levels
  for i, value in ipairs(values) do
    local level = 1
    if value ~= value or value == math.huge then level = #bars
    elseif high > low then level = 1 + math.floor((value - low) / (high - low) * (#bars - 1) + 0.5) end
    parts[i] = bars[level]
  end
  return table.concat(parts)
end

-- Braille: bit of the dot in column 0 or 1, row 0 (top) to 3.
local dots = { [0] = { [0] = 0x01, 0x02, 0x04, 0x40 }, { [0] = 0x08, 0x10, 0x20, 0x80 } }

local function number(value)
  return math.abs(value) >= 100 and ("%.0f"):format(value) or ("%.3g"):format(value)
end

local size = {
  width = { "count", "characters across", initial = "what the terminal has room for; 60 in a file or pipe",
    at_most = 1000 },
  height = { "count", "lines of characters", default = 10, at_most = 1000 },
  title = { "string", "line above the plot; default none" },
}
local lines_schema = strict.declare("qlora.plot.lines", size, {
  from = { "number", "label of the first value; default 1" },
  to = { "number", "label of the last value; default their number" },
})
local curves_schema = strict.declare("qlora.plot.curves", size)
strict.declare("qlora.plot.loss", lines_schema)

-- Columns before a curve: its label and the axis.
local margin = 11

--- The characters across that the options ask for, or that there is room for.
local function across(o) return o.width or math.max(10, math.min(1000, screen.columns(60 + margin) - margin)) end

--- The frame under a plot: the axis and the labels of its ends.
local function floor_of(lines, glyphs, width, left, right)
  lines[#lines + 1] = (" "):rep(margin - 1) .. glyphs.corner .. glyphs.rule:rep(width)
  lines[#lines + 1] = (" "):rep(margin) .. left .. (" "):rep(math.max(1, width - #left - #right)) .. right
end

--- Marks the dots of a straight line from the point `from` to x, y, without gaps where it is steep.
local function join(from, x, y, mark)
  local last = math.floor(from[2] + 0.5)
  for column = from[1], x do
    local share = x == from[1] and 1 or (column - from[1]) / (x - from[1])
    local row = math.floor(from[2] + (y - from[2]) * share + 0.5)
    local way = row > last and 1 or row < last and -1 or 0
    for between = last + way, row, way == 0 and 1 or way do mark(column, between) end
    last = row
  end
end

--- A curve of evenly spaced values.
--- @param values number[] the values
--- @return string the plot
--- @example print(qlora.plot.lines({ 3, 2, 1.5, 1.2 }, { title = "loss", height = 4 }))
function plot.lines(values, options)
  local o = strict.options("plot.lines", options, lines_schema)
  local width, height, glyphs = across(o), o.height, screen.glyphs()
  values = numbers("plot.lines", values)
  local low, high = finite(values)
  if low > high then return (o.title or "") .. " (nothing to plot)" end
  if low == high then low, high = low - 0.5, high + 0.5 end
  local cells, columns, rows = {}, width * 2, height * 4
  local function dot(x, y)
    local key = (y // 4) * width + x // 2
    cells[key] = (cells[key] or 0) | dots[x % 2][y % 4]
  end
  local points = resample(values, columns)
  local before
  for i, value in ipairs(points) do
    local x = #points == 1 and 0 or (i - 1) * (columns - 1) // (#points - 1)
    if value == value and value >= low and value <= high then
      local y = math.floor((high - value) / (high - low) * (rows - 1) + 0.5)
      join(before or { x, y }, x, y, dot)
      before = { x, y }
    else
      before = nil
    end
  end
  local lines = { o.title }
  for row = 0, height - 1 do
    local parts = {}
    for column = 0, width - 1 do parts[#parts + 1] = glyphs.cell(cells[row * width + column] or 0) end
    local label = row == 0 and number(high) or row == height - 1 and number(low) or ""
    lines[#lines + 1] = ("%9s %s%s"):format(label, glyphs.tick, table.concat(parts))
  end
  floor_of(lines, glyphs, width, number(o.from or 1), number(o.to or #values))
  return table.concat(lines, "\n")
end

--- Lowest and highest of several lists of { x, y } points: x low, x high, y low, y high.
local function extent(curves)
  local x0, x1, values = math.huge, -math.huge, {}
  for _, curve in ipairs(curves) do
    for i, point in ipairs(curve.points) do
      if not (strict.is_finite(point[1]) and type(point[2]) == "number") then
        strict.fail("plot.curves: point %d of %s is { %s, %s }, expected { x, y } with a finite x", i, curve.name,
          strict.show(point[1]), strict.show(point[2]))
      end
      x0, x1 = math.min(x0, point[1] + 0.0), math.max(x1, point[1] + 0.0)
      values[#values + 1] = point[2] + 0.0
    end
  end
  local low, high = finite(values)
  return x0, math.max(x1, x0 + 1), low, high
end

--- Several curves over one another, each in a colour on a terminal and as a letter elsewhere. Values that span orders
--- of magnitude get a logarithmic axis.
--- @param curves table[] { name =, points = { { x, y }, … } } of each curve
--- @return string the plot
--- @example
--- local a, b = { { 1, 3 }, { 2, 1 } }, { { 1, 2 }, { 2, 2 } }
--- print(qlora.plot.curves { { name = "a", points = a }, { name = "b", points = b } })
function plot.curves(curves, options)
  local o = strict.options("plot.curves", options, curves_schema)
  local width, height, coloured, glyphs = across(o), o.height, grid.has_colour(), screen.glyphs()
  local x0, x1, low, high = extent(curves)
  if low > high then return (o.title or "") .. " (nothing to plot)" end
  if low == high then low, high = low - 0.5, high + 0.5 end
  local logarithmic = low > 0 and high / low > 30
  local function height_of(y)
    if logarithmic then return math.log(high / y) / math.log(high / low) end
    return (high - y) / (high - low)
  end
  local cells, owner = {}, {}
  local columns, rows = width * 2 - 1, height * 4 - 1
  for which, curve in ipairs(curves) do
    local before
    for _, point in ipairs(curve.points) do
      if point[2] >= low and point[2] <= high then
        local x = math.floor((point[1] - x0) / (x1 - x0) * columns + 0.5)
        local y = height_of(point[2]) * rows
        join(before or { x, y }, x, y, function(cx, cy)
          local key = (cy // 4) * width + cx // 2
          cells[key], owner[key] = (cells[key] or 0) | dots[cx % 2][cy % 4], which
        end)
        before = { x, y }
      else
        before = nil
      end
    end
  end
  local lines = { o.title and o.title .. (logarithmic and " (logarithmic)" or "") }
  for row = 0, height - 1 do
    local parts = {}
    for column = 0, width - 1 do
      local key = row * width + column
      local which = owner[key]
      parts[#parts + 1] = not which and " " or coloured and grid.paint(glyphs.cell(cells[key]), which)
        or string.char(96 + (which - 1) % 26 + 1)
    end
    local label = row == 0 and number(high) or row == height - 1 and number(low) or ""
    lines[#lines + 1] = ("%9s %s%s"):format(label, glyphs.tick, (table.concat(parts):gsub(" +$", "")))
  end
  floor_of(lines, glyphs, width, number(x0), number(x1))
  for i, curve in ipairs(curves) do
    local key = coloured and grid.paint(glyphs.thick:rep(2), i) or string.char(96 + (i - 1) % 26 + 1)
    lines[#lines + 1] = (" "):rep(margin) .. key .. " " .. curve.name
  end
  return table.concat(lines, "\n")
end

--- Prints the loss curve of a run.
--- @param what Training|number[] what qlora.train returned, or a list of numbers
--- @example qlora.plot.loss { 3, 2, 1.5, 1.2 }
function plot.loss(what, options)
  local values = {}
  for i, entry in ipairs(what.history or what) do values[i] = type(entry) == "table" and entry.loss or entry end
  local o = { title = "loss" }
  for key, value in pairs(options or {}) do o[key] = value end
  print(plot.lines(values, o))
end

return strict.namespace("qlora.plot", plot)
