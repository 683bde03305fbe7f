--- one run: its results, its settings, its loss curve, and how to go on
---
--- RUN is a run directory, or the name of one in runs/; without it, the latest run in runs/. Settings are what the run
--- used; parameters, what else its recipe was given.
local native = require "qlora.native"
local command_line = require "qlora.command_line"
local format = require "qlora.format"
local sorted_keys = require("qlora.strict").sorted_keys

local function find(name)
  if name then
    for _, dir in ipairs { name, "runs/" .. name } do
      if native.exists(dir .. "/params.json") then return (dir:gsub("(.)/+$", "%1")) end
    end
    command_line.fail("show: neither %s nor runs/%s is a run directory", name, name)
  end
  local qlora = require "qlora"
  local latest = native.exists "runs" and qlora.runs({ order = "started desc", limit = 1 })[1]
  return latest and latest.dir or command_line.fail "show: there is no run in runs/; name a run directory"
end

local function value_text(value)
  if type(value) == "table" or value == "" then return require("qlora.json").encode(value) end
  return math.type(value) == "float" and ("%.6g"):format(value) or tostring(value)
end

return {
  usage = "[RUN]", most = 1,
  run = function(_, arguments)
    local dir = find(arguments[1])
    require "qlora"
    local compare = require "qlora.report_compare"
    local journal = require "qlora.run_journal"
    local record = journal.read(dir)
    local row, seen = journal.row(record), {}
    row.peak_memory = row.peak_memory and format.bytes(row.peak_memory)
    --- What no list before has.
    local function list(title, keys, values)
      for _, key in ipairs(keys) do
        if values[key] ~= nil and not seen[key] then
          if title then print(title) end
          title, seen[key] = nil, true
          print(("  %-20s %s"):format(key, value_text(values[key])))
        end
      end
    end
    list(dir, { "recipe", "started", "status", "step", "first_loss", "loss", "eval_loss", "perplexity", "tokens",
      "seconds", "tokens_per_second", "peak_memory" }, row)
    list("settings", sorted_keys(record.settings), record.settings)
    list("parameters", sorted_keys(record.params), record.params)
    print(compare.text(compare.read { dir }, native.terminal_width()):match "\n(.*)$" or "")
    local last
    for _, name in ipairs(native.list_dir(dir)) do last = name:find "^checkpoint%-%d+$" and name or last end
    if native.exists(dir .. "/report.html") then print("report     " .. dir .. "/report.html") end
    if last then print("go on      qlora-run --resume " .. format.word(dir)) end
  end,
}
