--- The commands of the program: `qlora-run NAME …`. Each is a file of stdlib/qlora/commands that returns its
--- declaration:
---   usage      what follows the name
---   flags      { { "--port", "N", "sentence", kind = "count", default = 8080 }, … }; { "--x", false, … } has no value
---   recipe     true where it runs a recipe, so that --plan, --smoke, --set and --resume mean something
---   parameters text that has each parameter of that recipe as `name = `
---   least      how many arguments it needs; most, how many it takes
---   run        function(options, arguments); a path that it returns is run as a recipe
--- Parsing, help, shell completion and the manual page read it. The first comment of the file says what it does.
local native = require "qlora.native"
local suggest = require "qlora.suggest"

local command_line = {}

local Usage = { __tostring = function(self) return self.message end }

--- Ends the program with exit code 2 and a message.
function command_line.fail(format, ...)
  error(setmetatable({ exit_code = 2, message = format:format(...) }, Usage), 0)
end

local function folder() return native.resource "stdlib/qlora/commands" end

--- The comment at the top of a Lua file: its first line, and all of it.
function command_line.comment(path)
  local lines = {}
  for line in io.lines(path) do
    local text = line:match "^%-%-+ ?(.*)$"
    if not text then break end
    lines[#lines + 1] = text
  end
  return lines[1] or "", table.concat(lines, "\n")
end

--- Names of the commands, sorted.
function command_line.names()
  local names = {}
  for _, file in ipairs(native.list_dir(folder())) do names[#names + 1] = file:match "^(%l+)%.lua$" end
  return names
end

--- The declaration of a command with its `name`, `summary` and `about`.
function command_line.command(name)
  local command = require("qlora.commands." .. name)
  command.name, command.flags = name, command.flags or {}
  command.summary, command.about = command_line.comment(("%s/%s.lua"):format(folder(), name))
  return command
end

local function flag_named(command, name)
  for _, flag in ipairs(command.flags) do
    if flag[1] == name then return flag end
  end
end

--- "--top-p" is `top_p` in the options.
local function key_of(flag) return (flag[1]:gsub("^%-+", ""):gsub("%-", "_")) end

-- The command that runs; none while the recipe does that it named.
local running

--- Whether the command that runs has a flag.
function command_line.has_flag(name) return running ~= nil and flag_named(running, name) ~= nil end

local function unknown(command, word)
  local parameter = key_of { word }
  if command.parameters and command.parameters:find("%f[%w_]" .. parameter:gsub("%W", "%%%0") .. " = ") then
    command_line.fail("%s: '%s' is no flag but a parameter of the recipe: --set %s=VALUE", command.name, word,
      parameter)
  end
  local known = {}
  for i, flag in ipairs(command.flags) do known[i] = flag[1] end
  for _, flag in ipairs(require("qlora.program_flags").flags) do
    if flag.group == "run" then known[#known + 1] = flag.names[#flag.names] end
  end
  command_line.fail("%s: unknown flag '%s'%s", command.name, word,
    suggest.meant(suggest.nearest(word, known)) or "; see qlora-run --help " .. command.name)
end

local function convert(command, flag, text)
  if flag.kind ~= "number" and flag.kind ~= "count" then return text end
  local number = tonumber(text)
  if flag.kind == "count" then number = number and math.tointeger(number) end
  local least, most = flag.at_least or (flag.kind == "count" and 1 or -math.huge), flag.at_most or math.huge
  if not number or number < least or number > most or number ~= number then
    local range = flag.at_most and (" from %g to %g"):format(least, most)
      or least > -math.huge and (" of at least %g"):format(least) or ""
    command_line.fail("%s: %s needs a %snumber%s, got '%s'", command.name, flag[1],
      flag.kind == "count" and "whole " or "", range, text)
  end
  return number
end

--- The options and the arguments of a command from its words.
function command_line.parse(command, words)
  local options, arguments, i = {}, {}, 1
  for _, flag in ipairs(command.flags) do
    options[key_of(flag)] = flag.default
    if flag.list then options[key_of(flag)] = {} end
  end
  while words[i] do
    local word = words[i]
    local name, attached = word:match "^(%-%-[^=]+)=(.*)$"
    if word == "--" then
      table.move(words, i + 1, #words, #arguments + 1, arguments)
      break
    elseif word:sub(1, 1) == "-" and word ~= "-" then
      local flag = flag_named(command, name or word)
      if not flag then unknown(command, name or word) end
      if not flag[2] then
        if attached then command_line.fail("%s: %s takes no value", command.name, flag[1]) end
        options[key_of(flag)] = true
      else
        if not attached then
          i = i + 1
          attached = words[i]
        end
        if not attached then
          command_line.fail("%s: %s needs a value: %s %s", command.name, flag[1], flag[1], flag[2])
        end
        local value = convert(command, flag, attached)
        if flag.list then table.insert(options[key_of(flag)], value) else options[key_of(flag)] = value end
      end
    else
      arguments[#arguments + 1] = word
    end
    i = i + 1
  end
  return options, arguments
end

--- Flags of a recipe's run that a command would leave unread.
local function check_run_flags(command)
  if command.recipe then return end
  local o = native.options
  local given = next(o.set or {}) and "--set" or o.plan and "--plan" or o.smoke and "--smoke" or o.resume and "--resume"
  if given then command_line.fail("%s: %s is for recipes; this command does not read it", command.name, given) end
end

--- What `qlora-run --help NAME` says of a command.
function command_line.help(name)
  local command = command_line.command(name)
  local lines = { ("usage: qlora-run %s %s"):format(name, command.usage or ""), "", command.about }
  if command.flags[1] then lines[#lines + 1] = "" end
  for _, flag in ipairs(command.flags) do
    local form = flag[1] .. (flag[2] and " " .. flag[2] or "")
    local default = flag.default ~= nil and (" (default %s)"):format(tostring(flag.default)) or ""
    lines[#lines + 1] = ("  %-22s %s%s"):format(form, flag[3], default)
  end
  return table.concat(lines, "\n")
end

--- Runs a command; returns the path of a recipe to be run, or nothing.
function command_line.main(name, words)
  local command = command_line.command(name)
  for _, word in ipairs(words) do
    if word == "--" then break end
    if (word == "--help" or word == "-h") and name ~= "help" then
      print(command_line.help(name))
      return
    end
  end
  check_run_flags(command)
  local options, arguments = command_line.parse(command, words)
  local least, most = command.least or 0, command.most or math.huge
  if #arguments < least or #arguments > most then
    command_line.fail("%s: %s\nusage: qlora-run %s %s", name,
      #arguments < least and "something is missing" or ("nobody reads '%s'"):format(arguments[most + 1]), name,
      command.usage or "")
  end
  for _, flag in ipairs(command.flags) do
    if flag.required and options[key_of(flag)] == nil then
      command_line.fail("%s: %s is missing\nusage: qlora-run %s %s", name, flag[1], name, command.usage or "")
    end
  end
  running = command
  local ok, recipe = pcall(command.run, options, arguments)
  running = nil
  if not ok then -- the line of the library says nothing to whom types a command
    local place = native.resource "stdlib/qlora/"
    local function plain(text) return text:sub(1, #place) == place and text:gsub("^.-%.lua:%d+: ", "", 1) or text end
    if type(recipe) == "string" then error(plain(recipe), 0) end
    if type(recipe) == "table" and type(recipe.message) == "string" then recipe.message = plain(recipe.message) end
    error(recipe, 0)
  end
  if recipe then -- as if it had been named on the command line
    native.options.script = recipe
    for i = #arg, 1, -1 do rawset(arg, i, nil) end
    rawset(arg, 0, recipe)
  end
  return recipe
end

return command_line
