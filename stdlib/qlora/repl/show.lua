--- Results as text: values with a `__tostring` as it gives them, tables as indented Lua, long ones cut short.
local show = {}

local most, deepest, wide = 40, 4, 100

local function is_plain(value)
  if type(value) ~= "table" then return false end
  local meta = debug.getmetatable(value)
  return not (meta and (meta.__tostring or meta.__name))
end

--- Integers before other keys, names in alphabetical order.
local function before(a, b)
  local x, y = type(a), type(b)
  if x == "number" and y == "number" then return a < b end
  if x ~= y then return x == "number" or (y ~= "number" and x < y) end
  return tostring(a) < tostring(b)
end

local function quoted(text) return (("%q"):format(text):gsub("\\\n", "\\n"):gsub("\r", "\\r"):gsub("\0", "\\0")) end

--- A number that 32 bits hold, in the seven digits that they hold; others as Lua gives them.
local function number_text(value)
  if math.type(value) == "float" and value - value == 0 and math.abs(value) < 1e38 then
    local short = ("%.7g"):format(value)
    if value ~= tonumber(short) and string.unpack("<f", string.pack("<f", value)) == value
      and string.pack("<f", value) == string.pack("<f", tonumber(short)) then return short end
  end
  return tostring(value)
end

local text_of

local function key_text(key)
  if type(key) == "string" and key:match("^[%a_][%w_]*$") then return key end
  return "[" .. text_of(key, deepest, {}, "") .. "]"
end

--- `{ 1, 2, name = … }` on one line when short, else one entry a line.
local function table_text(value, depth, seen, indent)
  if seen[value] then return "{ … itself }" end
  if next(value) == nil then return "{}" end
  if depth >= deepest then return "{ … }" end
  seen[value] = true
  local count, keys = #value, {}
  for key in pairs(value) do
    if not (math.type(key) == "integer" and key >= 1 and key <= count) then keys[#keys + 1] = key end
  end
  table.sort(keys, before)
  local inner, parts, total = indent .. "  ", {}, count + #keys
  for i = 1, math.min(count, most) do parts[i] = text_of(value[i], depth + 1, seen, inner) end
  for i = 1, math.min(#keys, most - #parts) do
    parts[#parts + 1] = key_text(keys[i]) .. " = " .. text_of(value[keys[i]], depth + 1, seen, inner)
  end
  if total > #parts then parts[#parts + 1] = ("… %d entries"):format(total) end
  seen[value] = nil
  local line = "{ " .. table.concat(parts, ", ") .. " }"
  if utf8.len(line) and utf8.len(line) + #indent <= wide and not line:find("\n", 1, true) then return line end
  return ("{\n%s%s\n%s}"):format(inner, table.concat(parts, ",\n" .. inner), indent)
end

function text_of(value, depth, seen, indent)
  if type(value) == "string" then
    if #value > 200 then value = value:sub(1, utf8.offset(value, 0, 200) - 1) .. "…" end
    return quoted(value)
  end
  if type(value) == "number" then return number_text(value) end
  if is_plain(value) then return table_text(value, depth, seen, indent) end
  return (tostring(value):gsub("\n", "\n" .. indent))
end

--- The text of a result: strings as they are, tables as Lua.
function show.value(value)
  if type(value) == "string" then return value end
  if type(value) == "function" then -- how it is called, and the first line about it
    local known, text = pcall(require("qlora.repl.help").of_value, value)
    if known then return (text:match "^[^\n]*\n[^\n]*" or text) .. "\n  (? and its name say more)" end
  end
  return text_of(value, 0, {}, "")
end

--- The text of several results: side by side, or below each other when one has several lines.
function show.values(list)
  local texts, separator = {}, "\t"
  for i = 1, list.n do
    texts[i] = show.value(list[i])
    if texts[i]:find("\n", 1, true) then separator = "\n" end
  end
  return table.concat(texts, separator)
end

return show
