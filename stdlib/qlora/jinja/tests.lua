--- The tests of `is`.
local arguments = require "qlora.jinja.arguments"
local case = require "qlora.jinja.case"
local operators = require "qlora.jinja.operators"
local repr = require "qlora.jinja.repr"
local values = require "qlora.jinja.values"

local tests = {}
local kind, read = values.kind, arguments.read

local iterable = { str = true, list = true, tuple = true, dict = true, generator = true, Undefined = true,
  Markup = true }
local sequences = { str = true, list = true, tuple = true, dict = true, Undefined = true, range = true, Markup = true }

for name, holds in pairs {
  defined = function(v) return not values.is_undefined(v) end,
  undefined = function(v) return values.is_undefined(v) end,
  none = function(v) return v == values.None end,
  boolean = function(v) return type(v) == "boolean" end,
  ["true"] = function(v) return v == true end,
  ["false"] = function(v) return v == false end,
  integer = function(v) return kind(v) == "int" end,
  float = function(v) return kind(v) == "float" end,
  number = function(v) return values.number(v) ~= nil end,
  string = function(v) return type(v) == "string" or kind(v) == "Markup" end,
  mapping = function(v) return kind(v) == "dict" end,
  iterable = function(v) return iterable[kind(v)] or values.is_view(v) end,
  sequence = function(v) return sequences[kind(v)] or false end,
  callable = function(v) return type(v) == "function" or type(v) == "table" and kind(v) == "object" and v.call ~= nil
    or values.is_undefined(v) end,
  escaped = function(v) return kind(v) == "Markup" end,
  odd = function(v) return values.equal(operators["%"](v, 2), 1) end,
  even = function(v) return values.equal(operators["%"](v, 2), 0) end,
  lower = function(v) local s = repr.str(v) return case.lower(s) == s and case.upper(s) ~= s end,
  upper = function(v) local s = repr.str(v) return case.upper(s) == s and case.lower(s) ~= s end,
} do
  tests[name] = function(value, args, named)
    read(name, "", args, named)
    return holds(value) or false
  end
end

for symbol, names in pairs { ["=="] = "eq equalto", ["!="] = "ne", ["<"] = "lt lessthan", ["<="] = "le",
  [">"] = "gt greaterthan", [">="] = "ge", ["in"] = "in" } do
  for name in (names .. " " .. symbol):gmatch "%S+" do
    tests[name] = function(value, args, named) return operators[symbol](value, read(name, "other!", args, named)) end
  end
end

--- The test `divisibleby`.
function tests.divisibleby(value, args, named)
  return values.equal(operators["%"](value, read("divisibleby", "num!", args, named)), 0)
end
--- The test `sameas`.
function tests.sameas(value, args, named)
  local other = read("sameas", "other!", args, named)
  if type(value) == "string" and value == other or kind(value) == "float" and value == other then
    values.fail "whether two equal texts or floats are the same one is not supported"
  end
  return rawequal(value, other) and math.type(value) == math.type(other)
end

--- The test `test`.
function tests.test(value, args, named)
  read("test", "", args, named)
  return type(value) == "string" and tests[value] ~= nil
end
--- The test `filter`.
function tests.filter(value, args, named)
  read("filter", "", args, named)
  return type(value) == "string" and require "qlora.jinja.filters_select"[value] ~= nil
end

return tests
