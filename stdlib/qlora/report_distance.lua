--- Comparisons in a report: how far other forms of a trained model (base, merged, quantized) are from it, as bars with
--- their figures. They lie in comparisons.json of the run directory.
local native = require "qlora.native"
local charts = require "qlora.report_charts"
local format = require "qlora.format"
local json = require "qlora.json"
local page = require "qlora.report_page"
local strict = require "qlora.strict"
local escape = charts.escape

local distance = {}

--- { name =, kl =, agreement =, perplexity = } of what qlora.eval.compare gave.
local function row(name, given)
  local perplexity = type(given) == "table" and given.perplexity
  local is_whole = type(perplexity) == "table"
  for _, number in ipairs(is_whole and { "kl", "agreement", 1, 2 } or {}) do
    is_whole = is_whole and strict.is_finite((type(number) == "string" and given or perplexity)[number])
  end
  if not is_whole then
    strict.fail("report.comparison: %s is %s, expected what qlora.eval.compare gives", name, strict.show(given))
  end
  return { name = name, kl = given.kl, agreement = given.agreement, perplexity = perplexity[2], of = perplexity[1],
    tokens = given.tokens }
end

--- The rows of qlora.merge's result, or of comparisons by name.
local function rows_of(what)
  local list = {}
  if type(what.rows) == "table" then
    list[1] = what.base and row("base", what.base) or nil
    for _, target in ipairs(what.rows) do
      if target.kl then
        list[#list + 1] = row("merged, " .. target.target, { kl = target.kl, agreement = target.agreement,
          perplexity = { what.perplexity, target.perplexity }, tokens = target.tokens })
      end
    end
  else
    for _, name in ipairs(strict.sorted_keys(what)) do list[#list + 1] = row(tostring(name), what[name]) end
    table.sort(list, function(a, b) return a.kl > b.kl end)
  end
  return list
end

--- Keeps comparisons in a run directory.
function distance.keep(dir, what)
  if type(what) ~= "table" or next(what) == nil then
    strict.fail("report.comparison: expected comparisons by name, such as { base = qlora.eval.compare(model, "
      .. '"base", data) }, or what qlora.merge gives; got %s', strict.show(what))
  end
  local list = rows_of(what)
  if #list == 0 then strict.fail "report.comparison: no target of qlora.merge could be made" end
  native.write_file(dir .. "/comparisons.json", json.encode(list) .. "\n")
end

--- The rows in a run directory, as they were kept; empty without the file.
function distance.read(dir)
  local path = dir .. "/comparisons.json"
  local file = io.open(path, "rb")
  if not file then return {} end
  local ok, list = pcall(json.decode, file:read "a")
  file:close()
  if not ok or type(list) ~= "table" then error(("%s: %s"):format(path, ok and "a list expected" or list), 0) end
  for i, entry in ipairs(list) do
    for _, key in ipairs { "kl", "agreement", "perplexity", "of" } do
      if type(entry) ~= "table" or type(entry.name) ~= "string" or type(entry[key]) ~= "number" then
        error(("%s: entry %d has no name and %s"):format(path, i, key), 0)
      end
    end
  end
  return list
end

--- Bars side by side in length: { { name, value, text }, … }; lengths are shares of the longest.
local function bars(list)
  local label, height, width, most = 60, 24, 480, 0.0
  for _, bar in ipairs(list) do
    most, label = math.max(most, bar[2]), math.max(label, math.min(240, 8 * (utf8.len(bar[1]) or #bar[1]) + 12))
  end
  local parts = { ('<svg viewBox="0 0 %d %d" role="img">'):format(width, #list * height) }
  for i, bar in ipairs(list) do
    local y, long = (i - 1) * height, most > 0 and bar[2] / most * (width - label - 90) or 0
    parts[#parts + 1] = ('<text x="%d" y="%d" text-anchor="end">%s</text>'):format(label - 8, y + 15, escape(bar[1]))
    parts[#parts + 1] = ('<rect class="bar" x="%d" y="%d" width="%.1f" height="%d"/>'):format(label, y + 4,
      math.max(1, long), height - 9)
    parts[#parts + 1] = ('<text x="%.1f" y="%d">%s</text>'):format(label + math.max(1, long) + 6, y + 15,
      escape(bar[3]))
  end
  parts[#parts + 1] = "</svg>"
  return table.concat(parts, "\n")
end

local function decimal(value) return value < 1000 and ("%.4f"):format(value) or format.thousands(value) end

--- The section of a report; "" without comparisons.
function distance.html(list)
  if #list == 0 then return "" end
  local kl, differing, perplexity = {}, {}, { { "trained", list[1].of, decimal(list[1].of) } }
  for i, entry in ipairs(list) do
    local other = 100 * (1 - entry.agreement)
    kl[i] = { entry.name, entry.kl, ("%.4g"):format(entry.kl) }
    differing[i] = { entry.name, other, ("%.3g %%"):format(other) }
    perplexity[i + 1] = { entry.name, entry.perplexity, decimal(entry.perplexity) }
  end
  return '<h2>Comparisons</h2><p class="note">How far each is from the trained model'
    .. (list[1].tokens and (", on %d positions of held-out text"):format(list[1].tokens) or "") .. ".</p>"
    .. page.pair { page.figure("KL per token (nats)", bars(kl)),
      page.figure("Positions with another likeliest token", bars(differing)),
      page.figure("Perplexity", bars(perplexity)) }
end

return distance
