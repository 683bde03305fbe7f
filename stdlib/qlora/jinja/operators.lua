--- Python's operators on values.
local repr = require "qlora.jinja.repr"
local text = require "qlora.jinja.text"
local values = require "qlora.jinja.values"

local operators = {}
local kind, fail, number = values.kind, values.fail, values.number

local function mismatch(symbol, a, b)
  for _, value in ipairs { a, b } do
    values.defined(value)
    if kind(value) == "Markup" then fail "such use of a text marked safe is not supported" end
  end
  fail("unsupported operand type(s) for %s: '%s' and '%s'", symbol, kind(a), kind(b))
end

local function numbers(symbol, a, b)
  local x, y = number(a), number(b)
  if not x or not y then mismatch(symbol, a, b) end
  return x, y
end

local function whole(result, as_float)
  if math.type(result) == "integer" and (as_float >= 0x1p63 or as_float < -0x1p63) then
    fail "a whole number grows beyond 64 bits"
  end
  return result
end

local html = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ["'"] = "&#39;", ['"'] = "&#34;" }

--- A text with HTML's special characters written out.
function operators.escaped(s) return (s:gsub("[&<>'\"]", html)) end

--- The sum of two texts one of which is marked safe: the other is escaped.
local function marked(a, b, first, second)
  local function part(value, of)
    if of == "Markup" then return value.text end
    if of ~= "str" then mismatch("+", a, b) end
    return operators.escaped(value)
  end
  return values.markup(values.sized(part(a, first) .. part(b, second)))
end

operators["+"] = function(a, b)
  if type(a) == "number" and type(b) == "number" then return whole(a + b, a + 0.0 + b) end
  if type(a) == "string" and type(b) == "string" then return values.sized(a .. b) end
  local first, second = kind(a), kind(b)
  if first == second and (first == "list" or first == "tuple") then
    values.tick((a.n + b.n) >> 3)
    local items = table.move(a, 1, a.n, 1, {})
    table.move(b, 1, b.n, a.n + 1, items)
    return values[first](items, a.n + b.n)
  end
  if first == "Markup" or second == "Markup" then return marked(a, b, first, second) end
  if first == "str" and second ~= "Undefined" then
    fail('can only concatenate str (not "%s") to str', second)
  end
  local x, y = numbers("+", a, b)
  return whole(x + y, x + 0.0 + y)
end

operators["-"] = function(a, b)
  local x, y = numbers("-", a, b)
  return whole(x - y, x - 0.0 - y)
end

local function repeated(value, count)
  count = math.max(0, count)
  if type(value) == "string" then
    if value ~= "" and count > values.limits.text // #value then
      fail("a text grows above %d bytes", values.limits.text)
    end
    return values.sized(value:rep(count))
  end
  if value.n == 0 then count = 0 end
  if count > 0 and count > values.limits.items // value.n then
    fail("a list grows above %d items", values.limits.items)
  end
  values.tick(value.n * count)
  local items = {}
  for i = 0, count - 1 do table.move(value, 1, value.n, i * value.n + 1, items) end
  return values[kind(value)](items, value.n * count)
end

operators["*"] = function(a, b)
  local x, y = number(a), number(b)
  if x and y then return whole(x * y, (x + 0.0) * y) end
  if (type(a) == "string" or values.is_sequence(a)) and math.type(y) == "integer" then return repeated(a, y) end
  if (type(b) == "string" or values.is_sequence(b)) and math.type(x) == "integer" then return repeated(b, x) end
  mismatch("*", a, b)
end

operators["/"] = function(a, b)
  local x, y = numbers("/", a, b)
  if y == 0 then fail "division by zero" end
  return x / y
end

--- 0.0 with the sign of a number.
function operators.zero_of(x) return (x < 0 or x == 0 and 1 / x < 0) and -0.0 or 0.0 end

