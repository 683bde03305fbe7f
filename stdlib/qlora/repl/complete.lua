--- Tab: what may stand at the cursor, from the live state. Nothing is called to find out: names are looked up in tables
--- and in fields of bound objects only.
local native = require "qlora.native"
local files = require "qlora.repl.files"
local options = require "qlora.repl.options"
local topics = require "qlora.repl.topics"

local complete = {}

local keywords = { "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in",
  "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while" }

--- The position of the quote that opens a string around the end of `text`; nil outside strings, false in a comment.
local function open_quote(text)
  local i, quote, from = 1, nil, nil
  while i <= #text do
    local c = text:sub(i, i)
    if quote then
      if c == "\\" then i = i + 1 elseif c == quote then quote = nil end
    elseif c == '"' or c == "'" then
      quote, from = c, i
    elseif text:find("^%-%-", i) then
      local line_end = text:find("\n", i, true)
      if not line_end then return false end
      i = line_end
    elseif text:find("^%[%[", i) then
      local _, closed = text:find("]]", i + 2, true)
      if not closed then return false end
      i = closed
    end
    i = i + 1
  end
  return quote and from
end

--- A field of a table or a bound object without running Lua code; nil when there is none.
local function field(value, name)
  if type(value) == "string" then return string[name] end
  for _ = 1, 10 do
    if type(value) == "userdata" then
      local ok, found = pcall(function() return value[name] end)
      return ok and found or nil
    end
    if type(value) ~= "table" then return nil end
    local found = rawget(value, name)
    if found ~= nil then return found end
    local meta = debug.getmetatable(value)
    if not meta or type(meta.__index) ~= "table" then return nil end
    value = meta.__index
  end
end

--- The value of a path such as `model.tokenizer`, `t[2].x`; nil when it has none, or calls something.
local function resolve(path, names)
  local first, rest = path:match("^([%a_][%w_]*)(.*)$")
  if not first then return nil end
  local value = names and names[first]
  if value == nil then value = rawget(_G, first) end
  while rest ~= "" and value ~= nil do
    local name, after = rest:match("^[.:]([%a_][%w_]*)(.*)$")
    if not name then
      local index
      index, after = rest:match("^%[([^%]]+)%](.*)$")
      name = index and (math.tointeger(tonumber(index)) or index:match("^['\"](.*)['\"]$"))
      if not name then return nil end
    end
    value, rest = field(value, name), after
  end
  return value
end

--- Adds the string keys of a table, and of those its metatable leads to.
local function add_keys(value, add)
  local meta = debug.getmetatable(value)
  if meta and meta.__pairs and meta.__name == "params" then -- the knobs of a recipe, kept apart from their table
    for key in pairs(value) do add(key) end
  end
  for _ = 1, 10 do
    for _, key in ipairs(topics.keys(value)) do add(key, rawget(value, key)) end
    meta = debug.getmetatable(value)
    local behind = meta and meta.__index
    -- A class that is its own index by a function keeps its methods in the metatable.
    if type(behind) == "function" then behind = meta.__name and meta or nil end
    if type(behind) ~= "table" or behind == value then return end
    value = behind
  end
end

--- The names after `value.` or `value:`.
local function members(value, separator)
  local names = {}
  local function add(name, member)
    local callable = type(member) == "function"
    if name:match("^[%a_][%w_]*$") and not name:find "^__" and (separator == "." or callable) then
      names[#names + 1] = name
    end
  end
  if type(value) == "userdata" then
    local class = native.members((debug.getmetatable(value) or {}).__name or "")
    return class and class[separator == "." and "fields" or "methods"] or {}
  end
  if type(value) == "string" then value = string end
  if type(value) == "table" then add_keys(value, add) end
  return names
end

--- Names of the modules of a model that start with `partial`, up to the next dot: a model has hundreds.
local function module_names(model, partial)
  local names = {}
  for module in model:modules() do
    local name = module.name
    if name:sub(1, #partial) == partial then
      names[#names + 1] = name:sub(1, (name:find(".", #partial + 1, true) or #name))
    end
  end
  return names
end

--- Candidates inside a string: what the call before the quote takes, else files.
local function in_string(before, partial, names)
  if before:find("require%s*%(?%s*$") then return files.modules(partial) end
  if before:find("help%s*%(?%s*$") then return topics.names() end
  local receiver, method = before:match("([%w_.%[%]]+):([%w_]+)%s*%(?%s*$")
  if method == "module" or method == "find" or method == "hook" then
    local model = resolve(receiver, names)
    if type(model) == "userdata" and native.members("Model") and debug.getmetatable(model).__name == "Model" then
      return module_names(model, partial)
    end
  end
  return files.paths(partial)
end

--- The sorted, distinct candidates that start with `partial`.
local function matching(candidates, partial)
  local found, seen = {}, {}
  for _, candidate in ipairs(candidates) do
    if candidate:sub(1, #partial) == partial and not seen[candidate] then
      seen[candidate] = true
      found[#found + 1] = candidate
    end
  end
  table.sort(found)
  return found
end

--- Where the part to be replaced starts in `text` (the line up to the cursor), and what may replace it. `pending`: the
--- lines before it of an unfinished statement; `names`: a table of names seen before the globals.
function complete.at(text, pending, names)
  local earlier = pending and pending ~= "" and pending .. "\n" or ""
  local quote = open_quote(earlier .. text)
  if quote == false then return #text + 1, {} end
  if quote then
    local all = earlier .. text
    local partial = all:sub(quote + 1)
    return #text - #partial + 1, matching(in_string(all:sub(1, quote - 1), partial, names), partial)
  end
  local asked, topic = text:match("^(%s*%?%s*)([%w_.:]*)$")
  if asked and not topic:find("[.:]") then
    local list = matching(topics.names(), topic)
    if list[1] then return #asked + 1, list end
  end
  local path, separator, partial = text:match("([%a_][%w_.:%[%]'\"]*)([.:])([%w_]*)$")
  if path and not text:find("%.%.[%w_]*$") then
    local value = resolve(path, names)
    return #text - #partial + 1, matching(members(value, separator), partial)
  end
  partial = text:match("[%a_][%w_]*$") or ""
  local taken = matching(options.at(earlier .. text), partial)
  if taken[1] then return #text - #partial + 1, taken end
  local candidates = table.move(keywords, 1, #keywords, 1, {})
  for _, place in ipairs { names or {}, _G } do
    for _, key in ipairs(topics.keys(place)) do candidates[#candidates + 1] = key end
  end
  return #text - #partial + 1, matching(candidates, partial)
end

return complete
