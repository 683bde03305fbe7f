--- Runs the Lua tests that need the real engine: `qlora-run --quiet Tests/LuaTests/run_engine.lua [name…]`.
local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. package.path

local harness = require "harness"
harness.directory = here
for _, name in ipairs {
  "test_explore", "test_merge", "test_runs", "test_reference", "test_scripted", "test_tensors", "test_text",
} do
  if #arg == 0 or table.concat(arg, " "):find(name, 1, true) then require(name) end
end
os.exit(harness.summary())
