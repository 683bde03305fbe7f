--- Filters of lists: sorting, grouping, selecting, counting.
local arguments = require "qlora.jinja.arguments"
local attributes = require "qlora.jinja.attributes"
local case = require "qlora.jinja.case"
local filters = require "qlora.jinja.filters"
local getter = require "qlora.jinja.getter"
local operators = require "qlora.jinja.operators"
local repr = require "qlora.jinja.repr"
local text = require "qlora.jinja.text"
local values = require "qlora.jinja.values"

local fail, kind, None = values.fail, values.kind, values.None
local read, str = arguments.read, arguments.text

local function given(value) if value == None then return nil end return value end
local function flag(value) return value ~= nil and values.truth(value) end

local function fold(value) return type(value) == "string" and case.lower(value) or value end

--- Merge sort, which keeps the order of equals; `less(a, b)` of positions' keys.
local function sorted(items, keys, reverse)
  local order = {}
  for i = 1, items.n do order[i] = i end
  local function less(a, b)
    values.tick()
    if reverse then a, b = b, a end
    local result = operators.order("<", keys[a], keys[b])
    return result == -1
  end
  local width = 1
  while width < items.n do
    local merged = {}
    for from = 1, items.n, 2 * width do
      local left, middle, right = from, math.min(from + width, items.n + 1), math.min(from + width, items.n + 1)
      local stop = math.min(from + 2 * width, items.n + 1)
      for at = from, stop - 1 do
        if left < middle and (right >= stop or not less(order[right], order[left])) then
          merged[at], left = order[left], left + 1
        else merged[at], right = order[right], right + 1 end
      end
    end
    order, width = merged, 2 * width
  end
  local result = {}
  for i = 1, items.n do result[i] = items[order[i]] end
  return result
end

