-- luacheck over all Lua: `make lint`.
std = "lua54"
max_line_length = false -- Tests/LuaTests/test_recipes.lua counts characters; luacheck would count bytes
self = false -- methods of stand-ins and of classes need not read it
ignore = {
  "431/self", -- objects made by a function with a `self` of its own
  "581", -- `not (x <= y)` is how NaN is told
}
exclude_files = {
  "stdlib/meta", -- LuaLS annotations: functions without bodies
  "Tests/LuaTests/golden",
}

-- Under --smoke, functions of Lua that make files go by the run's folder.
files["stdlib/qlora/scratch.lua"] = { globals = {
  "io.open", "io.lines", "io.input", "io.output", "os.remove", "os.rename", "os.tmpname" } }
-- The harness captures what is printed, and one test misspells a global on purpose.
files["Tests/LuaTests/harness.lua"] = { globals = { "print", "io.write", "os.getenv" } }
files["Tests/LuaTests/test_screen.lua"] = { globals = { "io.write", "os.getenv" } }
files["Tests/LuaTests/test_recipes.lua"] = { globals = { "io.open" } }
files["Tests/LuaTests/mistakes.lua"] = { globals = { "modle", "None" } }
-- The prompt's statements set globals of the session.
files["Tests/LuaTests/test_repl.lua"] = {
  globals = { "x9", "a9", "b9", "fresh9", "here9", "_hidden", "inner9", "n9", "deep9", "f" },
}
