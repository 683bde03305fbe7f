--- The command line of a run as text.
local native = require "qlora.native"
local word = require("qlora.format").word
local strict = require "qlora.strict"

--- The command line that repeats a run of the recipe `script`.
return function(script)
  local o, parts = native.options, { "qlora-run" }
  local function flag(name, value) table.move({ name, word(value) }, 1, 2, #parts + 1, parts) end
  for _, key in ipairs(strict.sorted_keys(o.set or {})) do flag("--set", key .. "=" .. o.set[key]) end
  if o.smoke then parts[#parts + 1] = "--smoke" end
  if o.seed then flag("--seed", o.seed) end
  if o.memory then flag("--memory", o.memory) end
  parts[#parts + 1] = word(script)
  local begins_with_dash = false
  for _, argument in ipairs(arg or {}) do begins_with_dash = begins_with_dash or argument:sub(1, 1) == "-" end
  if begins_with_dash then parts[#parts + 1] = "--" end
  for _, argument in ipairs(arg or {}) do parts[#parts + 1] = word(argument) end
  return table.concat(parts, " ")
end
