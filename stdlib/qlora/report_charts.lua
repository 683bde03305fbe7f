--- Charts as SVG inside a page: lines over steps and heat maps. Colours come from the page's style sheet, so that one
--- drawing serves light and dark.

local charts = {}

--- Text as it may stand in a page.
function charts.escape(text)
  return (tostring(text):gsub("[%z\1-\8\11-\31]", " "):gsub("[&<>\"]",
    { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }))
end
local escape = charts.escape

local left, right, top, bottom = 64, 22, 10, 26

local function is_finite(value) return value == value and value ~= math.huge and value ~= -math.huge end

--- Round numbers from about `low` to `high`, at most about `count`.
local function ticks(low, high, count)
  local raw = (high - low) / count
  local power = 10.0 ^ math.floor(math.log(raw, 10))
  local step = power
  for _, factor in ipairs { 1, 2, 5, 10 } do
    step = factor * power
    if step >= raw then break end
  end
  local list = {}
  for i = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) do list[#list + 1] = i * step end
  return list
end

--- 1, 2 and 5 times the powers of ten in a range; powers alone when there are many.
local function decades(low, high)
  local list = {}
  for _, factors in ipairs { { 1, 2, 5 }, { 1 } } do
    list = {}
    for power = math.floor(math.log(low, 10)), math.ceil(math.log(high, 10)) do
      for _, factor in ipairs(factors) do
        local value = factor * 10.0 ^ power
        if value >= low * 0.999 and value <= high * 1.001 then list[#list + 1] = value end
      end
    end
    if #list <= 7 then return list end
  end
  return list
end

--- At most about `count` points: the lowest and the highest of each stretch, so that no spike is lost.
function charts.thinned(points, count)
  if #points <= count then return points end
  local out, stretches = {}, count // 2
  for i = 1, stretches do
    local low, high
    for j = (i - 1) * #points // stretches + 1, i * #points // stretches do
      if not low or points[j][2] < points[low][2] then low = j end
      if not high or points[j][2] > points[high][2] then high = j end
    end
    out[#out + 1] = points[math.min(low, high)]
    if low ~= high then out[#out + 1] = points[math.max(low, high)] end
  end
  return out
end

--- Exponential moving average over points, corrected for its start.
function charts.smoothed(points, weight)
  local out, sum, total = {}, 0.0, 0.0
  for i, point in ipairs(points) do
    sum, total = weight * sum + (1 - weight) * point[2], weight * total + (1 - weight)
    out[i] = { point[1], sum / total }
  end
  return out
end

--- Points of a noisy curve, averaged over a twenty-fifth of them: long runs are noisier to the eye.
function charts.averaged(points) return charts.smoothed(points, 1 - 2 / (math.max(4, #points / 25) + 1)) end

--- Range of finite values over all series: x low, x high, y low, y high; nil when there is nothing to draw.
local function extent(series)
  local x0, x1, y0, y1 = math.huge, -math.huge, math.huge, -math.huge
  for _, line in ipairs(series) do
    for _, point in ipairs(line.points) do
      if is_finite(point[2]) then
        x0, x1 = math.min(x0, point[1]), math.max(x1, point[1])
        y0, y1 = math.min(y0, point[2]), math.max(y1, point[2])
      end
    end
  end
  if x0 > x1 then return nil end
  return x0, x1, y0, y1
end

--- Path data; values that are no numbers break the line.
local function path(points, x_of, y_of)
  local parts, pen = {}, "M"
  for _, point in ipairs(points) do
    if is_finite(point[2]) then
      parts[#parts + 1] = ("%s%.1f %.1f"):format(pen, x_of(point[1]), y_of(point[2]))
      pen = "L"
    else
      pen = "M"
    end
  end
  return table.concat(parts)
end

--- A line across at height `y` with its value beside it.
local function gridline(width, y, label)
  return ('<path class="grid" d="M%d %.1fH%d"/><text x="%d" y="%.1f" text-anchor="end">%s</text>'):format(left, y,
    width - right, left - 8, y + 4, escape(label))
end

--- A name under the drawing.
local function under(x, height, label)
  return ('<text x="%.1f" y="%d" text-anchor="middle">%s</text>'):format(x, height - 6,
    escape(math.tointeger(label) or label))
end

--- Invisible stripes with a tooltip each: the value under the pointer without a script.
local function stripes(line, x_of, width, height, show)
  local parts, finite = {}, {}
  for _, point in ipairs(line.points) do
    if is_finite(point[2]) then finite[#finite + 1] = point end
  end
  local points = charts.thinned(finite, 200)
  for i, point in ipairs(points) do
    local from = i == 1 and left or (x_of(points[i - 1][1]) + x_of(point[1])) / 2
    local to = i == #points and width - right or (x_of(points[i + 1][1]) + x_of(point[1])) / 2
    parts[i] = ('<rect class="hit" x="%.1f" y="%d" width="%.1f" height="%d"><title>step %d: %s</title></rect>'):format(
      from, top, math.max(0, to - from), height - top - bottom, point[1], escape(show(point[2])))
  end
  return table.concat(parts)
end

--- An SVG line chart. `series` is a list of { name =, points = { { step, value }, … }, class =, dots = }; options:
--- width, height, show (a value as text), zero (the axis starts at 0).
function charts.lines(series, options)
  local o = options or {}
  local width, height, show = o.width or 480, o.height or 190, o.show or function(v) return ("%.4g"):format(v) end
  local x0, x1, y0, y1 = extent(series)
  if not x0 then return '<p class="none">nothing recorded</p>' end
  -- A loss that falls by orders of magnitude needs a logarithmic axis to be seen.
  local logarithmic = not o.zero and y0 > 0 and y1 / y0 > 30
  if o.zero then y0 = math.min(0.0, y0) end
  if x1 == x0 then x0, x1 = x0 - 0.5, x1 + 0.5 end
  if y1 == y0 then y0, y1 = y0 - math.max(1e-12, math.abs(y0) * 0.1), y1 + math.max(1e-12, math.abs(y1) * 0.1) end
  local scale = logarithmic and function(v) return math.log(v) end or function(v) return v end
  local low, high = scale(y0), scale(y1)
  local margin = (high - low) * 0.04
  high, low = high + margin, o.zero and y0 == 0 and low or low - margin
  local function x_of(x) return left + (x - x0) / (x1 - x0) * (width - left - right) end
  local function y_of(y) return top + (high - scale(y)) / (high - low) * (height - top - bottom) end
  local parts = { ('<svg viewBox="0 0 %d %d" role="img" aria-label="%s">'):format(width, height,
    escape((o.label or series[1].name) .. (logarithmic and ", logarithmic axis" or ""))) }
  if logarithmic then
    parts[2] = ('<text transform="translate(11 %d) rotate(-90)" text-anchor="middle">logarithmic</text>'):format(
      (top + height - bottom) // 2)
  end
  parts[#parts + 1] = ('<text x="0" y="%d">step</text>'):format(height - 6)
  for _, value in ipairs(logarithmic and decades(y0, y1) or ticks(y0, y1, 5)) do
    parts[#parts + 1] = gridline(width, y_of(value), show(value))
  end
  for _, value in ipairs(ticks(x0, x1, 6)) do
    if math.tointeger(value) then
      parts[#parts + 1] = under(x_of(value), height, value)
    end
  end
  for i, line in ipairs(series) do
    local class = line.class or "s" .. (i - 1) % 8 + 1
    if line.dots then
      for _, point in ipairs(line.points) do
        if is_finite(point[2]) then
          parts[#parts + 1] = ('<circle class="dot %s" cx="%.1f" cy="%.1f" r="4">' ..
            "<title>%s, step %d: %s</title></circle>"):format(class, x_of(point[1]), y_of(point[2]), escape(line.name),
            point[1], escape(show(point[2])))
        end
      end
    end
    parts[#parts + 1] = ('<path class="line %s" d="%s"/>'):format(class,
      path(charts.thinned(line.points, 1200), x_of, y_of))
  end
  if #series == 1 or o.hover then
    parts[#parts + 1] = stripes(series[o.hover or 1], x_of, width, height, show)
  end
  parts[#parts + 1] = "</svg>"
  return table.concat(parts, "\n")
end

--- Names with the colours of `series`.
function charts.legend(series)
  local parts = {}
  for i, line in ipairs(series) do
    parts[i] = ('<span class="key"><i class="%s"></i>%s</span>'):format(line.class or "s" .. (i - 1) % 8 + 1,
      escape(line.name))
  end
  return '<p class="legend">' .. table.concat(parts) .. "</p>"
end

--- An SVG heat map of `grid[row][column]` (nil where there is nothing) with names of rows and columns; `show` in
--- the options says a value as text.
function charts.heatmap(grid, rows, columns, options)
  local o = options or {}
  local show = o.show or function(v) return ("%.3g"):format(v) end
  local high, label = 0.0, 64
  for _, name in ipairs(rows) do label = math.max(label, 7 * (utf8.len(tostring(name)) or 0) + 16) end
  for r = 1, #rows do
    for c = 1, #columns do
      local value = grid[r] and grid[r][c]
      if value and is_finite(value) then high = math.max(high, value) end
    end
  end
  local side, cell_width = 16, math.max(4, math.min(48, 400 // math.max(1, #columns)))
  local width, height = label + #columns * cell_width + 12, #rows * side + 22
  local parts = { ('<svg class="heat" viewBox="0 0 %d %d" style="max-width:%dpx" role="img">'):format(width, height,
    width) }
  for r, name in ipairs(rows) do
    parts[#parts + 1] = ('<text x="%d" y="%d" text-anchor="end">%s</text>'):format(label - 8, r * side - 4,
      escape(name))
    for c, column in ipairs(columns) do
      local value = grid[r] and grid[r][c]
      if value then
        parts[#parts + 1] = ('<rect x="%d" y="%d" width="%d" height="%d" fill-opacity="%.3f">' ..
          "<title>%s, %s: %s</title></rect>"):format(label + (c - 1) * cell_width, (r - 1) * side, cell_width - 1,
            side - 1, is_finite(value) and (high > 0 and 0.04 + 0.96 * math.max(0, value) / high or 0.04) or 1,
            escape(name), escape(column), escape(show(value)))
      end
    end
  end
  -- As many column names as there is room for.
  local longest = 1
  for _, column in ipairs(columns) do longest = math.max(longest, utf8.len(tostring(column)) or 1) end
  local every = math.max(1, math.ceil((longest * 7 + 6) / cell_width))
  for c = 1, #columns, every do
    parts[#parts + 1] = ('<text x="%.1f" y="%d" text-anchor="middle">%s</text>'):format(
      label + (c - 0.5) * cell_width, #rows * side + 14, escape(columns[c]))
  end
  parts[#parts + 1] = "</svg>"
  return table.concat(parts, "\n"), high
end

--- An SVG bar chart of counts over equal bins of [low, high].
function charts.bars(counts, low, high, options)
  local o = options or {}
  local width, height = o.width or 480, o.height or 190
  local most = math.max(1, table.unpack(counts))
  local function x_of(i) return left + i / #counts * (width - left - right) end
  local parts = { ('<svg viewBox="0 0 %d %d" role="img">'):format(width, height) }
  for _, value in ipairs(ticks(0, most, 4)) do
    local y = top + (1 - value / most) * (height - top - bottom)
    parts[#parts + 1] = gridline(width, y, ("%.6g"):format(value))
  end
  for i, count in ipairs(counts) do
    local tall = count / most * (height - top - bottom)
    local from = low + (i - 1) / #counts * (high - low)
    parts[#parts + 1] = ('<rect class="bar" x="%.1f" y="%.1f" width="%.1f" height="%.1f">' ..
      "<title>%.4g … %.4g: %d</title></rect>"):format(x_of(i - 1), height - bottom - tall,
      math.max(0.5, x_of(1) - left - 1), tall, from, from + (high - low) / #counts, count)
  end
  for i = 0, 4 do
    parts[#parts + 1] = under(x_of(i / 4 * #counts), height, ("%.3g"):format(low + i / 4 * (high - low)))
  end
  parts[#parts + 1] = "</svg>"
  return table.concat(parts, "\n")
end

local alone = [[<style>text{fill:#5b6472;font:11px system-ui,sans-serif} rect{fill:#2563eb} .ground{fill:#fff}
.grid{stroke:#e3e6ea} .title{font-weight:600}
@media (prefers-color-scheme:dark){ text{fill:#9aa4b2} rect{fill:#60a5fa} .ground{fill:#15181d}
.grid{stroke:#2c323a} }</style>]]

--- A chart as a file of its own: with its style, a ground and a title.
function charts.standalone(svg, title)
  local width, height = svg:match 'viewBox="0 0 (%d+) (%d+)"'
  local body = svg:gsub("^<svg[^>]*>", "", 1)
  return ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 %d %d %d" width="%d" height="%d">%s\n'
    .. '<rect class="ground" y="-26" width="100%%" height="100%%"/>'
    .. '<text class="title" x="8" y="-9">%s</text>\n%s\n'):format(
    -26, width, height + 26, width, height + 26, alone, escape(title or ""), body)
end

return charts
