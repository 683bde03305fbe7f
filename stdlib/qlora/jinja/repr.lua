--- Values as text: Python's str, repr and json.dumps.
local values = require "qlora.jinja.values"

local repr = {}
local kind, fail = values.kind, values.fail

--- A float as Python writes it: the shortest digits that read back as the same number.
function repr.float(x)
  if x ~= x then return "nan" end
  if x == math.huge then return "inf" elseif x == -math.huge then return "-inf" end
  if x == 0 then return 1 / x < 0 and "-0.0" or "0.0" end
  local sign, digits, exponent
  for precision = 0, 16 do
    local written = ("%." .. precision .. "e"):format(x)
    if tonumber(written) == x then
      local first, rest
      sign, first, rest, exponent = written:match "^(%-?)(%d)%.?(%d*)e([+-]%d+)$"
      digits, exponent = first .. rest, math.tointeger(tonumber(exponent))
      break
    end
  end
  digits = digits:gsub("0+$", "")
  if digits == "" then digits = "0" end
  if exponent < -4 or exponent >= 16 then
    local mantissa = digits:sub(1, 1) .. (#digits > 1 and "." .. digits:sub(2) or "")
    return ("%s%se%s%02d"):format(sign, mantissa, exponent < 0 and "-" or "+", math.abs(exponent))
  end
  if exponent < 0 then return sign .. "0." .. ("0"):rep(-exponent - 1) .. digits end
  if #digits <= exponent + 1 then return sign .. digits .. ("0"):rep(exponent + 1 - #digits) .. ".0" end
  return sign .. digits:sub(1, exponent + 1) .. "." .. digits:sub(exponent + 2)
end

-- Characters that Python's repr escapes beyond ASCII: controls, formats, blanks and what is not assigned for good.
local hidden = { { 0x7F, 0xA0 }, { 0xAD, 0xAD }, { 0x600, 0x605 }, { 0x61C, 0x61C }, { 0x6DD, 0x6DD }, { 0x70F, 0x70F },
  { 0x1680, 0x1680 }, { 0x180E, 0x180E }, { 0x2000, 0x200F }, { 0x2028, 0x202F }, { 0x205F, 0x206F },
  { 0x3000, 0x3000 }, { 0xD800, 0xF8FF }, { 0xFEFF, 0xFEFF }, { 0xFFF0, 0xFFFB }, { 0xFFFE, 0xFFFF },
  { 0xE0000, 0xE00FF }, { 0xE01F0, 0x10FFFF } }

local function escaped(c)
  local code = utf8.codepoint(c)
  for _, range in ipairs(hidden) do
    if code >= range[1] and code <= range[2] then
      return (code < 0x100 and "\\x%02x" or code < 0x10000 and "\\u%04x" or "\\U%08x"):format(code)
    end
  end
end

local named = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\" }

--- A text in quotes, as Python writes it.
function repr.quoted(s)
  local quote = s:find("'", 1, true) and not s:find('"', 1, true) and '"' or "'"
  s = s:gsub("[%c\\" .. quote .. "]", function(c)
    if c == quote then return "\\" .. c end
    return named[c] or ("\\x%02x"):format(c:byte())
  end)
  s = s:gsub("[\192-\255][\128-\191]*", escaped)
  return quote .. s .. quote
end

local function enter()
  local state = values.state
  state.depth = state.depth + 1
  if state.depth > values.limits.depth then fail "values are nested too deeply" end
  values.tick()
end
local function leave() values.state.depth = values.state.depth - 1 end

local function joined(value, open, close)
  enter()
  value.printed = true
  local parts = {}
  for i = 1, value.n do parts[i] = repr.repr(value[i]) end
  leave()
  return values.sized(open .. table.concat(parts, ", ") .. close)
end

--- Python's repr. Lists and dicts keep that they were written so, as `printed`.
function repr.repr(value)
  local of = kind(value)
  if of == "str" then return repr.quoted(value) end
  if of == "list" then return joined(value, "[", "]") end
  if of == "tuple" then return joined(value, "(", value.n == 1 and ",)" or ")") end
  if of == "dict" then
    enter()
    values.see(value)
    value.printed = true
    local parts = {}
    for i, key in ipairs(value.keys) do parts[i] = repr.repr(key) .. ": " .. repr.repr(values.raw(value, key)) end
    leave()
    return values.sized("{" .. table.concat(parts, ", ") .. "}")
  end
  if of == "Undefined" then return "Undefined" end
  if of == "Markup" then return "Markup(" .. repr.quoted(value.text) .. ")" end
  if of == "range" then return value.shown end
  if values.is_view(value) then return joined(value, of .. "([", "])") end
  return repr.str(value)
end

--- Python's str: what printing gives.
function repr.str(value)
  if type(value) == "string" then return value end
  local of = kind(value)
  if of == "int" then return tostring(value) end
  if of == "float" then return repr.float(value) end
  if of == "bool" then return value and "True" or "False" end
  if of == "NoneType" then return "None" end
  if of == "Undefined" then return "" end
  if of == "Markup" then return value.text end
  if of == "list" or of == "tuple" or of == "dict" or values.is_view(value) then return repr.repr(value) end
  return fail("a %s cannot be printed; what Python writes for it is an address",
    type(value) == "table" and value.name or of)
end

local json_escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\b"] = "\\b",
  ["\f"] = "\\f" }

