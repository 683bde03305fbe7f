--- The files that are made from the reference: { path = text }.
local annotations = require "qlora.reference.annotations"
local markdown = require "qlora.reference.markdown"

-- What recipes require beside `qlora`.
local modules = { "format", "report_compare", "world" }

return function()
  local files = {
    ["docs/lua-reference.md"] = markdown(),
    ["stdlib/meta/qlora.gen.lua"] = annotations.library(),
    ["stdlib/meta/native.gen.lua"] = annotations.natives(),
  }
  for _, name in ipairs(modules) do files[("stdlib/meta/%s.gen.lua"):format(name)] = annotations.module(name) end
  return files
end
