--- The rows of a sweep, and their table as text.
local strict = require "qlora.strict"

local sweep_table = {}

local function shown(value)
  if type(value) == "boolean" then return value and "yes" or "no" end
  if math.type(value) == "float" then return ("%.5g"):format(value) end
  if value == nil then return "-" end
  return tostring(value)
end

local Table = strict.class("Sweep", { __name = "sweep" }, {
  doc = "The rows of a sweep, { setting =, measure =, seconds = }; printing it shows the table.", receiver = "sweep",
  fields = { { "columns", "string[]", "the columns that are shown" },
    { "lowest", "string|nil", "the measure whose lowest row is marked" } },
})
Table.__index = Table

--- Whether column `c` of the rows holds numbers, which are set to the right.
local function is_numeric(rows, c)
  for _, row in ipairs(rows) do
    if type(row[rows.columns[c]]) == "number" then return true end
  end
  return false
end

--- The rows as aligned columns; the row with the lowest value of `lowest` is marked.
function Table:__tostring()
  local best
  for i, row in ipairs(self) do
    local value = row[self.lowest]
    if type(value) == "number" and value == value and (not best or value < self[best][self.lowest]) then best = i end
  end
  local lines, widths = { self.columns }, {}
  for _, row in ipairs(self) do
    local cells = {}
    for c, key in ipairs(self.columns) do cells[c] = shown(row[key]) end
    lines[#lines + 1] = cells
  end
  for _, cells in ipairs(lines) do
    for c, cell in ipairs(cells) do widths[c] = math.max(widths[c] or 0, utf8.len(cell) or #cell) end
  end
  for i, cells in ipairs(lines) do
    local parts = {}
    for c, cell in ipairs(cells) do
      local gap = (" "):rep(widths[c] - (utf8.len(cell) or #cell))
      local is_number = i > 1 and type(self[i - 1][self.columns[c]]) == "number" or i == 1 and is_numeric(self, c)
      parts[c] = is_number and gap .. cell or cell .. gap
    end
    lines[i] = "  " .. table.concat(parts, "  ") .. (best and i == best + 1 and "  <- lowest " .. self.lowest or "")
  end
  return table.concat(lines, "\n")
end

--- The settings in alphabetical order, then the measures, then the time.
function sweep_table.columns(known, rows)
  local columns, seen = strict.sorted_keys(known), { seconds = true }
  for _, key in ipairs(columns) do seen[key] = true end
  for _, row in ipairs(rows) do
    for _, key in ipairs(strict.sorted_keys(row)) do
      if not seen[key] then columns[#columns + 1], seen[key] = key, true end
    end
  end
  columns[#columns + 1] = "seconds"
  return columns
end

--- No rows yet.
--- @param lowest? string the measure whose lowest row is marked
function sweep_table.rows(lowest) return setmetatable({ lowest = lowest }, Table) end

return sweep_table
