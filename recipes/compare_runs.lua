-- Compare runs: their results, their loss curves over one another and the settings in which they differ.
--
--   qlora-run compare_runs.lua
--   qlora-run compare_runs.lua runs/first runs/second
--   qlora-run --set where="rank > 8" --set html=ranks.html compare_runs.lua
--
-- Expected: a table and curves in the terminal, and comparison.html, one file that needs nothing else. Without names it
-- takes the latest runs in runs/.
local qlora = require "qlora"
local compare = require "qlora.report_compare"

local p = qlora.params {
  html = "comparison.html", -- "" writes none
  where = "1", order = "started desc", limit = 8, -- which runs, when no directory is named (see qlora.runs)
}

local dirs = { ... }
if #dirs == 0 then
  local latest = qlora.native.exists "runs" and qlora.runs { where = p.where, order = p.order, limit = p.limit }
  for i, run in ipairs(latest or {}) do
    dirs[i] = run.dir
  end
end
if #dirs == 0 then
  print "nothing to compare: name run directories, or start in a directory where runs/ has some"
  return
end

local records = compare.read(dirs)
print(compare.text(records, qlora.native.terminal_width()))
if p.html ~= "" then print("wrote " .. compare.write(records, p.html)) end
