--- what is known of a command, a flag, a recipe or a name of the library; without one, the usage
local command_line = require "qlora.command_line"
local program = require "qlora.program_flags"

local function of_flag(word)
  for _, flag in ipairs(program.flags) do
    for _, name in ipairs(flag.names) do
      if name == word or name == "--" .. word then
        return ("%s%s\n  %s"):format(table.concat(flag.names, ", "), flag.value and " " .. flag.value or "", flag.help)
      end
    end
  end
end

local function of_command(word)
  for _, name in ipairs(command_line.names()) do
    if name == word then return command_line.help(name) end
  end
end

local function of_recipe(word)
  local path = require("qlora.shipped").path(word)
  if path then return ("%s, a recipe that ships: %s\n"):format(word, path) .. select(2, command_line.comment(path)) end
end

return {
  usage = "[COMMAND | FLAG | RECIPE | NAME]", most = 1,
  run = function(_, arguments)
    local word = arguments[1]
    if not word then return print(program.usage) end
    require "qlora"
    local text = of_command(word) or of_flag(word) or of_recipe(word) or require("qlora.repl.help").of_name(word)
    if text then
      print(text)
    else
      command_line.fail("nothing is known about '%s'; qlora-run --help lists commands and flags", word)
    end
  end,
}
