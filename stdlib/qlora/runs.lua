--- The index of runs: `qlora.runs{ where = "rank > 16", order = "eval_loss" }`. One small SQLite file beside the run
--- directories, written when a run starts and ends. The directories are the truth: whatever the index lacks is read
--- from them, so that no run is lost when it is missing, locked or damaged.
local native = require "qlora.native"
local format = require "qlora.format"
local journal = require "qlora.run_journal"
local strict = require "qlora.strict"
local suggest = require "qlora.suggest"

local runs = {}

-- Columns every run has; a column is added for each parameter that a recipe brings.
local fixed = { "name", "started", "status", "recipe", "step", "first_loss", "loss", "eval_loss", "perplexity",
  "tokens", "seconds", "tokens_per_second", "peak_memory", "params" }

local remedy = "; the runs themselves are safe: qlora.runs{ rebuild = true } makes the index again from them"

local function file_of(parent) return parent .. "/runs.sqlite" end

--- Directory that holds a run directory.
local function parent_of(dir)
  return dir:gsub("(.)/+$", "%1"):match("^(.*)/[^/]+$") or "."
end

local function quoted(name) return '"' .. name .. '"' end

local function columns_of(database)
  local names = {}
  for i, row in ipairs(database:query "SELECT name FROM pragma_table_info('runs')") do names[i] = row.name end
  return names
end

--- Opens the index for writing, with its table.
local function open(parent, file)
  local database = native.open_database(file or file_of(parent), { create = true })
  local list = {}
  for i, name in ipairs(fixed) do list[i] = quoted(name) .. (name == "name" and " PRIMARY KEY" or "") end
  database:query(("CREATE TABLE IF NOT EXISTS runs (%s)"):format(table.concat(list, ", ")))
  return database
end

