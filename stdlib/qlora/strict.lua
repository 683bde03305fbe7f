--- Option tables that do not swallow mistakes: unknown keys and wrong types are errors at the recipe's own line.
local native = require "qlora.native"
local suggest = require "qlora.suggest"

local strict = {}

-- What the functions of the library take, by the name under which a recipe calls them.
local declared = {}

--- Declares the options of a function, so that one that is given to another function finds its way; returns `schema`.
function strict.declare(name, schema)
  declared[name] = schema
  return schema
end

-- Every frame whose chunk lies beside this one is the library's, so the first frame elsewhere is the caller's.
local library = debug.getinfo(1, "S").source:match("^(.*)strict%.lua$") or "@qlora/"

--- "recipe.lua:12: " of the nearest caller outside the standard library ("" when there is none).
function strict.caller()
  local level = 2
  while true do
    local info = debug.getinfo(level, "Sl")
    if not info then return "" end
    if info.what ~= "C" and info.currentline > 0 and info.source:sub(1, #library) ~= library then
      return ("%s:%d: "):format(info.short_src, info.currentline), info
    end
    level = level + 1
  end
end

--- Raises a formatted error that points to the caller's line.
function strict.fail(format, ...)
  local position = strict.caller()
  error(position .. format:format(...), 0)
end

local function sorted_keys(schema)
  local keys = {}
  for key in pairs(schema) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    if type(a) == type(b) and type(a) ~= "table" and type(a) ~= "boolean" then return a < b end
    return tostring(a) < tostring(b)
  end)
  return keys
end
strict.sorted_keys = sorted_keys

--- Whether `value` is of a kind named in `kinds` ("integer|string"). Besides Lua's types: integer, positive (a number >
--- 0), count (an integer >= 1), object (userdata or table), callable.
local function matches(value, kinds)
  for kind in kinds:gmatch("[^|]+") do
    if kind == type(value)
      or kind == "integer" and math.tointeger(value) and type(value) == "number"
      or kind == "positive" and type(value) == "number" and value > 0
      or kind == "count" and type(value) == "number" and math.tointeger(value) and value >= 1
      or kind == "object" and (type(value) == "userdata" or type(value) == "table")
      or kind == "callable" and (type(value) == "function" or (getmetatable(value) or {}).__call ~= nil) then
      return true
    end
  end
  return false
end

local wording = {
  positive = "a number above 0", count = "a whole number of at least 1", object = "an object", callable = "a function",
  integer = "a whole number",
}

local function describe(kinds)
  local words = {}
  for kind in kinds:gmatch("[^|]+") do words[#words + 1] = wording[kind] or ("a " .. kind) end
  return table.concat(words, " or ")
end

--- What a value is, for messages: `"text"`, `5`, `nil`, `a table`, `a Model`.
function strict.show(value)
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) == "number" or type(value) == "boolean" or value == nil then return tostring(value) end
  local meta = getmetatable(value)
  local name = type(meta) == "string" and meta or type(meta) == "table" and rawget(meta, "__name") or type(value)
  return "a " .. name
end
local show = strict.show

--- The remedy for option `key`: what `hints` says of it, or nothing.
local function hint(hints, key)
  return hints and hints[key] and "; " .. hints[key] or ""
end

--- Where option `key` belongs when it is not the caller's: `; it is an option of qlora.train`, or nothing.
local function belongs(key)
  local owners = {}
  for _, name in ipairs(sorted_keys(declared)) do
    if declared[name][key] then owners[#owners + 1] = name end
  end
  if #owners == 0 then owners = native.option_owners(tostring(key)) end
  if #owners == 0 then return "" end
  local more = #owners > 3 and ", …" or ""
  return ("; it is an option of %s%s"):format(table.concat(owners, ", ", 1, math.min(3, #owners)), more)
end

--- Checks `options` against `schema` = { key = kinds }; a kinds string that starts with "!" marks a required key.
--- `hints` = { key = what to write } ends the message when that key is missing or of the wrong type.
--- Returns a shallow copy (so defaults may be filled in without touching the caller's table).
function strict.options(name, options, schema, hints)
  if options == nil then options = {} end
  if type(options) ~= "table" then
    strict.fail("%s: expected a table of options such as { %s = … }, got %s", name, sorted_keys(schema)[1] or "key",
      show(options))
  end
  local copy, unknown = {}, {}
  for _, key in ipairs(sorted_keys(options)) do
    local kinds = schema[key]
    if not kinds and type(key) == "number" then
      strict.fail("%s: %s stands in the options without a name; write name = value, with one of: %s", name,
        show(options[key]), table.concat(sorted_keys(schema), ", "))
    end
    if not kinds then
      unknown[#unknown + 1] = ("unknown option '%s'%s"):format(tostring(key),
        suggest.phrase(key, sorted_keys(schema), belongs(key)))
    end
    kinds = (kinds or "any"):gsub("^!", "")
    if kinds ~= "any" and not matches(options[key], kinds) then
      strict.fail("%s: option '%s' must be %s, got %s%s", name, key, describe(kinds), show(options[key]),
        hint(hints, key))
    end
    copy[key] = options[key]
  end
  if #unknown > 0 then strict.fail("%s: %s", name, table.concat(unknown, "; ")) end
  for _, key in ipairs(sorted_keys(schema)) do
    if schema[key]:sub(1, 1) == "!" and copy[key] == nil then
      strict.fail("%s: option '%s' is missing (or nil)%s", name, key, hint(hints, key))
    end
  end
  return copy
end

--- `value` must be one of `words`; returns it.
function strict.one_of(name, option, value, words)
  for _, word in ipairs(words) do
    if word == value then return value end
  end
  local nearest = suggest.nearest(tostring(value), words, 1)[1]
  return strict.fail("%s: option '%s' has no choice %s%s; choices: %s", name, option, show(value),
    nearest and (' (did you mean "%s"?)'):format(nearest) or "", table.concat(words, ", "))
end

--- Makes a missing field of the library table `name` an error with the nearest right one, not a nil that fails later.
function strict.namespace(name, fields)
  local meta = getmetatable(fields) or {}
  meta.__index = function(_, key)
    strict.fail("%s has no '%s'%s", name, tostring(key), suggest.phrase(tostring(key), sorted_keys(fields)))
  end
  return setmetatable(fields, meta)
end

return strict
