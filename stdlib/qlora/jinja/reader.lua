--- Lua and JSON values as values of a template.
local values = require "qlora.jinja.values"

local reader = {}

--- A Lua value: tables with elements 1…n and nothing else are lists, other tables dicts with their keys sorted, since
--- Lua keeps no order; an empty table is a list. Values of a template stay what they are.
function reader.lua(value, depth)
  depth = depth or 1
  if value == nil then return values.None end
  if type(value) ~= "table" then
    if type(value) == "userdata" or type(value) == "function" or type(value) == "thread" then
      values.fail("a %s cannot be given to a template", type(value))
    end
    return value
  end
  if values.kind(value) ~= "object" or value == values.None then return value end
  if depth > 100 then values.fail "values are nested too deeply" end
  local count = 0
  for _ in pairs(value) do count = count + 1 end
  if #value == count then
    local list = {}
    for i = 1, count do list[i] = reader.lua(value[i], depth + 1) end
    return values.list(list, count)
  end
  local keys, dict = {}, values.dict()
  for key in pairs(value) do
    if type(key) ~= "string" then
      values.fail("a table with the key %s is neither a list nor has names as keys", tostring(key))
    end
    keys[#keys + 1] = key
  end
  table.sort(keys)
  for _, key in ipairs(keys) do values.put(dict, key, reader.lua(value[key], depth + 1)) end
  return dict
end

local json = require "qlora.json"
local make = { null = values.None, list = values.list, dict = values.dict, put = values.put }

--- A JSON text: keys keep their order, null is None, {} is no list.
function reader.json(text)
  return json.decode(text, make)
end

return reader