--- Adds columns for the keys of `row` that the table lacks. SQLite's names do not tell capitals apart.
local function widen(database, row)
  local present = {}
  for _, name in ipairs(columns_of(database)) do present[name:lower()] = name end
  local keys = {}
  for _, key in ipairs(strict.sorted_keys(row)) do
    if present[key:lower()] == nil and key:match("^[%a_][%w_]*$") then
      database:query(("ALTER TABLE runs ADD COLUMN %s"):format(quoted(key)))
      present[key:lower()] = key
    end
    if present[key:lower()] == key then keys[#keys + 1] = key end
  end
  return keys
end

local function insert(database, record)
  local row = journal.row(record)
  local keys = widen(database, row)
  local names, marks, values = {}, {}, {}
  for i, key in ipairs(keys) do names[i], marks[i], values[i] = quoted(key), "?", row[key] end
  database:query(("INSERT OR REPLACE INTO runs (%s) VALUES (%s)"):format(table.concat(names, ", "),
    table.concat(marks, ", ")), values)
end

--- Runs `body(database)` as one transaction and closes.
local function change(parent, body)
  local database = open(parent)
  local ok, message = pcall(function()
    database:query "BEGIN IMMEDIATE"
    body(database)
    database:query "COMMIT"
  end)
  database:close()
  if not ok then error(message, 0) end
end

--- Writes the row of one run directory into the index beside it. A run goes on when that fails.
--- @param dir string the run directory
--- @return boolean, string|nil whether it was written, and why not
--- @example
--- qlora.run { dir = "runs/a" }
--- assert(qlora.runs.record "runs/a")
function runs.record(dir)
  local ok, message = pcall(function()
    change(parent_of(dir), function(database) insert(database, journal.read(dir)) end)
  end)
  return ok, message
end

--- Brings the index up to date with the directories: new and unfinished runs are read, vanished ones removed.
local function refresh(parent)
  local known, found = {}, {}
  if native.exists(file_of(parent)) then
    local database = open(parent)
    for _, row in ipairs(database:query "SELECT name, status FROM runs") do known[row.name or ""] = row.status end
    database:close()
  end
  local stale = {}
  for _, name in ipairs(native.list_dir(parent)) do
    if native.exists(("%s/%s/params.json"):format(parent, name)) then
      found[name] = true
      if known[name] ~= "finished" then stale[#stale + 1] = name end
    end
  end
  local gone = {}
  for name in pairs(known) do
    if not found[name] then gone[#gone + 1] = name end
  end
  if #stale + #gone == 0 then return end
  change(parent, function(database)
    for _, name in ipairs(gone) do database:query("DELETE FROM runs WHERE name = ?", { name }) end
    for _, name in ipairs(stale) do
      local ok, record = pcall(journal.read, parent .. "/" .. name)
      if ok then
        insert(database, record)
      else -- the others are listed all the same
        io.stderr:write(("qlora.runs: not listed: %s\n"):format(record))
      end
    end
  end)
end

--- The index of a folder that may not be changed (--smoke, --plan), in memory.
local function passing(parent)
  local database = open(parent, ":memory:")
  for _, name in ipairs(native.list_dir(parent)) do
    local ok, record = pcall(journal.read, parent .. "/" .. name)
    if ok then insert(database, record) end
  end
  return database
end

-- Listing ------------------------------------------------------------------------------------------------------------

local Listing = strict.class("Runs", { __name = "runs" }, {
  doc = "Rows of the index of runs, by column; printing it shows the results and the settings in which they differ.",
  receiver = "runs",
})
Listing.__index = Listing

local function cell(value, key)
  if value == nil then return "" end
  if key == "peak_memory" then return format.bytes(value) end
  if math.type(value) == "float" then return (math.abs(value) >= 1000 and "%.0f" or "%.4g"):format(value) end
  return tostring(value)
end

--- The settings in which rows differ.
--- @param list table[] rows, as qlora.runs gives them
--- @param count integer most names
--- @return string[] the names
--- @example assert(qlora.runs.differences({ { rank = 4 }, { rank = 8 } }, 5)[1] == "rank")
function runs.differences(list, count)
  local keys, plain = {}, {}
  for _, name in ipairs(fixed) do plain[name] = true end
  for _, row in ipairs(list) do
    for key in pairs(row) do
      if not plain[key] and key ~= "dir" then keys[key] = true end
    end
  end
  local differing = {}
  for _, key in ipairs(strict.sorted_keys(keys)) do
    for i = 2, #list do
      if list[i][key] ~= list[1][key] then
        differing[#differing + 1] = key
        break
      end
    end
  end
  return table.move(differing, 1, math.min(count, #differing), 1, {})
end

--- Aligned columns of rows as text, with a heading.
--- @param list table[] rows, as qlora.runs gives them
--- @param keys string[] the columns
--- @return string the table
--- @example print(qlora.runs.columns({ { name = "a", loss = 3.5 } }, { "name", "loss" }))
function runs.columns(list, keys)
  local widths, lines = {}, {}
  for i, key in ipairs(keys) do
    widths[i] = utf8.len(key)
    for _, row in ipairs(list) do widths[i] = math.max(widths[i], utf8.len(cell(row[key], key)) or 0) end
  end
  local function line(value_of)
    local parts = {}
    for i, key in ipairs(keys) do
      local text = value_of(key)
      local gap = (" "):rep(widths[i] - (utf8.len(text) or 0))
      parts[i] = i == 1 and text .. gap or gap .. text
    end
    lines[#lines + 1] = (table.concat(parts, "  "):gsub("%s+$", ""))
  end
  line(function(key) return key end)
  for _, row in ipairs(list) do line(function(key) return cell(row[key], key) end) end
  return table.concat(lines, "\n")
end

function Listing:__tostring()
  if #self == 0 then return "no runs" end
  local keys = { table.unpack(journal.results) }
  for _, key in ipairs(runs.differences(self, 5)) do keys[#keys + 1] = key end
  return runs.columns(self, keys)
end

-- Queries ------------------------------------------------------------------------------------------------------------

--- Turns an error of the database into one that names the option and the nearest column.
local function explain(option, text, message, names)
  if message:find("damaged", 1, true) or message:find("locked", 1, true) then
    strict.fail("qlora.runs: %s%s", message, remedy)
  end
  local column = message:match("no such column: ([^\n]+)")
  if column then
    strict.fail("qlora.runs: %s = %q: no run has '%s'%s", option, text, column, suggest.phrase(column, names))
  end
  local reason = message:match("runs%.sqlite: (.*)") or message:gsub("^[^\n]-:%d+: ", "")
  strict.fail("qlora.runs: %s = %q: %s; it is an SQL expression such as %s", option, text, reason,
    option == "where" and '"rank > 16 and status = \'finished\'"' or '"eval_loss" or "loss desc, rank"')
end

local schema = strict.declare("qlora.runs", {
  dir = { "string", "the folder that holds the run directories", default = "runs" },
  where = { "string", "SQL condition over the columns (qlora.runs.names), such as \"rank > 16\"" },
  order = { "string", "SQL order over the columns", default = "started, name" },
  limit = { "count", "most rows; default all" },
  rebuild = { "boolean", "make the index anew from the directories", default = false },
})

--- The index of a folder as it is now, on a connection that cannot change its file; nil where there is no run yet.
local function index_of(parent, o)
  if not native.may_change(parent) then return passing(parent) end
  for _, ending in ipairs(o.rebuild and { "", "-journal" } or {}) do
    if native.exists(file_of(parent) .. ending) then native.remove_tree(file_of(parent) .. ending) end
  end
  local ok, message = pcall(refresh, parent)
  if not ok then strict.pass_on(message) end
  if not ok and tostring(message):find("damaged", 1, true) then strict.fail("qlora.runs: %s%s", message, remedy) end
  if not native.exists(file_of(parent)) then
    if not ok then strict.fail("qlora.runs: %s", message) end
    return nil
  end
  local opened, database = pcall(native.open_database, file_of(parent))
  if not opened then
    strict.pass_on(database)
    strict.fail("qlora.runs: %s%s", database, remedy)
  end
  if not ok then io.stderr:write(("qlora.runs: the index may lack the latest runs: %s\n"):format(message)) end
  return database
end

local function query(options)
  local o = strict.options("qlora.runs", options, schema)
  local parent = native.place_to_read((o.dir:gsub("(.)/+$", "%1")))
  if not native.exists(parent) then strict.fail("qlora.runs: there is no directory %s", parent) end
  local database = index_of(parent, o)
  if not database then return setmetatable({}, Listing) end
  local names = columns_of(database)
  local function try(option, text, sql, values)
    local fine, result = pcall(database.query, database, sql, values)
    if fine then return result end
    database:close()
    strict.pass_on(result)
    return explain(option, text, tostring(result), names)
  end
  local where, order = o.where or "1", o.order
  if order:match("^%s*[%w_]+%s*$") or order:lower():match("^%s*[%w_]+%s+[ad]e?sc%s*$") then
    order = order .. " NULLS LAST" -- a run without the figure is not the best of all
  end
  try("where", where, ("SELECT name FROM runs WHERE (%s) LIMIT 0"):format(where))
  local rows = try("order", o.order, ("SELECT * FROM runs WHERE (%s) ORDER BY %s LIMIT ?"):format(where, order),
    { o.limit or -1 })
  database:close()
  for _, row in ipairs(rows) do row.dir = ("%s/%s"):format(parent, row.name) end
  return setmetatable(rows, Listing)
end

--- The columns that `where` and `order` may use.
--- @param dir? string the folder that holds the run directories; "runs" when left out
--- @return string[] the names
--- @throws when there is no such folder
--- @example
--- qlora.run { dir = "runs/a" }
--- assert(#qlora.runs.names() > 10)
function runs.names(dir)
  query { dir = dir, limit = 1 }
  if not native.may_change(dir or "runs") then return { table.unpack(fixed) } end
  local file = file_of(dir or "runs")
  if not native.exists(file) then return { table.unpack(fixed) } end
  local database <close> = native.open_database(file)
  return columns_of(database)
end

--- The runs of a folder with their results and parameters.
--- @return Runs the rows; printing it shows a table
--- @throws when there is no such folder, or `where` or `order` is no SQL over the columns
--- @example
--- qlora.run { dir = "runs/a" }
--- assert(qlora.runs({ where = "status <> 'finished'" })[1].name == "a")
return setmetatable(runs, { __call = function(_, options) return query(options) end })
