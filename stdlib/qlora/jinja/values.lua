--- The values of a template as Python has them: None, undefined, lists, tuples, dicts with an order of keys. Texts,
--- whole numbers, floats and booleans are Lua's own.
local values = {}

local List, Tuple, Dict, Undefined, Namespace, Object, Markup, View, Generator = {}, {}, {}, {}, {}, {}, {}, {}, {}
values.None = setmetatable({}, { __name = "None" })

local names = { [List] = "list", [Tuple] = "tuple", [Dict] = "dict", [Undefined] = "Undefined",
  [Namespace] = "Namespace", [Object] = "object", [Markup] = "Markup",
  [Generator] = "generator" }
local of_lua = { string = "str", boolean = "bool", ["function"] = "function" }

--- What a rendering has used up, and the line it is at; jinja.render makes a new one for each.
values.state = { line = 0, steps = 0, bytes = 0, depth = 0 }
values.limits = { steps = 2000000, bytes = 64 << 20, text = 32 << 20, depth = 120, items = 100000 }

--- Ends the rendering; jinja.render adds the template's name and line.
function values.fail(text, ...)
  error({ jinja = select("#", ...) > 0 and text:format(...) or text, line = values.state.line }, 0)
end
local fail = values.fail

--- Counts work, so that a template without end is an error.
function values.tick(count)
  local state = values.state
  state.steps = state.steps + (count or 1)
  if state.steps > values.limits.steps then fail("the template does more than %d steps", values.limits.steps) end
end

--- A text that is not too long.
function values.sized(text)
  if #text > 4096 then
    if #text > values.limits.text then fail("a text grows above %d bytes", values.limits.text) end
    values.tick(#text >> 10)
  end
  return text
end

--- Python's name of a value's type.
function values.kind(value)
  local kind = type(value)
  if kind == "number" then return math.type(value) == "integer" and "int" or "float" end
  if kind ~= "table" then return of_lua[kind] or kind end
  if value == values.None then return "NoneType" end
  local class = getmetatable(value)
  return class == View and value.name or names[class] or "object"
end
local kind = values.kind

--- A list of `count` items.
function values.list(items, count)
  items.n = count or #items
  if items.n > values.limits.items * 10 then fail "a list grows above a million items" end
  return setmetatable(items, List)
end
--- A tuple of `count` items.
function values.tuple(items, count)
  items.n = count or #items
  return setmetatable(items, Tuple)
end
--- An empty dict.
function values.dict() return setmetatable({ keys = {}, map = {}, n = 0 }, Dict) end
--- A namespace with its fields.
function values.namespace(fields) return setmetatable(fields, Namespace) end
--- A text marked safe.
function values.markup(text) return setmetatable({ text = text }, Markup) end
--- A value with attributes alone, such as `loop`; `get(name)` gives one or nil, `call` what calling it does.
function values.object(name, get, call) return setmetatable({ name = name, get = get, call = call }, Object) end
--- What dict.items(), keys(), values() and range() give: it can be gone through and counted, not indexed.
function values.view(name, items, count)
  items.name, items.n = name, count or #items
  return setmetatable(items, View)
end
--- What can be gone through once.
function values.generator(items, count)
  items.n = count or #items
  return setmetatable({ items = items }, Generator)
end
--- Whether a value is a view.
function values.is_view(value) return type(value) == "table" and getmetatable(value) == View end

--- What is not there. `hint` says why, in the error that using it gives.
function values.undefined(hint) return setmetatable({ hint = hint }, Undefined) end

--- Whether a value is a list or a tuple.
function values.is_sequence(value) -- a list or a tuple
  local class = type(value) == "table" and getmetatable(value)
  return class == List or class == Tuple
end
--- Whether a value is a dict.
function values.is_dict(value) return type(value) == "table" and getmetatable(value) == Dict end
--- Whether a value is undefined.
function values.is_undefined(value) return type(value) == "table" and getmetatable(value) == Undefined end

--- Ends the rendering when a value is undefined.
function values.defined(value)
  if values.is_undefined(value) then fail("%s", value.hint) end
  return value
end

-- In Python True == 1 as a key, too.
local function normal(key)
  local of = type(key)
  if of == "boolean" then return key and 1 or 0 end
  if of == "table" and key ~= values.None then
    fail(values.kind(key) == "tuple" and "a tuple as a key is not supported" or "unhashable type: '%s'", kind(key))
  end
  if key ~= key then fail "nan as a key is not supported" end
  return key
end

--- The value of a key, nil without it. `seen` of a dict is a set of the keys that were read.
function values.get(dict, key)
  if type(key) == "table" and values.is_undefined(key) then return nil end
  if dict.seen and type(key) == "string" then dict.seen[key] = true end
  return dict.map[normal(key)]
end
--- Whether a dict has a key.
function values.has(dict, key)
  if type(key) == "table" and values.is_undefined(key) then return false end
  return dict.map[normal(key)] ~= nil
end
--- Sets a key of a dict.
function values.put(dict, key, value)
  local at = normal(key)
  if dict.map[at] == nil then
    dict.n = dict.n + 1
    dict.keys[dict.n] = key
  end
  dict.map[at] = value
end
--- Marks all keys as read: the dict was written or gone through as a whole, which `as_whole` says.
function values.see(dict)
  if not dict.seen then return end
  for _, key in ipairs(dict.keys) do dict.seen[key] = true end
  dict.as_whole = true
end
--- The value of a key of the dict's own list, without reading it.
function values.raw(dict, key) return dict.map[normal(key)] end

--- Python's truth.
function values.truth(value)
  if value == nil or value == false or value == "" or value == 0 or value == values.None then return false end
  if type(value) ~= "table" then return true end
  local class = getmetatable(value)
  if class == List or class == Tuple or class == Dict or class == View then return value.n > 0 end
  if class == Markup then return value.text ~= "" end
  return class ~= Undefined
end

local numbers = { int = true, float = true, bool = true }

--- A number as arithmetic sees it (True is 1); nil for anything else.
function values.number(value)
  if type(value) == "number" then return value end
  if value == true then return 1 elseif value == false then return 0 end
  return nil
end

--- Python's ==.
function values.equal(a, b)
  if rawequal(a, b) then return a == a end
  local first, second = kind(a), kind(b)
  if first == "Markup" then a, first = a.text, "str" end
  if second == "Markup" then b, second = b.text, "str" end
  if numbers[first] and numbers[second] then return values.number(a) == values.number(b) end
  if first ~= second then return false end
  if first == "str" then return a == b end
  if first == "Undefined" then return true end
  if first == "list" or first == "tuple" then
    if a.n ~= b.n then return false end
    values.tick(a.n)
    for i = 1, a.n do if not values.equal(a[i], b[i]) then return false end end
    return true
  end
  if first == "dict" then
    if a.n ~= b.n then return false end
    values.tick(a.n)
    values.see(a)
    values.see(b)
    for _, key in ipairs(a.keys) do
      local other = values.raw(b, key)
      if other == nil or not values.equal(values.raw(a, key), other) then return false end
    end
    return true
  end
  return false
end

return values
