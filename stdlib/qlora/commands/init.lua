--- a folder to work in: a recipe of one's own, and settings for editors and luacheck
---
--- DIR is made when absent; files that are there stay. The recipe is quickstart, or the one that --recipe names.
local native = require "qlora.native"
local command_line = require "qlora.command_line"
local format = require "qlora.format"
local json = require "qlora.json"
local shipped = require "qlora.shipped"
local suggest = require "qlora.suggest"

--- Settings of the language servers lua-language-server and EmmyLua: where the annotations lie. The library itself is
--- not among them, since its `qlora` would stand before the annotated one.
local function editor(path_key)
  local library = { native.resource "stdlib/meta" }
  return path_key == "lua" and json.encode {
    ["runtime.version"] = "Lua 5.4", ["runtime.path"] = { "?.lua", "?/init.lua" }, ["workspace.library"] = library,
    ["workspace.checkThirdParty"] = false, ["diagnostics.globals"] = { "arg" },
  } or json.encode {
    runtime = { version = "Lua5.4", requirePattern = { "?.lua", "?/init.lua" } }, workspace = { library = library },
    -- Lua's own functions are said to return nil where they fail; a recipe that does not ask then ends with an error.
    diagnostics = { globals = { "arg" }, disable = { "need-check-nil" } },
    strict = { arrayIndex = false },
  }
end

local luacheck = [[
-- luacheck .
std = "lua54"
max_line_length = 120
exclude_files = { "runs" }
]]

return {
  usage = "[DIR]", most = 1,
  flags = { { "--recipe", "NAME", "the recipe to begin with", default = "quickstart" } },
  run = function(o, arguments)
    local dir = arguments[1] or "."
    local recipe, near = shipped.path(o.recipe)
    if not recipe then
      command_line.fail("init: no recipe is called '%s'%s", o.recipe,
        suggest.meant(near) or "")
    end
    local file = assert(io.open(recipe, "rb"))
    local text = file:read "a"
    file:close()
    native.mkdir(dir)
    local name = recipe:match "[^/]+$"
    for _, entry in ipairs {
      { name, text }, { ".luarc.json", editor "lua" .. "\n" }, { ".emmyrc.json", editor "emmy" .. "\n" },
      { ".luacheckrc", luacheck },
    } do
      local path = dir .. "/" .. entry[1]
      if native.exists(path) then
        print("left     " .. path)
      else
        native.write_file(path, entry[2])
        print("wrote    " .. path)
      end
    end
    print(("next     cd %s && qlora-run %s"):format(format.word(dir), format.word(name)))
  end,
}
