--- value.name and value[key], and the methods of lists and dicts.
local arguments = require "qlora.jinja.arguments"
local repr = require "qlora.jinja.repr"
local strings = require "qlora.jinja.strings"
local text = require "qlora.jinja.text"
local values = require "qlora.jinja.values"

local attributes = {}
local fail, kind, None = values.fail, values.kind, values.None
local read, int = arguments.read, arguments.int

local dict, list = {}, {}
local methods = { str = strings.methods, dict = dict, list = list, tuple = list }

--- dict.items
function dict.items(d, args, named)
  read("items", "", args, named)
  values.see(d)
  local result = {}
  for i, key in ipairs(d.keys) do result[i] = values.tuple { key, values.raw(d, key) } end
  values.tick(d.n)
  return values.view("dict_items", result, d.n)
end
--- dict.keys
function dict.keys(d, args, named)
  read("keys", "", args, named)
  return values.view("dict_keys", table.move(d.keys, 1, d.n, 1, {}), d.n)
end
--- dict.values
function dict.values(d, args, named)
  read("values", "", args, named)
  values.see(d)
  local result = {}
  for i, key in ipairs(d.keys) do result[i] = values.raw(d, key) end
  return values.view("dict_values", result, d.n)
end
--- dict.get
function dict.get(d, args, named)
  local key, default = read("get", "key! default", args, named)
  local value = values.get(d, key)
  if value == nil then value = default end
  if value == nil then return None end
  return value
end
--- dict.copy
function dict.copy(d, args, named)
  read("copy", "", args, named)
  values.see(d)
  local copy = values.dict()
  for _, key in ipairs(d.keys) do values.put(copy, key, values.raw(d, key)) end
  return copy
end

--- list.index
function list.index(l, args, named)
  local wanted, from, to = read("index", "value! start stop", args, named)
  from, to = int("index", from, 0), int("index", to, l.n)
  if from < 0 then from = math.max(0, from + l.n) end
  if to < 0 then to = to + l.n end
  for i = from + 1, math.min(to, l.n) do if values.equal(l[i], wanted) then return i - 1 end end
  fail("%s is not in list", repr.repr(wanted))
end
--- list.count
function list.count(l, args, named)
  local wanted, count = read("count", "value!", args, named), 0
  values.tick(l.n)
  for i = 1, l.n do if values.equal(l[i], wanted) then count = count + 1 end end
  return count
end
local function copied(l) return values.list(table.move(l, 1, l.n, 1, {}), l.n) end

local unsafe = {
  list = { append = true, clear = true, extend = true, insert = true, pop = true, remove = true, reverse = true,
    sort = true },
  dict = { clear = true, pop = true, popitem = true, setdefault = true, update = true },
}

-- Of the methods of Python's built-in types these alone have arguments by name.
local takes_names = { format = true, split = true, rsplit = true, splitlines = true, encode = true, expandtabs = true }

--- The method of a value; nil without one of this name.
local function method(value, name, of)
  local found = methods[of] and methods[of][name]
  if of == "list" and name == "copy" then found = copied end
  if found then
    return function(args, named)
      if named and named[1] and not (of == "str" and takes_names[name]) then
        fail("%s.%s() takes no keyword arguments", of, name)
      end
      return found(value, args, named)
    end
  end
  if unsafe[of] and unsafe[of][name] then
    return values.undefined(("access to attribute '%s' of '%s' object is unsafe: templates cannot change values")
      :format(name, of))
  end
end

--- Methods alone, for the filter `attr`.
function attributes.own(value, name)
  local of = kind(value)
  if of == "Undefined" then fail("%s", value.hint) end
  local found = method(value, name, of)
  if found == nil and (of == "Namespace" or of == "object") then return attributes.attribute(value, name) end
  return found == nil and attributes.missing(value, name) or found
end

local function missing(value, key)
  if value == None then return values.undefined(("'None' has no attribute %s"):format(repr.repr(key))) end
  if type(key) ~= "string" then
    return values.undefined(("%s object has no element %s"):format(kind(value), repr.repr(key)))
  end
  return values.undefined(("'%s object' has no attribute '%s'"):format(kind(value) == "Namespace" and
    "jinja2.utils.Namespace" or kind(value), key))
end

attributes.missing = missing

--- The element at a place of Python's, which may be negative; nil past the ends.
local function element(value, index)
  if index < 0 then index = index + (type(value) == "string" and text.length(value) or value.n) end
  if index < 0 then return nil end
  if type(value) ~= "string" then return value[index + 1] end
  local c = text.sub(value, index + 1, index + 1)
  return c ~= "" and c or nil
end

--- What value[key] holds as an item alone; nil without it.
local function held(value, key, of)
  if of == "dict" then return values.get(value, key) end
  if of == "tuple" and value.fields and value.fields[key] then return value[value.fields[key]] end
  if of == "list" or of == "tuple" or of == "str" or of == "range" then
    local index = values.number(key)
    if math.type(index) == "integer" then return element(value, index) end
  elseif of == "Namespace" then return rawget(value, key) end
  return nil
end

--- value.name: attributes go before items.
function attributes.attribute(value, name)
  local of = kind(value)
  if of == "Undefined" then fail("%s", value.hint) end
  if of == "object" then
    local found = value.get(name)
    if found == nil then return missing(value, name) end
    return found
  end
  if of == "Markup" then fail "such use of a text marked safe is not supported" end
  local found = method(value, name, of)
  if found == nil then found = held(value, name, of) end
  if found ~= nil then return found end
  if name:find "^__" then
    return values.undefined(("access to attribute '%s' of '%s' object is unsafe"):format(name, of))
  end
  return missing(value, name)
end

--- value[key]: items go before attributes.
function attributes.item(value, key)
  local of = kind(value)
  if of == "Undefined" then fail("%s", value.hint) end
  if of == "Markup" then fail "such use of a text marked safe is not supported" end
  if of == "object" then return attributes.attribute(value, key) end
  local found = held(value, key, of)
  if found == nil and type(key) == "string" then found = method(value, key, of) end
  if found ~= nil then return found end
  return missing(value, key)
end

--- value[from:to:step]; nil for what is not given.
function attributes.slice(value, from, to, step)
  local of = kind(value)
  if of == "Undefined" then fail("%s", value.hint) end
  local source, length = value, nil
  if of == "str" then
    source = text.characters(value)
    length = #source
  elseif of == "list" or of == "tuple" then length = value.n
  elseif of == "range" or of == "Markup" then fail("slices of a %s are not supported", of)
  else fail("'%s' object is not subscriptable", of) end
  local function index(given)
    if given == nil or given == None then return nil end
    local n = values.number(given)
    if math.type(n) ~= "integer" then
      return fail "slice indices must be integers or None or have an __index__ method"
    end
    return n
  end
  from, to, step = index(from), index(to), index(step) or 1
  if step == 0 then fail "slice step cannot be zero" end
  local low, high = step > 0 and 0 or -1, step > 0 and length or length - 1
  local function clamp(n, default)
    if n == nil then return default end
    if n < 0 then n = n + length end
    return math.max(low, math.min(high, n))
  end
  local first = clamp(from, step > 0 and low or high)
  local last = clamp(to, step > 0 and high or low)
  local result, count = {}, 0
  for i = first, last + (step > 0 and -1 or 1), step do
    count = count + 1
    result[count] = source[i + 1]
  end
  values.tick(count >> 3)
  if of == "str" then return table.concat(result) end
  return values[of](result, count)
end

return attributes
