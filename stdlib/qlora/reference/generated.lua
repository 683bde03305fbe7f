--- The files that are made from the reference: { path = text }.
local annotations = require "qlora.reference.annotations"
local markdown = require "qlora.reference.markdown"

return function()
  return {
    ["docs/lua-reference.md"] = markdown(),
    ["stdlib/meta/qlora.gen.lua"] = annotations.library(),
    ["stdlib/meta/native.gen.lua"] = annotations.natives(),
  }
end
