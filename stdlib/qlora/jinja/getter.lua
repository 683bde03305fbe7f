--- Reads attributes by path, as `map(attribute="a.b.0")` does.
local attributes = require "qlora.jinja.attributes"
local values = require "qlora.jinja.values"

--- A function that reads "a.b.0" of a value; `default` stands in for what is undefined. nil gives the value itself.
return function(path, default)
  if path == nil then return function(value) return value end end
  local keys = {}
  if type(path) == "string" then
    for key in (path .. "."):gmatch "([^.]*)%." do
      keys[#keys + 1] = key:find "^%d+$" and math.tointeger(tonumber(key)) or key
    end
  else keys[1] = path end
  return function(value)
    for _, key in ipairs(keys) do
      value = attributes.item(value, key)
      if default ~= nil and values.is_undefined(value) then return default end
    end
    return value
  end
end
