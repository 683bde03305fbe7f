--- The recipes that ship.
local native = require "qlora.native"
local command_line = require "qlora.command_line"
local suggest = require "qlora.suggest"

local shipped = {}

local function folder() return native.resource "recipes" end

--- Names with the first line of each recipe; those in a folder after the others, as folder/name.
function shipped.recipes()
  local list = {}
  local function add(place, prefix)
    local folders = {}
    for _, name in ipairs(native.list_dir(place)) do
      local base = name:match "^(.+)%.lua$"
      if base then
        list[#list + 1] = { name = prefix .. base, line = command_line.comment(place .. "/" .. name) }
      elseif not name:find(".", 1, true) then
        folders[#folders + 1] = name
      end
    end
    for _, name in ipairs(folders) do add(place .. "/" .. name, prefix .. name .. "/") end
  end
  add(folder(), "")
  return list
end

--- The path of a recipe by its name, with or without ".lua"; nil and the nearest name where none is called so.
function shipped.path(name)
  local base = name:gsub("%.lua$", ""):gsub("^recipes/", "")
  local names = {}
  for i, recipe in ipairs(shipped.recipes()) do
    if recipe.name == base then return ("%s/%s.lua"):format(folder(), base) end
    names[i] = recipe.name
  end
  return nil, suggest.nearest(base, names, 1)[1]
end

return shipped
