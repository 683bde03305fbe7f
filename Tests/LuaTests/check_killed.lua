--- `qlora-run check_killed.lua DIR`: every run in DIR/runs was killed at some moment; all must read, be in the index and
--- give a report. Prints how many runs and steps there were.
local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. package.path
local qlora = require "qlora"
local journal = require "qlora.run_journal"
local records = require "event_file"

local dir, steps, listed = ... .. "/runs", 0, {}
for _, row in ipairs(qlora.runs { dir = dir }) do listed[row.name] = row end

local count = 0
for _, name in ipairs(qlora.native.list_dir(dir)) do
  local place = dir .. "/" .. name
  if qlora.native.exists(place .. "/params.json") then
    count = count + 1
    local record = journal.read(place)
    assert(record.broken <= 1, name .. ": more than the last line is broken")
    for i, entry in ipairs(record.steps) do assert(entry.step == i, name .. ": step out of order") end
    local row = assert(listed[name], name .. " is not in the index")
    assert(row.status == "unfinished" and row.step == #record.steps, name .. ": the index differs from the journal")
    steps = steps + #record.steps
    for _, file in ipairs(qlora.native.list_dir(place)) do
      if file:find "^events" then
        local handle <close> = assert(io.open(place .. "/" .. file, "rb"))
        -- The version, the settings and a record per step; the journal's line comes first, so the last may be missing,
        -- and of the first step those before it too.
        local found = math.max(0, #records(handle:read "a") - 2)
        assert(found == #record.steps or found == #record.steps - 1, name .. ": events differ from the journal")
      end
    end
    qlora.report(place)
  end
end
print(count, steps)
