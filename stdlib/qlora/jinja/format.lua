--- Python's two ways to format a text: "%s" % values and "{}".format(values).
local repr = require "qlora.jinja.repr"
local text = require "qlora.jinja.text"
local values = require "qlora.jinja.values"

local format = {}
local fail, kind, number = values.fail, values.kind, values.number

--- A text padded to a width in characters.
local function padded(s, width, align, fill)
  local missing = (width or 0) - text.length(s)
  if missing <= 0 then return s end
  if missing > values.limits.items then fail "a width is too large" end
  if align == "<" then return s .. fill:rep(missing) end
  if align == "^" then return fill:rep(missing // 2) .. s .. fill:rep(missing - missing // 2) end
  return fill:rep(missing) .. s
end
format.padded = padded

local function grouped(digits, separator)
  local out = digits:reverse():gsub("%d%d%d", "%0" .. separator):reverse()
  return (out:gsub("^" .. separator, ""))
end

local function integer_digits(value, conversion)
  if conversion == "x" then return ("%x"):format(value) elseif conversion == "X" then return ("%X"):format(value) end
  if conversion == "o" then return ("%o"):format(value) end
  if conversion == "b" then
    local bits = {}
    repeat
      table.insert(bits, 1, tostring(value & 1))
      value = value >> 1
    until value == 0
    return table.concat(bits)
  end
  return tostring(value)
end

--- The digits of a number without its sign.
local function magnitude(value, conversion, precision, alternate)
  if conversion:find "[dxXob]" then
    if value == math.mininteger then fail "a whole number is too large to be formatted" end
    local prefix = alternate and ({ x = "0x", X = "0X", o = "0o", b = "0b" })[conversion] or ""
    return integer_digits(math.abs(value), conversion), prefix
  end
  value = math.abs(value + 0.0)
  if value ~= value then return conversion:find "%u" and "NAN" or "nan", "" end
  if value == math.huge then return conversion:find "%u" and "INF" or "inf", "" end
  if (precision or 6) > 99 then fail "a precision above 99 is not supported" end
  return (("%%%s.%d%s"):format(alternate and "#" or "", precision or 6, conversion)):format(value), ""
end

local function is_negative(value) return value < 0 or math.type(value) == "float" and value == 0 and 1 / value < 0 end

local function next_argument(arguments)
  arguments.at = arguments.at + 1
  if arguments.at > arguments.n then fail "not enough arguments for format string" end
  return arguments[arguments.at]
end

local function whole_of(value, conversion)
  local n = number(value)
  if not n then
    values.defined(value)
    fail("%%%s format: a real number is required, not %s", conversion, kind(value))
  end
  if math.type(n) == "float" then
    if conversion ~= "d" and conversion ~= "i" and conversion ~= "u" then
      fail("%%%s format: an integer is required, not float", conversion)
    end
    n = math.tointeger(n < 0 and math.ceil(n) or math.floor(n)) or fail "cannot convert float to integer"
  end
  return n
end

--- template % argument
function format.percent(template, argument)
  local arguments = { argument, n = 1, at = 0 }
  if kind(argument) == "tuple" then arguments = table.move(argument, 1, argument.n, 1, { n = argument.n, at = 0 }) end
  local parts, at, by_name = {}, 1, false
  while true do
    local from = template:find("%", at, true)
    if not from then break end
    parts[#parts + 1] = template:sub(at, from - 1)
    local key, flags, width, precision, conversion, after =
      template:match("^%%(%b())([-+ #0]*)(%*?%d*)(%.?%*?%d*)[hlL]?(.)()", from)
    if not key then
      flags, width, precision, conversion, after =
        template:match("^%%([-+ #0]*)(%*?%d*)(%.?%*?%d*)[hlL]?(.)()", from)
    end
    if not conversion then fail "incomplete format" end
    if conversion == "%" then parts[#parts + 1] = "%"
    else
      local wide = width == "*" and whole_of(next_argument(arguments), "d") or tonumber(width) or 0
      if wide < 0 then wide, flags = -wide, flags .. "-" end
      local places
      if precision == ".*" then places = math.max(0, whole_of(next_argument(arguments), "d"))
      elseif precision ~= "" then places = tonumber(precision:sub(2)) or 0 end
      local value
      if key then
        by_name = true
        if kind(argument) ~= "dict" then fail "format requires a mapping" end
        value = values.get(argument, key:sub(2, -2))
        if value == nil then fail("KeyError: %s", repr.repr(key:sub(2, -2))) end
      else value = next_argument(arguments) end
      local left, zero = flags:find("-", 1, true), flags:find("0", 1, true)
      local sign, body, prefix = "", nil, ""
      if conversion == "s" or conversion == "r" then
        body = conversion == "s" and repr.str(value) or repr.repr(value)
        if places then body = text.sub(body, 1, places) end
        zero = nil
      elseif conversion == "c" then
        body = type(value) == "string" and value or utf8.char(whole_of(value, "c"))
        if text.length(body) ~= 1 then fail "%c requires int or char" end
        zero = nil
      elseif conversion:find "[diuxXoeEfFgG]" then
        local of = conversion:find "[iu]" and "d" or conversion
        local n = of:find "[dxXo]" and whole_of(value, conversion) or number(value)
        if not n then
          values.defined(value)
          fail("must be real number, not %s", kind(value))
        end
        body, prefix = magnitude(n, of == "F" and "f" or of, places, flags:find("#", 1, true))
        if of:find "[dxXo]" and places then body = ("0"):rep(places - #body) .. body end
        sign = is_negative(n) and "-" or flags:find("+", 1, true) and "+" or flags:find(" ", 1, true) and " " or ""
      else fail("unsupported format character '%s'", conversion) end
      sign = sign .. prefix
      if zero and not left then body = sign .. padded(body, wide - #sign, ">", "0") else body = sign .. body end
      parts[#parts + 1] = padded(body, wide, left and "<" or ">", " ")
    end
    at = after
  end
  parts[#parts + 1] = template:sub(at)
  local of = kind(argument) -- Python lets what can be indexed stand unused
  local may = of == "dict" or of == "list" or of == "Undefined" or of == "range"
  if arguments.at < arguments.n and not by_name and not may then
    fail "not all arguments converted during string formatting"
  end
  return values.sized(table.concat(parts))
end

--- One value under a format of str.format, such as ">8.2f".
function format.spec(value, spec)
  if spec == "" then return repr.str(value) end
  local rest, fill, align = spec, nil, nil
  local c, a, after = spec:match "^([\0-\127\192-\255][\128-\191]*)([<>^=])()"
  if c then fill, align, rest = c, a, spec:sub(after)
  elseif spec:match "^[<>^=]" then align, rest = spec:sub(1, 1), spec:sub(2) end
  local sign, alternate, zero, width, group, precision, conversion =
    rest:match "^([-+ ]?)(#?)(0?)(%d*)([,_]?)(%.?%d*)([a-zA-Z%%]?)$"
  if not sign or precision == "." then fail("invalid format specifier '%s'", spec) end
  width = math.tointeger(tonumber(width)) or 0
  local places = precision ~= "" and math.tointeger(tonumber(precision:sub(2))) or nil
  if zero == "0" and not align then fill, align = fill or "0", "=" end
  local n = number(value)
  if type(value) == "string" or not n then
    if type(value) ~= "string" then
      values.defined(value)
      if kind(value) == "Markup" then fail "such use of a text marked safe is not supported" end
      fail("unsupported format string passed to %s.__format__", kind(value))
    end
    if conversion ~= "" and conversion ~= "s" then
      fail("unknown format code '%s' for object of type 'str'", conversion)
    end
    if align == "=" and zero == "0" and fill == "0" then align = "<" end
    if align == "=" then fail "'=' alignment not allowed in string format specifier" end
    if sign ~= "" or alternate ~= "" or group ~= "" then fail("invalid format specifier '%s'", spec) end
    return padded(places and text.sub(value, 1, places) or value, width, align or "<", fill or " ")
  end
  local body, prefix, tail = nil, "", ""
  if math.type(n) == "integer" and (conversion == "" or conversion:find "^[dxXobn]$") then
    if places then fail "precision not allowed in integer format specifier" end
    body, prefix = magnitude(n, conversion:find "[xXob]" and conversion or "d", nil, alternate == "#")
  elseif conversion == "%" then
    body, tail = magnitude(n * 100.0, "f", places, false), "%"
  elseif conversion == "" then
    if places then
      fail "a precision without a type is not supported"
    end
    body = repr.float(math.abs(n))
  elseif conversion:find "^[eEfFgG]$" then
    body = magnitude(n, conversion == "F" and "f" or conversion, places, alternate == "#")
  else fail("unknown format code '%s' for object of type '%s'", conversion, kind(value)) end
  if group ~= "" then
    if prefix ~= "" or conversion:find "[xXob]" then fail "grouping of such numbers is not supported" end
    local digits, more = body:match "^(%d+)(.*)$"
    if digits then body = grouped(digits, group) .. more end
  end
  local mark = is_negative(n) and "-" or sign ~= "-" and sign or ""
  body = body .. tail
  if align == "=" then
    if group ~= "" and (fill or "0") == "0" and width > #mark + #body then
      fail "zeros before grouped digits are not supported"
    end
    return mark .. prefix .. padded(body, width - #mark - #prefix, ">", fill or " ")
  end
  return padded(mark .. prefix .. body, width, align or ">", fill or " ")
end

--- template.format(*arguments, **named); `look(value, name, as_item)` gives attributes and items.
function format.braces(template, arguments, named, look)
  local parts, at, counter, automatic = {}, 1, 0, nil
  local function field(name)
    local first, rest = name:match "^([^.%[]*)(.*)$"
    local value
    if first == "" or first:find "^%d+$" then
      local by_number = first ~= ""
      if automatic ~= nil and automatic == by_number then
        fail "cannot switch between automatic and manual field numbering"
      end
      automatic = not by_number
      local index = by_number and math.tointeger(tonumber(first)) or counter
      counter = counter + 1
      value = arguments[index + 1]
      if value == nil then fail "Replacement index out of range for positional args tuple" end
    else
      value = named and named[first]
      if value == nil then fail("KeyError: '%s'", first) end
    end
    while rest ~= "" do
      local key, after = rest:match "^%.([^.%[]+)()"
      if key then value = look(value, key, false)
      else
        key, after = rest:match "^%[([^%]]+)%]()"
        if not key then fail("invalid field '%s' of a format", name) end
        value = look(value, key:find "^%d+$" and math.tointeger(tonumber(key)) or key, true)
      end
      rest = rest:sub(after)
    end
    return value
  end
  local function expand(spec)
    return (spec:gsub("{([^{}]*)}", function(name) return repr.str(field(name)) end))
  end
  while true do
    local from = template:find("[{}]", at)
    if not from then break end
    parts[#parts + 1] = template:sub(at, from - 1)
    local pair = template:sub(from, from + 1)
    if pair == "{{" or pair == "}}" then
      parts[#parts + 1] = pair:sub(1, 1)
      at = from + 2
    elseif pair:sub(1, 1) == "}" then fail "Single '}' encountered in format string"
    else
      local inside = template:match("^%b{}", from)
      if not inside then fail "Single '{' encountered in format string" end
      local name, conversion, spec = inside:sub(2, -2):match "^([^!:]*)(!?[rsa]?):?(.*)$"
      local value = field(name)
      if conversion == "!r" then value = repr.repr(value) elseif conversion == "!s" then value = repr.str(value)
      elseif conversion ~= "" then fail("the conversion '%s' of a format is not supported", conversion) end
      parts[#parts + 1] = format.spec(value, expand(spec))
      at = from + #inside
    end
  end
  parts[#parts + 1] = template:sub(at)
  return values.sized(table.concat(parts))
end

return format
