--- Filters of one value: texts, numbers, JSON. Those of lists are in filters_list.
local arguments = require "qlora.jinja.arguments"
local ascii_digits = require "qlora.jinja.digits"
local attributes = require "qlora.jinja.attributes"
local case = require "qlora.jinja.case"
local format = require "qlora.jinja.format"
local operators = require "qlora.jinja.operators"
local repr = require "qlora.jinja.repr"
local strings = require "qlora.jinja.strings"
local text = require "qlora.jinja.text"
local values = require "qlora.jinja.values"

local filters = {}
local fail, kind, None, number = values.fail, values.kind, values.None, values.number
local read, int, str = arguments.read, arguments.int, arguments.text

local function plain(value)
  if kind(value) == "Markup" then fail "such use of a text marked safe is not supported" end
  return repr.str(value)
end

for name, change in pairs { upper = case.upper, lower = case.lower, capitalize = case.capitalize, string = plain } do
  filters[name] = function(value, args, named)
    read(name, "", args, named)
    if name == "string" and kind(value) == "Markup" then return value end
    return change(plain(value))
  end
end

--- The filter `title`.
function filters.title(value, args, named)
  read("title", "", args, named)
  local s, parts, at = plain(value), {}, 1
  local function word(piece)
    if piece ~= "" then
      local first = piece:match "^[\0-\127\192-\255][\128-\191]*"
      parts[#parts + 1] = case.upper(first) .. case.lower(piece:sub(#first + 1))
    end
  end
  for from, gap, to in s:gmatch "()([-%s({%[<]+)()" do
    word(s:sub(at, from - 1))
    parts[#parts + 1] = gap
    at = to
  end
  word(s:sub(at))
  return table.concat(parts)
end

--- The filter `trim`.
function filters.trim(value, args, named)
  local chars = read("trim", "chars", args, named)
  if chars == None then chars = nil end
  return text.strip(plain(value), str("trim", chars), true, true)
end

--- The filter `replace`.
function filters.replace(value, args, named)
  local old, new, count = read("replace", "old! new! count", args, named)
  if count == None then count = nil end
  return strings.methods.replace(repr.str(value), { repr.str(old), repr.str(new), count, n = count ~= nil and 3 or 2 })
end

--- The filter `center`.
function filters.center(value, args, named)
  return strings.methods.center(plain(value), { int("center", read("center", "width", args, named), 80), n = 1 })
end

--- The filter `indent`.
function filters.indent(value, args, named)
  local width, first, blank = read("indent", "width first blank", args, named)
  local pad = type(width) == "string" and width or (" "):rep(math.min(int("indent", width, 4), 10000))
  if type(value) ~= "string" then
    values.defined(value)
    fail("indent of %s is not supported", kind(value))
  end
  local lines = text.lines(value .. "\n")
  for i = 2, #lines do
    if lines[i] ~= "" or values.truth(blank or false) then lines[i] = pad .. lines[i] end
  end
  return values.sized((values.truth(first or false) and pad or "") .. table.concat(lines, "\n"))
end

--- The filter `truncate`.
function filters.truncate(value, args, named)
  local length, kill, tail, leeway = read("truncate", "length killwords end leeway", args, named)
  if leeway == None then leeway = nil end
  length, tail, leeway = int("truncate", length, 255), str("truncate", tail, "..."), int("truncate", leeway, 5)
  if type(value) ~= "string" and not values.is_undefined(value) then
    fail("truncate of %s is not supported", kind(value))
  end
  local s, width = plain(value), text.length(tail)
  if length < width then fail("expected length >= %d, got %d", width, length) end
  if leeway < 0 then fail("expected leeway >= 0, got %d", leeway) end
  if text.length(s) <= length + leeway then return value end
  s = text.sub(s, 1, length - width)
  if values.truth(kill or false) then return s .. tail end
  return text.split(s, " ", 1, true)[1] .. tail
end

--- The filter `wordcount`.
function filters.wordcount(value, args, named)
  read("wordcount", "", args, named)
  local count = 0
  for _ in plain(value):gmatch "[%w_\128-\255]+" do count = count + 1 end
  if not text.is_ascii(plain(value)) then fail "wordcount of a text beyond ASCII is not supported" end
  return count
end

--- The filter `escape`.
function filters.escape(value, args, named)
  read("escape", "", args, named)
  if kind(value) == "Markup" then return value end
  return values.markup(operators.escaped(plain(value)))
end
filters.e = filters.escape
--- The filter `forceescape`.
function filters.forceescape(value, args, named)
  return filters.escape(kind(value) == "Markup" and value.text or value, args, named)
end
--- The filter `safe`.
function filters.safe(value, args, named)
  read("safe", "", args, named)
  return kind(value) == "Markup" and value or values.markup(plain(value))
end

--- The filter `urlencode`.
function filters.urlencode(value, args, named)
  read("urlencode", "", args, named)
  if type(value) ~= "string" and values.number(value) == nil then
    fail("urlencode of %s is not supported", kind(value))
  end
  return (plain(value):gsub("[^%w_.~/-]", function(c) return ("%%%02X"):format(c:byte()) end))
end

--- The filter `format`.
function filters.format(value, args, named)
  if named and #named > 0 then
    if args.n > 0 then fail "can't handle positional and keyword arguments at the same time" end
    local dict = values.dict()
    for _, name in ipairs(named) do values.put(dict, name, named[name]) end
    return format.percent(plain(value), dict)
  end
  return format.percent(plain(value), values.tuple(args, args.n))
end

--- The filter `tojson`.
function filters.tojson(value, args, named)
  local ascii, indent, separators, sort = read("tojson", "ensure_ascii indent separators sort_keys", args, named)
  if indent == None or indent == nil then indent = nil
  elseif type(indent) ~= "string" then
    indent = (" "):rep(math.min(math.max(0, int("tojson", indent)), 1000))
  end
  local item, key = indent and "," or ", ", ": "
  if separators ~= nil and separators ~= None then
    if not values.is_sequence(separators) or separators.n ~= 2 then fail "tojson: separators are two texts" end
    item, key = str("tojson", separators[1]), str("tojson", separators[2])
  end
  return repr.json(value, { ascii = values.truth(ascii or false), indent = indent, item = item, key = key,
    sort = values.truth(sort or false) })
end

--- The filter `abs`.
function filters.abs(value, args, named)
  read("abs", "", args, named)
  local n = number(value)
  if not n then
    values.defined(value)
    fail("bad operand type for abs(): '%s'", kind(value))
  end
  return math.abs(n)
end

--- The whole number a text spells in a base, as Python reads it; nil otherwise.
local function parsed(s, base)
  s = ascii_digits(text.strip(s, nil, true, true)):lower()
  local sign, digits = s:match "^([+-]?)(.*)$"
  local prefix = ({ ["0x"] = 16, ["0o"] = 8, ["0b"] = 2 })[digits:sub(1, 2)]
  if prefix and (base == prefix or base == 0) then digits, base = digits:sub(3):gsub("^_", ""), prefix end
  if base == 0 then base = 10 end
  if not digits:find "^%w[%w_]*$" or digits:find "__" or digits:find "_$" then return nil end
  digits = digits:gsub("_", "")
  local value = 0
  for c in digits:gmatch "." do
    local digit = tonumber(c, 36)
    if not digit or digit >= base then return nil end
    if value > (math.maxinteger - digit) // base then fail "a whole number grows beyond 64 bits" end
    value = value * base + digit
  end
  return sign == "-" and -value or value
end

--- The float a text spells, as Python reads it; nil otherwise.
local function parsed_float(s)
  s = ascii_digits(text.strip(s, nil, true, true)):lower()
  local sign, word = s:match "^([+-]?)(%a+)$"
  if word == "inf" or word == "infinity" then return sign == "-" and -math.huge or math.huge end
  if word == "nan" then return 0 / 0 end
  for _, wrong in ipairs { "[xp]", "__", "_$", "^[+-]?_", "_[.e]", "[.e]_" } do
    if s:find(wrong) then return nil end
  end
  local n = tonumber((s:gsub("_", "")))
  return n and (n == 0 and operators.zero_of(s:find "^%-" and -0.0 or 0.0) or n * 1.0)
end

local function truncated(x)
  if x ~= x or x == math.huge or x == -math.huge then return nil end
  return math.tointeger(x < 0 and math.ceil(x) or math.floor(x)) or fail "a whole number grows beyond 64 bits"
end

filters["int"] = function(value, args, named)
  local default, base = read("int", "default base", args, named)
  if default == nil then default = 0 end
  local n = number(value)
  if n then return math.type(n) == "integer" and n or truncated(n) or default end
  if kind(value) == "Undefined" then values.defined(value) end
  if type(value) ~= "string" then return default end
  local whole = parsed(value, int("int", base, 10))
  if whole then return whole end
  local x = parsed_float(value)
  local cut = x and truncated(x)
  if cut then return cut end
  return default
end

filters["float"] = function(value, args, named)
  local default = read("float", "default", args, named)
  if default == nil then default = 0.0 end
  local n = number(value)
  if n then return n * 1.0 end
  if kind(value) == "Undefined" then values.defined(value) end
  return type(value) == "string" and parsed_float(value) or default
end

--- The filter `round`.
function filters.round(value, args, named)
  local precision, method = read("round", "precision method", args, named)
  precision, method = int("round", precision, 0), str("round", method, "common")
  if method ~= "common" and method ~= "ceil" and method ~= "floor" then
    fail "method must be common, ceil or floor"
  end
  local n = number(value)
  if not n then
    values.defined(value)
    fail("type %s doesn't define __round__ method", kind(value))
  end
  if method == "common" then
    if math.type(n) == "integer" and precision >= 0 then return n end
    if precision < 0 or precision > 50 then fail "round: such a precision is not supported" end
    if n ~= n or math.abs(n) == math.huge then return n end
    local rounded = tonumber(("%." .. precision .. "f"):format(n)) + 0.0
    return rounded == 0 and operators.zero_of(n) or rounded
  end
  local scale = operators["**"](10, precision)
  return math[method](n * scale) / scale
end

--- The filter `default`.
function filters.default(value, args, named)
  local default, boolean = read("default", "default_value boolean", args, named)
  if default == nil then default = "" end
  if values.is_undefined(value) or values.truth(boolean or false) and not values.truth(value) then return default end
  return value
end
filters.d = filters.default

--- The filter `attr`.
function filters.attr(value, args, named)
  return attributes.own(value, str("attr", read("attr", "name!", args, named)))
end

for _, name in ipairs { "filesizeformat", "pprint", "random", "striptags", "urlize", "wordwrap", "xmlattr" } do
  filters[name] = function() fail("the filter '%s' is not supported", name) end
end

return filters
