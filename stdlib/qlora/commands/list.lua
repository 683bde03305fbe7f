--- the recipes that ship, each with a line about it
local native = require "qlora.native"
local shipped = require "qlora.shipped"

return {
  most = 0,
  run = function()
    local recipes, width = shipped.recipes(), 0
    for _, recipe in ipairs(recipes) do width = math.max(width, #recipe.name) end
    local room = native.isatty(1) and math.max(20, native.terminal_width() - width - 2) or math.huge
    for _, recipe in ipairs(recipes) do
      local line = recipe.line
      if #line > room then line = line:sub(1, room - 3):gsub("%s+%S*$", "") .. " …" end
      print(("%-" .. width .. "s  %s"):format(recipe.name, line))
    end
  end,
}
