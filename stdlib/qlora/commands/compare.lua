--- runs side by side: results, loss curves and the settings in which they differ
---
--- Without RUN it takes the latest runs in runs/. --html FILE also writes a page.
local native = require "qlora.native"
local command_line = require "qlora.command_line"

return {
  usage = "[RUN …]",
  flags = {
    { "--where", "SQL", "which runs, when none is named: \"rank > 8\"", default = "1" },
    { "--order", "SQL", "in which order, when none is named", default = "started desc" },
    { "--limit", "N", "how many, when none is named", kind = "count", default = 8 },
    { "--html", "FILE", "write a page, too" },
  },
  run = function(o, dirs)
    local qlora = require "qlora"
    local compare = require "qlora.report_compare"
    if #dirs == 0 then
      if not native.exists "runs" then
        command_line.fail "compare: there is no folder runs here; name run directories"
      end
      for i, run in ipairs(qlora.runs { where = o.where, order = o.order, limit = o.limit }) do dirs[i] = run.dir end
    end
    for _, dir in ipairs(dirs) do
      if not native.exists(dir .. "/params.json") then
        command_line.fail("compare: %s is no run directory: it has no params.json", dir)
      end
    end
    if #dirs == 0 then command_line.fail "compare: no run in runs/ fits" end
    local records = compare.read(dirs)
    print(compare.text(records, native.terminal_width()))
    if o.html then print("wrote " .. compare.write(records, o.html)) end
  end,
}
