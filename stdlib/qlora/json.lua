--- Writes Lua values as JSON: one line, keys sorted, so that two equal tables give equal text.
local json = {}

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function quote(text)
  return '"' .. text:gsub('[%c"\\\127]', function(c)
    return escapes[c] or ("\\u%04x"):format(c:byte())
  end) .. '"'
end

local encode

local function encode_table(value, seen)
  if seen[value] then error("json: a table contains itself", 0) end
  seen[value] = true
  local parts, text = {}, nil
  if #value > 0 or next(value) == nil then
    for i = 1, #value do parts[i] = encode(value[i], seen) end
    text = "[" .. table.concat(parts, ",") .. "]"
  else
    local keys = {}
    for key in pairs(value) do keys[#keys + 1] = tostring(key) end
    table.sort(keys)
    for i, key in ipairs(keys) do
      local item = value[key]
      if item == nil then item = value[tonumber(key)] end
      parts[i] = quote(key) .. ":" .. encode(item, seen)
    end
    text = "{" .. table.concat(parts, ",") .. "}"
  end
  seen[value] = nil
  return text
end

function encode(value, seen)
  local kind = type(value)
  if kind == "nil" then return "null" end
  if kind == "boolean" then return tostring(value) end
  if kind == "string" then return quote(value) end
  if kind == "table" then return encode_table(value, seen) end
  if kind == "number" then
    if math.type(value) == "integer" then return tostring(value) end
    if value ~= value or value == math.huge or value == -math.huge then return "null" end -- JSON has no infinities
    for digits = 15, 17 do -- the shortest of these that reads back as the same number
      local text = ("%." .. digits .. "g"):format(value)
      if tonumber(text) == value then return text end
    end
  end
  return quote(tostring(value)) -- functions and userdata by their printed name
end

--- The JSON text of `value`; {} is written [] because Lua cannot tell an empty list from an empty map.
function json.encode(value)
  return encode(value, {})
end

return json
