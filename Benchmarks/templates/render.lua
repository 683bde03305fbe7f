-- Renders the cases of a JSON file with the engine: `qlora-run render.lua CASES TEXTS`, for compare.py. Each line of the
-- result is [whether it worked, the text or the error].
local json = require "qlora.json"
local jinja = require "qlora.jinja"
local conversation = require "qlora.jinja.conversation"

local file <close> = assert(io.open(arg[1], "rb"))
local cases = jinja.read_json(file:read "a")
local out <close> = assert(io.open(arg[2], "wb"))
for i = 1, cases.n do
  local case = cases[i].map
  for _, key in ipairs(case.options and case.options.keys or {}) do case[key] = case.options.map[key] end
  local ok, text = pcall(conversation.render, case.template, case)
  out:write("[", tostring(ok), ",", json.encode(ok and text or tostring(text)), "]\n")
end
