--- How whoever started the program says an option: by a flag of the command that runs, by a parameter of the recipe, or
--- in the call, so that an error names what was typed.
local command_line = require "qlora.command_line"
local params = require "qlora.params"

--- @param key string the option, such as "template"
--- @param value string what is to be given for it
--- @return string such as `--template chatml`, `--set template=chatml` or `template = "chatml"`
return function(key, value)
  local flag = "--" .. key:gsub("_", "-")
  if command_line.has_flag(flag) then return ("%s %s"):format(flag, value) end
  if params.resolved and params.resolved[key] ~= nil then return ("--set %s=%s"):format(key, value) end
  return ('%s = "%s"'):format(key, value)
end