local function json_text(s, ascii)
  s = s:gsub('[%z\1-\31"\\]', function(c) return json_escapes[c] or ("\\u%04x"):format(c:byte()) end)
  if ascii then
    s = s:gsub("[\192-\255][\128-\191]*", function(c)
      local code = utf8.codepoint(c)
      if code < 0x10000 then return ("\\u%04x"):format(code) end
      code = code - 0x10000
      return ("\\u%04x\\u%04x"):format(0xD800 + (code >> 10), 0xDC00 + (code & 0x3FF))
    end)
  end
  return '"' .. s .. '"'
end

local function json_scalar(value, of)
  if of == "NoneType" then return "null" end
  if of == "bool" then return tostring(value) end
  if of == "int" then return tostring(value) end
  if of == "float" then
    if value ~= value then return "NaN" end
    if value == math.huge then return "Infinity" elseif value == -math.huge then return "-Infinity" end
    return repr.float(value)
  end
end

local function sorted(keys)
  local list, of = table.move(keys, 1, #keys, 1, {}), nil
  for _, key in ipairs(list) do
    of = of or type(key)
    if type(key) ~= of or of == "table" then fail "tojson: keys of several types cannot be sorted" end
  end
  table.sort(list)
  return list
end

--- json.dumps. `o` = { ascii =, indent = text or nil, item = separator, key = separator, sort = }.
function repr.json(value, o, level)
  local of = kind(value)
  if of == "str" then return json_text(value, o.ascii) end
  local scalar = json_scalar(value, of)
  if scalar then return scalar end
  if of ~= "list" and of ~= "tuple" and of ~= "dict" then fail("Object of type %s is not JSON serializable", of) end
  enter()
  level = level or 1
  local open, close, parts = "[", "]", {}
  if of == "dict" then
    open, close = "{", "}"
    values.see(value)
    for i, key in ipairs(o.sort and sorted(value.keys) or value.keys) do
      local name = type(key) == "string" and key or json_scalar(key, kind(key))
      parts[i] = json_text(name, o.ascii) .. o.key .. repr.json(values.raw(value, key), o, level + 1)
    end
  else
    for i = 1, value.n do parts[i] = repr.json(value[i], o, level + 1) end
  end
  leave()
  if #parts == 0 then return open .. close end
  if not o.indent then return values.sized(open .. table.concat(parts, o.item) .. close) end
  local inner = "\n" .. o.indent:rep(level)
  return values.sized(open .. inner .. table.concat(parts, o.item .. inner) .. "\n" .. o.indent:rep(level - 1) .. close)
end

return repr
