--- JSON files that hold an object, and checks of what they say: an error names the file and the field.
local is_list = require("qlora.data.fields").is_list
local json = require "qlora.json"

local json_file = {}

-- Kinds that are no types of Lua.
local is = { list = is_list, ["whole number"] = function(value) return math.type(value) == "integer" end }

local function got(value)
  local kind = type(value)
  if kind == "nil" then return "null" end
  if kind == "number" or kind == "boolean" then return tostring(value) end
  if kind ~= "table" or type(next(value)) ~= "number" then return "a " .. kind end
  return is_list(value) and "a list" or "a list with a null"
end

local function check_object(place, value)
  local fits = type(value) == "table"
  for key in pairs(fits and value or {}) do fits = fits and type(key) == "string" end
  if not fits then error(("%s: an object expected, got %s"):format(place, got(value)), 0) end
end

local function check_field(place, key, value, kind)
  local outer, inner = kind:match "^(%a+) of (%a+)s$"
  outer = outer or kind
  local fits = is[outer]
  if fits and not fits(value) or not fits and type(value) ~= outer then
    error(("%s: %s must be a %s, got %s"):format(place, key, kind, got(value)), 0)
  end
  local inside = ("%s: %s"):format(place, key)
  if outer == "table" then check_object(inside, value) end
  for name, item in pairs(inner and value or {}) do check_field(inside, name, item, inner) end
end

--- Raises where a value is no object, or a field of it is not what `kinds` says; an absent one is none.
--- @param place string where it stands, for the error
--- @param value any what was read
--- @param kinds table kinds by name: a type of Lua, where a table has names alone; "whole number", "list"; "table of
---   strings", "list of numbers" and the like
--- @return table the value
function json_file.check(place, value, kinds)
  check_object(place, value)
  for key, kind in pairs(kinds) do
    if value[key] ~= nil then check_field(place, key, value[key], kind) end
  end
  return value
end

--- The object in a file, checked; nil without the file.
--- @param path string the file
--- @param kinds table as `check` takes them
--- @return table|nil the object
function json_file.read(path, kinds)
  local file <close> = io.open(path, "rb")
  if not file then return nil end
  local text, problem = file:read "a"
  if not text then error(("%s: %s"):format(path, problem), 0) end
  local ok, value = pcall(json.decode, text)
  if not ok then error(("%s: %s"):format(path, value), 0) end
  return json_file.check(path, value, kinds)
end

return json_file
