--- Heat maps and histograms: printed in a terminal, or written as an SVG or PNG file.
local native = require "qlora.native"
local charts = require "qlora.report_charts"
local format = require "qlora.format"
local png = require "qlora.plot_png"
local screen = require "qlora.screen"
local strict = require "qlora.strict"

local grid = {}

-- From low to high: colours of terminals with 256; shades elsewhere.
local ramp = { 233, 17, 18, 19, 26, 32, 38, 44, 79, 115, 151, 187, 223, 230 }
-- Colours of several curves, as in reports: blue, orange, green, pink, violet, cyan, brown, grey.
local line_colours = { 33, 214, 78, 205, 141, 45, 180, 246 }

--- Whether colours reach a terminal that shows them.
function grid.has_colour()
  return native.isatty(1) and native.has_colours()
end

--- `text` in the colour of curve `number`.
function grid.paint(text, number)
  return ("\27[38;5;%dm%s\27[0m"):format(line_colours[(number - 1) % #line_colours + 1], text)
end

local function is_tensor(x) return type(x) == "userdata" and getmetatable(x) == "Tensor" end

--- Rows of numbers of at most `rows` x `columns` from a matrix (a tensor or a list of lists); larger ones are averaged.
local function matrix(name, x, rows, columns)
  if not is_tensor(x) then
    if type(x) ~= "table" or type(x[1]) ~= "table" then
      strict.fail("%s: expected a matrix (a tensor or a list of rows), got a %s", name, type(x))
    end
    x = native.tensor(x)
  end
  local shape = x:shape()
  if #shape ~= 2 then
    strict.fail("%s: expected a matrix, the tensor has %d dimension(s) [%s]; choose one with x[i]", name, #shape,
      table.concat(shape, ", "))
  end
  return x:pooled(math.min(rows, shape[1]), math.min(columns, shape[2])):totable(), shape
end

local function range(values, o)
  local low, high = math.huge, -math.huge
  for _, row in ipairs(values) do
    for _, value in ipairs(row) do
      if value == value and math.abs(value) ~= math.huge then
        low, high = math.min(low, value), math.max(high, value)
      end
    end
  end
  low, high = o.low or low, o.high or high
  if o.low and o.high and o.low >= o.high then
    strict.fail("plot.heatmap: low is %s, expected a number below high, %s", strict.show(o.low), strict.show(o.high))
  end
  if low > high then low, high = 0.0, 1.0 end
  return low, high > low and high or low + 1
end

--- Position in a scale of `count` steps, 1 to count; nil for NaN.
local function level(value, low, high, count)
  if value ~= value then return nil end
  return 1 + math.floor(math.max(0, math.min(1, (value - low) / (high - low))) * (count - 1) + 0.5)
end

-- Viridis by its corner points (matplotlib).
local corners = { { 68, 1, 84 }, { 59, 82, 139 }, { 33, 145, 140 }, { 94, 201, 98 }, { 253, 231, 37 } }
local palette = {}
for i = 0, 254 do
  local at = i / 254 * (#corners - 1)
  local k = math.min(#corners - 1, math.floor(at) + 1)
  local share, colour = at - (k - 1), {}
  for c = 1, 3 do colour[c] = math.floor(corners[k][c] + (corners[k + 1][c] - corners[k][c]) * share + 0.5) end
  palette[i + 1] = colour
end
palette[256] = { 128, 128, 128 } -- no number

--- Writes a file by its ending; `drawings` has a function for each that is possible.
local function write(name, path, drawings)
  local ending = path:match "%.(%w+)$"
  if not drawings[ending] then
    strict.fail("%s: file = %q: write a name that ends in .%s", name, path,
      table.concat(strict.sorted_keys(drawings), " or ."))
  end
  native.write_file(path, drawings[ending]())
end

local function labels(names, count, first)
  local list = {}
  for i = 1, count do list[i] = names and tostring(names[i] or "") or tostring(first + i - 1) end
  return list
end

--- Columns before a heat map with these names of rows.
local function label_width(names)
  local longest = 4
  for _, name in ipairs(names or {}) do longest = math.max(longest, utf8.len(tostring(name)) or 0) end
  return longest + 3
end

local map_schema = strict.declare("qlora.plot.heatmap", {
  title = { "string", "line above the plot; default none" },
  rows = { "table", "names of the rows; default their numbers" },
  columns = { "table", "names of the columns; default none" },
  width = { "count", "most cells across; larger matrices are averaged",
    initial = "64, or fewer on a narrower terminal", at_most = 1000 },
  height = { "count", "most rows of cells", default = 40, at_most = 1000 },
  low = { "number", "lower end of the scale; default the smallest element" },
  high = { "number", "upper end of the scale; default the largest element" },
  file = { "string", "also writes this .svg or .png file" },
})

local function map_file(name, x, o)
  local values, shape = matrix(name, x, 512, 512)
  local low, high = range(values, o)
  write(name, o.file, {
    png = function()
      local rows = {}
      for r, row in ipairs(values) do
        local bytes = {}
        for c, value in ipairs(row) do bytes[c] = string.char((level(value, low, high, 255) or 256) - 1) end
        rows[r] = table.concat(bytes)
      end
      return png.encode(rows, palette, math.max(1, 480 // math.max(#rows, #rows[1])))
    end,
    svg = function()
      local small = matrix(name, x, 96, 96)
      local shifted = {} -- opacity counts from the low end
      for r, row in ipairs(small) do
        shifted[r] = {}
        for c, value in ipairs(row) do shifted[r][c] = value - low end
      end
      local whole = #small == shape[1] and #small[1] == shape[2]
      local drawing = charts.heatmap(shifted, labels(whole and o.rows, #small, 1),
        labels(whole and o.columns, #small[1], 1), { show = function(v) return ("%.4g"):format(v + low) end })
      return charts.standalone(drawing, o.title)
    end,
  })
end

--- A heat map of a matrix as text.
--- @param x Tensor|number[][] the matrix
--- @return string the plot
--- @throws when it is no matrix, or `file` has another ending
--- @example print(qlora.plot.heatmap(qlora.eye(4), { title = "unit matrix", file = "unit.png" }))
function grid.heatmap(x, options)
  local o = strict.options("plot.heatmap", options, map_schema)
  local room = math.max(8, screen.columns(math.huge) - label_width(o.rows))
  local values, shape = matrix("plot.heatmap", x, o.height, o.width or math.floor(math.min(64, room)))
  local low, high = range(values, o)
  if o.file then map_file("plot.heatmap", x, o) end
  local coloured, cell = grid.has_colour(), #values[1] <= 40 and 2 * #values[1] <= room and 2 or 1
  local glyphs = screen.glyphs()
  local shades, names, longest = glyphs.shades, labels(#values == shape[1] and o.rows or nil, #values, 1), 0
  if #values < shape[1] then names = labels({}, #values, 1) end
  for _, name in ipairs(names) do longest = math.max(longest, utf8.len(name) or #name) end
  local lines = { o.title }
  for r, row in ipairs(values) do
    local parts = {}
    for c, value in ipairs(row) do
      if coloured then
        local colour = ramp[level(value, low, high, #ramp) or 1]
        parts[c] = ("\27[48;5;%dm%s"):format(colour, (value == value and " " or "?"):rep(cell))
      else
        parts[c] = (shades[level(value, low, high, #shades) or 0] or "?"):rep(cell)
      end
    end
    lines[#lines + 1] = ("%s%s %s%s%s"):format((" "):rep(longest - (utf8.len(names[r]) or #names[r])), names[r],
      glyphs.side, table.concat(parts), coloured and "\27[0m" or "")
  end
  if o.columns and #values[1] == shape[2] then
    -- One name below another, each under its column.
    for c = #values[1], 1, -1 do
      lines[#lines + 1] = (" "):rep(longest + 2) .. (glyphs.side .. (" "):rep(cell - 1)):rep(c - 1)
        .. glyphs.corner .. " "
        .. tostring(o.columns[c] or "")
    end
  end
  lines[#lines + 1] = ("%s  %.4g to %.4g, %d x %d%s"):format((" "):rep(longest), low, high, shape[1], shape[2],
    (#values < shape[1] or #values[1] < shape[2]) and (", averaged to %d x %d"):format(#values, #values[1]) or "")
  return table.concat(lines, "\n")
end

local histogram_schema = strict.declare("qlora.plot.histogram", strict.native "Tensor:histogram", {
  title = { "string", "line above the plot; default none" },
  width = { "count", "characters of the longest bar", initial = "50, or what the terminal has room for",
    at_most = 1000 },
  file = { "string", "also writes this .svg file" },
})

--- A histogram of a tensor's elements, or of a list of numbers, as text.
--- @param x Tensor|number[] the numbers
--- @return string the plot
--- @throws when the list is empty, or `file` has another ending
--- @example print(qlora.plot.histogram(qlora.randn(100), { bins = 5 }))
function grid.histogram(x, options)
  local o = strict.options("plot.histogram", options, histogram_schema)
  if not is_tensor(x) then
    if type(x) ~= "table" or #x == 0 then strict.fail("plot.histogram: expected a tensor or a list of numbers") end
    x = native.tensor(x)
  end
  local h = x:histogram { bins = o.bins, low = o.low, high = o.high }
  if o.file then
    write("plot.histogram", o.file,
      { svg = function() return charts.standalone(charts.bars(h.counts, h.low, h.high), o.title) end })
  end
  local most, lines, glyphs = math.max(1, table.unpack(h.counts)), { o.title }, screen.glyphs()
  local beside = 13 + #format.thousands(most) -- the label and the count
  local width = o.width or math.max(8, screen.columns(50 + beside) - beside)
  for i, count in ipairs(h.counts) do
    local units = math.floor(count / most * width * 8 + 0.5)
    local bar = glyphs.full:rep(units // 8) .. glyphs.parts[units % 8 + 1]
    lines[#lines + 1] = ("%10.4g %s%s %s"):format(h.low + (i - 1) / #h.counts * (h.high - h.low), glyphs.side, bar,
      count > 0 and format.thousands(count) or "")
  end
  lines[#lines + 1] = ("%10.4g"):format(h.high)
  if h.outside > 0 then lines[#lines + 1] = ("%10s  %d element(s) outside or not finite"):format("", h.outside) end
  return table.concat(lines, "\n")
end

return grid
