--- Runs the Lua tests: `lua5.4 Tests/LuaTests/run.lua [name…]`. Needs no engine: `qlora.native` is replaced by
--- mock_native.lua.
local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = ("%s/?.lua;%s/../../stdlib/?.lua;%s/../../stdlib/?/init.lua;%s"):format(here, here, here, package.path)

for name in pairs(package.loaded) do -- under qlora-run the real natives may already be there
  if name:match("^qlora") then package.loaded[name] = nil end
end
package.preload["qlora.native"] = nil
package.loaded["qlora.native"] = require "mock_native"

local harness = require "harness"
harness.directory = here
for _, name in ipairs {
  "test_options", "test_select", "test_chat", "test_jinja", "test_data", "test_records", "test_mapping", "test_train",
  "test_train_command",
  "test_serve", "test_show", "test_recipes",
  "test_world", "test_report", "test_looks", "test_tensorboard", "test_screen", "test_words", "test_sweep",
  "test_lockstep", "test_repl",
} do
  if #arg == 0 or table.concat(arg, " "):find(name, 1, true) then require(name) end
end
os.exit(harness.summary())