operators["//"] = function(a, b)
  local x, y = numbers("//", a, b)
  if y == 0 then fail "division by zero" end
  if math.type(x) == "integer" and math.type(y) == "integer" then
    if y == -1 then return whole(x // y, -(x + 0.0)) end
    return x // y
  end
  x, y = x * 1.0, y * 1.0 -- by the remainder, as Python: 1 // 0.1 is 9.0; -0.0 + 0.0 would lose its sign
  local quotient = (x - x % y) / y
  if quotient == 0 then return operators.zero_of(x / y) end
  local below = math.floor(quotient) + 0.0
  return quotient - below > 0.5 and below + 1 or below
end

operators["%"] = function(a, b)
  if type(a) == "string" then return require "qlora.jinja.format".percent(a, b) end
  local x, y = numbers("%", a, b)
  if y == 0 then fail "division by zero" end
  local rest = x % y
  return rest == 0 and math.type(rest) == "float" and operators.zero_of(y) or rest
end

operators["**"] = function(a, b)
  local x, y = numbers("**", a, b)
  if math.type(x) == "integer" and math.type(y) == "integer" and y >= 0 then
    local result, as_float = 1, 1.0
    if y > 64 and math.abs(x) > 1 then fail "a whole number grows beyond 64 bits" end
    if math.abs(x) <= 1 then return x == 1 and 1 or x == 0 and (y == 0 and 1 or 0) or (y % 2 == 0 and 1 or -1) end
    for _ = 1, y do result, as_float = result * x, as_float * x end
    return whole(result, as_float)
  end
  if x == 0 and y < 0 then fail "0.0 cannot be raised to a negative power" end
  if x < 0 and y ~= math.floor(y) then fail "complex numbers are not supported" end
  return (x * 1.0) ^ y
end

--- -value
function operators.minus(a)
  if not number(a) then
    values.defined(a)
    fail("bad operand type for unary -: '%s'", kind(a))
  end
  if number(a) == math.mininteger then fail "a whole number grows beyond 64 bits" end
  return -number(a)
end
--- +value
function operators.plus(a)
  if not number(a) then
    values.defined(a)
    fail("bad operand type for unary +: '%s'", kind(a))
  end
  return number(a)
end

--- -1, 0 or 1 as the first is less, equal or more.
local function order(symbol, a, b)
  local x, y = number(a), number(b)
  if x and y then return x < y and -1 or x > y and 1 or x == y and 0 or nil end
  if type(a) == "string" and type(b) == "string" then -- UTF-8 keeps the order of code points; strcoll might not
    if a == b then return 0 end
    for i = 1, math.min(#a, #b) do
      local p, q = a:byte(i), b:byte(i)
      if p ~= q then return p < q and -1 or 1 end
    end
    return #a < #b and -1 or 1
  end
  if kind(a) == kind(b) and values.is_sequence(a) then
    for i = 1, math.min(a.n, b.n) do
      if not values.equal(a[i], b[i]) then return order(symbol, a[i], b[i]) end
    end
    return a.n < b.n and -1 or a.n > b.n and 1 or 0
  end
  values.defined(a)
  values.defined(b)
  fail("'%s' not supported between instances of '%s' and '%s'", symbol, kind(a), kind(b))
end
operators.order = order

operators["=="] = values.equal
operators["!="] = function(a, b) return not values.equal(a, b) end
operators["<"] = function(a, b) return order("<", a, b) == -1 end
operators[">"] = function(a, b) return order(">", a, b) == 1 end
operators["<="] = function(a, b) local o = order("<=", a, b) return o == -1 or o == 0 end
operators[">="] = function(a, b) local o = order(">=", a, b) return o == 1 or o == 0 end

operators["in"] = function(a, b)
  local of = kind(b)
  if of == "str" then
    if type(a) ~= "string" then
      values.defined(a)
      if kind(a) == "Markup" then fail "such use of a text marked safe is not supported" end
      fail("'in <string>' requires string as left operand, not %s", kind(a))
    end
    return b:find(a, 1, true) ~= nil
  elseif of == "dict" then return values.has(b, a)
  elseif of == "list" or of == "tuple" or of == "generator" or values.is_view(b) then
    b = operators.items(b)
    values.tick(b.n >> 2)
    for i = 1, b.n do if values.equal(a, b[i]) then return true end end
    return false
  elseif of == "Undefined" then return false end
  fail("argument of type '%s' is not iterable", of)
end
operators["not in"] = function(a, b) return not operators["in"](a, b) end

--- The pieces of `~`, as text.
function operators.concat(parts)
  for i, part in ipairs(parts) do
    parts[i] = repr.str(part)
  end
  return values.sized(table.concat(parts))
end

--- What a loop or a filter goes through, as a list with `n`.
function operators.items(value)
  local of = kind(value)
  if of == "list" or of == "tuple" then return value end
  if of == "dict" then
    local list = table.move(value.keys, 1, value.n, 1, {})
    list.n = value.n
    return list
  end
  if of == "str" then
    local list = text.characters(value)
    list.n = #list
    return list
  end
  if of == "Undefined" then return { n = 0 } end
  if values.is_view(value) then return value end
  if of == "generator" then
    local list = value.items
    value.items = { n = 0 }
    return list
  end
  if of == "Markup" then fail "such use of a text marked safe is not supported" end
  fail("'%s' object is not iterable", of)
end

return operators
