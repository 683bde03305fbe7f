--- JSON text of Lua values and back. Written on one line with keys sorted, so that two equal tables give equal text.
local json = {}

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

--- A text with U+FFFD for each byte that is no UTF-8, since JSON has no other texts.
local function valid(text)
  local parts, from, _, wrong = {}, 1, utf8.len(text)
  while wrong do
    parts[#parts + 1] = text:sub(from, wrong - 1)
    from = wrong + 1
    _, wrong = utf8.len(text, from)
  end
  parts[#parts + 1] = text:sub(from)
  return table.concat(parts, "\u{FFFD}")
end

local function quote(text)
  if not utf8.len(text) then text = valid(text) end
  return '"' .. text:gsub('[%c"\\\127]', function(c)
    return escapes[c] or ("\\u%04x"):format(c:byte())
  end) .. '"'
end

local encode

local function encode_table(value, seen)
  if seen[value] then error("json: a table contains itself", 0) end
  seen[value] = true
  local parts, text = {}
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

--- The JSON text of a value, on one line with sorted keys, so that equal tables give equal text; {} is written []
--- because Lua cannot tell an empty list from an empty map.
--- @param value any a table, text, number or boolean
--- @return string the JSON text
--- @throws when a table contains itself
--- @example assert(qlora.json.encode({ b = 1, a = { true } }) == '{"a":[true],"b":1}')
function json.encode(value)
  return encode(value, {})
end

local unescaped = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }

local function bad(position, what) error(("json: %s expected at byte %d"):format(what, position), 0) end

--- The text between quotes; `at` is the first byte after the opening quote.
local function decode_string(text, at)
  local from, parts = at, {}
  while true do
    local stop = text:find('["\\\0-\31]', at)
    if not stop then bad(#text + 1, "closing quote") end
    local c = text:sub(stop, stop)
    parts[#parts + 1] = text:sub(from, stop - 1)
    if c == '"' then return table.concat(parts), stop + 1 end
    if c ~= "\\" then bad(stop, "no control character") end
    local escape, hex = text:sub(stop + 1, stop + 1), text:match("^u(%x%x%x%x)", stop + 1)
    if hex then
      local code, low = tonumber(hex, 16), text:match("^\\u(%x%x%x%x)", stop + 6)
      at = stop + 6
      low = low and tonumber(low, 16)
      if code >= 0xd800 and code < 0xdc00 and low and low >= 0xdc00 and low < 0xe000 then -- surrogates, one character
        code, at = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00), stop + 12
      end
      if code >= 0xd800 and code < 0xe000 then bad(stop, "both halves of a surrogate pair") end
      parts[#parts + 1] = utf8.char(code)
    else
      parts[#parts + 1] = unescaped[escape] or bad(stop + 1, "escape")
      at = stop + 2
    end
    from = at
  end
end

-- What both readers of JSON take, this one and that of the engine (JSON.depthLimit).
local deepest = 512

local words = { ["true"] = true, ["false"] = false }
local decode

-- Gives the place of what follows white space, and its first byte, "" at the end.
local next_byte = "^[ \t\r\n]*()(.?)"

--- The number at a place and the place behind it; nil where there is none. `first` is its first byte. One beyond the
--- doubles is an error.
local function decode_number(text, at, first)
  local whole, fraction, exponent, after = text:match("^(-?%d+)(%.?%d*)([eE]?[+-]?%d*)()", at)
  if not whole or fraction == "." or exponent ~= "" and not exponent:find "^[eE][+-]?%d"
    or (first == "0" or first == "-") and whole:find "^-?0%d" then
    return nil
  end
  local number = tonumber(whole .. fraction .. exponent)
  if number == math.huge or number == -math.huge then bad(at, "a number that a double holds") end
  return number, after
end

--- Members of an array or object up to its closing bracket; `item` reads one and returns the position after it.
local function decode_members(text, at, close, item)
  local c
  at, c = text:match(next_byte, at)
  if c == close then return at + 1 end
  while true do
    at, c = text:match(next_byte, item(at))
    if c == close then return at + 1 end
    if c ~= "," then bad(at, "',' or '" .. close .. "'") end
    at = at + 1
  end
end

--- `make` builds what a template sees instead of Lua's tables: null, list(items, count), dict(), put(dict, key, value).
--- Of a key that is repeated the last value is taken, as everywhere in the engine.
function decode(text, at, depth, make)
  local c
  at, c = text:match(next_byte, at)
  if c == '"' then return decode_string(text, at + 1) end
  if depth > deepest then bad(at, ("at most %d levels"):format(deepest)) end
  if c == "[" then
    local list, count = {}, 0
    at = decode_members(text, at + 1, "]", function(position)
      count = count + 1
      list[count], position = decode(text, position, depth + 1, make)
      return position
    end)
    return make and make.list(list, count) or list, at
  end
  if c == "{" then
    local map = make and make.dict() or {}
    return map, decode_members(text, at + 1, "}", function(position)
      local key
      position, key = text:match(next_byte, position)
      if key ~= '"' then bad(position, "a name in quotes") end
      key, position = decode_string(text, position + 1)
      position = text:match("^[ \t\r\n]*:()", position) or bad(position, "':'")
      local value
      value, position = decode(text, position, depth + 1, make)
      if make then make.put(map, key, value) else map[key] = value end
      return position
    end)
  end
  local number, after = decode_number(text, at, c)
  if number then return number, after end
  local word = text:match("^%a+", at)
  if word == "null" then return make and make.null, at + 4 end
  if word and words[word] ~= nil then return words[word], at + #word end
  return bad(at, "a value")
end

--- The Lua value of a JSON text; null is nil, so an absent key, or an element that a list lacks.
--- @param text string the JSON text
--- @param make? table builds other values instead: null, list(items, count), dict(), put(dict, key, value)
--- @return any the value
--- @throws for anything that is not one JSON value, with the byte
--- @example assert(qlora.json.decode('{"a":[1,2]}').a[2] == 2)
function json.decode(text, make)
  local is_valid, wrong = utf8.len(text)
  if not is_valid then bad(wrong, "UTF-8") end
  -- A byte order mark is what some editors put before the text.
  local value, after = decode(text, text:match "^\u{FEFF}()" or 1, 0, make)
  local rest, c = text:match(next_byte, after)
  if c ~= "" then bad(rest, "the end") end
  return value
end

return json