local function keys_of(items, attribute, sensitive)
  attribute = given(attribute)
  local paths = { attribute }
  if type(attribute) == "string" and attribute:find(",", 1, true) then paths = text.split(attribute, ",") end
  local keys = {}
  for i = 1, items.n do
    local parts = {}
    for k = 1, math.max(1, #paths) do
      local key = getter(paths[k])(items[i])
      parts[k] = sensitive and key or fold(key)
    end
    keys[i] = values.list(parts)
  end
  return keys
end

--- The filter `sort`.
function filters.sort(value, args, named)
  local reverse, sensitive, attribute = read("sort", "reverse case_sensitive attribute", args, named)
  local items = operators.items(value)
  return values.list(sorted(items, keys_of(items, attribute, flag(sensitive)), flag(reverse)), items.n)
end

--- The filter `dictsort`.
function filters.dictsort(value, args, named)
  local sensitive, by, reverse = read("dictsort", "case_sensitive by reverse", args, named)
  by = str("dictsort", by, "key")
  if by ~= "key" and by ~= "value" then fail 'You can only sort by either "key" or "value"' end
  if not values.is_dict(value) then
    values.defined(value)
    fail("'%s object' has no attribute 'items'", kind(value))
  end
  local items, keys = attributes.attribute(value, "items")({ n = 0 }), {}
  for i = 1, items.n do
    local key = items[i][by == "key" and 1 or 2]
    keys[i] = flag(sensitive) and key or fold(key)
  end
  return values.list(sorted(items, keys, flag(reverse)), items.n)
end

--- The filter `groupby`.
function filters.groupby(value, args, named)
  local attribute, default, sensitive = read("groupby", "attribute! default case_sensitive", args, named)
  local items, get, keys = operators.items(value), getter(attribute, given(default)), {}
  local fields = { grouper = 1, list = 2 }
  for i = 1, items.n do
    local key = get(items[i])
    keys[i] = flag(sensitive) and key or fold(key)
  end
  local order, groups = { n = items.n }, {}
  for i = 1, items.n do order[i] = i end
  local last
  for _, i in ipairs(sorted(order, keys)) do
    local key = keys[i]
    if #groups == 0 or not values.equal(last, key) then
      groups[#groups + 1] = values.tuple { get(items[i]), values.list {} }
      groups[#groups].fields = fields
      last = key
    end
    local list = groups[#groups][2]
    list.n = list.n + 1
    list[list.n] = items[i]
  end
  return values.list(groups)
end

--- The filter `unique`.
function filters.unique(value, args, named)
  local sensitive, attribute = read("unique", "case_sensitive attribute", args, named)
  local items, get, seen, result = operators.items(value), getter(given(attribute)), values.dict(), {}
  for i = 1, items.n do
    local key = get(items[i])
    if not flag(sensitive) then key = fold(key) end
    if values.is_undefined(key) then key = "\0undefined" end
    if not values.has(seen, key) then
      values.put(seen, key, true)
      result[#result + 1] = items[i]
    end
  end
  return values.generator(result)
end

for name, wanted in pairs { min = -1, max = 1 } do
  filters[name] = function(value, args, named)
    local sensitive, attribute = read(name, "case_sensitive attribute", args, named)
    local items = operators.items(value)
    if items.n == 0 then return values.undefined "No aggregated item, sequence was empty." end
    local get, best, best_key = getter(given(attribute)), nil, nil
    for i = 1, items.n do
      local key = get(items[i])
      if not flag(sensitive) then key = fold(key) end
      if i == 1 or operators.order(wanted == 1 and ">" or "<", key, best_key) == wanted then
        best, best_key = items[i], key
      end
    end
    return best
  end
end

--- The filter `sum`.
function filters.sum(value, args, named)
  local attribute, start = read("sum", "attribute start", args, named)
  local items, get, total = operators.items(value), getter(given(attribute)), start == nil and 0 or start
  if type(total) == "string" then fail "sum() can't sum strings [use ''.join(seq) instead]" end
  for i = 1, items.n do total = operators["+"](total, get(items[i])) end
  return total
end

--- The filter `join`.
function filters.join(value, args, named)
  local separator, attribute = read("join", "d attribute", args, named)
  local items, get, parts = operators.items(value), getter(given(attribute)), {}
  for i = 1, items.n do
    parts[i] = repr.str(get(items[i]))
  end
  separator = separator == nil and "" or repr.str(separator)
  if #separator * items.n > values.limits.text then fail("a text grows above %d bytes", values.limits.text) end
  return values.sized(table.concat(parts, separator))
end

--- The filter `length`.
function filters.length(value, args, named)
  read("length", "", args, named)
  local of = kind(value)
  if of == "str" then return text.length(value) end
  if of == "Markup" then return text.length(value.text) end
  if of == "Undefined" then return 0 end
  if of == "list" or of == "tuple" or of == "dict" or values.is_view(value) then return value.n end
  fail("object of type '%s' has no len()", of)
end
filters.count = filters.length

--- The filter `first`.
function filters.first(value, args, named)
  read("first", "", args, named)
  local items = operators.items(value)
  if items.n == 0 then return values.undefined "No first item, sequence was empty." end
  return items[1]
end
--- The filter `last`.
function filters.last(value, args, named)
  read("last", "", args, named)
  if kind(value) == "generator" then fail "'generator' object is not reversible" end
  local items = operators.items(value)
  if items.n == 0 then return values.undefined "No last item, sequence was empty." end
  return items[items.n]
end

--- The filter `list`.
function filters.list(value, args, named)
  read("list", "", args, named)
  local items = operators.items(value)
  return values.list(table.move(items, 1, items.n, 1, {}), items.n)
end

--- The filter `items`.
function filters.items(value, args, named)
  read("items", "", args, named)
  if values.is_undefined(value) then return values.generator {} end
  if not values.is_dict(value) then fail "Can only get item pairs from a mapping." end
  local items = attributes.attribute(value, "items")({ n = 0 })
  return values.generator(table.move(items, 1, items.n, 1, {}), items.n)
end

--- The filter `reverse`.
function filters.reverse(value, args, named)
  read("reverse", "", args, named)
  local items, result = operators.items(value), {}
  for i = items.n, 1, -1 do result[#result + 1] = items[i] end
  if type(value) == "string" then return table.concat(result) end
  return values.generator(result, items.n)
end

return filters
