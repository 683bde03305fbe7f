--- report.html of a run: one file without scripts or network, with the loss curve as SVG.
local format = require "qlora.format"
local params = require "qlora.params"

local report = {}

local function escape(text)
  return (tostring(text):gsub("[&<>\"]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }))
end

--- An SVG line of (step, value) pairs.
function report.curve(points, width, height)
  local low, high = math.huge, -math.huge
  for _, point in ipairs(points) do low, high = math.min(low, point[2]), math.max(high, point[2]) end
  if #points == 0 then return "" end
  if high == low then high = low + 1 end
  local first, last = points[1][1], math.max(points[#points][1], points[1][1] + 1)
  local path = {}
  for i, point in ipairs(points) do
    path[i] = ("%.1f,%.1f"):format(50 + (point[1] - first) / (last - first) * (width - 60),
      10 + (high - point[2]) / (high - low) * (height - 40))
  end
  return ([[<svg viewBox="0 0 %d %d" width="100%%">
<polyline fill="none" stroke="#2563eb" stroke-width="1.5" points="%s"/>
<g font-size="12" font-family="monospace">
<text x="0" y="16">%.4g</text><text x="0" y="%d">%.4g</text><text x="50" y="%d">%d</text>
<text x="%d" y="%d" text-anchor="end">%d</text></g></svg>]]):format(width, height, table.concat(path, " "), high,
  height - 30, low,
    height - 8, points[1][1], width - 10, height - 8, points[#points][1])
end

local function rows(list)
  local parts = {}
  for i, row in ipairs(list) do
    parts[i] = ("<tr><td>%s</td><td>%s</td></tr>"):format(escape(row[1]), escape(row[2]))
  end
  return "<table>" .. table.concat(parts, "\n") .. "</table>"
end

--- The page as text.
function report.html(run, result)
  local losses, evaluations = {}, {}
  for _, entry in ipairs(result.history) do
    losses[#losses + 1] = { entry.step, entry.loss }
    if entry.eval_loss then evaluations[#evaluations + 1] = { entry.step, entry.eval_loss } end
  end
  local settings, keys = {}, {}
  for key in pairs(params.resolved or {}) do keys[#keys + 1] = key end
  table.sort(keys)
  for i, key in ipairs(keys) do settings[i] = { key, params.resolved[key] } end
  local parts = { ([[<!doctype html><meta charset="utf-8"><title>%s</title>
<style>
body { font: 16px sans-serif; max-width: 56em; margin: 2em auto }
td { padding: .1em 1em .1em 0; font-family: monospace }
</style>
<h1>%s</h1>]]):format(escape(run.dir), escape(run.dir)),
    rows { { "steps", result.steps }, { "tokens", result.tokens }, { "time", format.seconds(result.seconds) },
      { "tokens per second", ("%.1f"):format(result.tokens_per_second) },
      { "peak memory", format.bytes(result.peak_memory) },
      { "first loss", ("%.4f"):format(result.first_loss) }, { "last loss", ("%.4f"):format(result.last_loss) } },
    "<h2>Loss</h2>", report.curve(losses, 800, 300) }
  if #evaluations > 0 then parts[#parts + 1] = "<h2>Evaluation loss</h2>" .. report.curve(evaluations, 800, 300) end
  parts[#parts + 1] = "<h2>Parameters</h2>" .. rows(settings)
  return table.concat(parts, "\n") .. "\n"
end

return report
