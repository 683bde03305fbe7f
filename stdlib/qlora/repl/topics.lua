--- The names `help` knows: every public function and table of the library by its path, every bound class and method.
local native = require "qlora.native"
local strict = require "qlora.strict"

local topics = {}

-- What is not part of the public surface, or would lead around in circles.
local hidden = { native = true }

local function walk(place, path, found, seen)
  if seen[place] then return end
  seen[place] = true
  for _, key in ipairs(topics.keys(place)) do
    local value = rawget(place, key)
    if not (path == "qlora" and hidden[key]) then
      local name = path .. "." .. key
      if type(value) == "function" then
        found[name] = value
      elseif type(value) == "table" then
        found[name] = value
        walk(value, name, found, seen)
      end
    end
  end
end

--- The sorted string keys of a table.
function topics.keys(place)
  local keys = {}
  for key in next, place do
    if type(key) == "string" then keys[#keys + 1] = key end
  end
  table.sort(keys)
  return keys
end

--- { ["qlora.select.layers"] = value }: what can be reached from `qlora`.
function topics.library()
  local found = {}
  walk(require "qlora", "qlora", found, {})
  return found
end

--- The functions of `qlora.native` by dotted name, those inside tables too.
function topics.natives()
  local found = {}
  local function collect(place, prefix)
    for _, key in ipairs(topics.keys(place)) do
      local value = place[key]
      if type(value) == "function" then found[prefix .. key] = value
      elseif type(value) == "table" and value ~= native.options then collect(value, prefix .. key .. ".") end
    end
  end
  collect(native, "")
  return found
end

--- The methods of a bound class: { name = function }, those that Lua added too.
function topics.methods(class) return native.methods(class) end

--- Every name that help takes, sorted.
function topics.names()
  local names = {}
  for name in pairs(topics.library()) do names[#names + 1] = name end
  for _, class in ipairs(native.classes()) do
    names[#names + 1] = class
    for _, method in ipairs(strict.sorted_keys(topics.methods(class))) do names[#names + 1] = class .. ":" .. method end
  end
  table.sort(names)
  return names
end

--- The shortest path under which a value is reached from `qlora`, nil when it is not.
function topics.path_of(value)
  local best
  for name, candidate in pairs(topics.library()) do
    if rawequal(candidate, value) and (not best or #name < #best or #name == #best and name < best) then best = name end
  end
  return best
end

return topics
