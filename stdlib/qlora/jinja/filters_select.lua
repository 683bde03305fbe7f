--- Filters that choose, change or cut the items of a list.
local arguments = require "qlora.jinja.arguments"
local filters = require "qlora.jinja.filters_list"
local getter = require "qlora.jinja.getter"
local operators = require "qlora.jinja.operators"
local tests = require "qlora.jinja.tests"
local values = require "qlora.jinja.values"

local fail, None = values.fail, values.None
local read, int, str = arguments.read, arguments.int, arguments.text

local function given(value) if value == None then return nil end return value end

--- The filter `batch`.
function filters.batch(value, args, named)
  local size, fill = read("batch", "linecount! fill_with", args, named)
  local items, result = operators.items(value), {}
  size = int("batch", size)
  if size < 1 then fail "batch: a size below 1 is not supported" end
  for from = 1, items.n, size do
    local to = math.min(from + size - 1, items.n)
    local row, count = table.move(items, from, to, 1, {}), to - from + 1
    if given(fill) ~= nil then while count < size do count = count + 1 row[count] = fill values.tick() end end
    result[#result + 1] = values.list(row, count)
  end
  return values.generator(result)
end

--- The filter `slice`.
function filters.slice(value, args, named)
  local count, fill = read("slice", "slices! fill_with", args, named)
  local items, result = operators.items(value), {}
  count = int("slice", count)
  if count < 1 or count > values.limits.items then fail "slice: such a number is not supported" end
  local each, more, from = items.n // count, items.n % count, 1
  for i = 1, count do
    local size = each + (i <= more and 1 or 0)
    local row = table.move(items, from, from + size - 1, 1, {})
    if given(fill) ~= nil and i > more and more > 0 then size = size + 1 row[size] = fill
    elseif given(fill) ~= nil and i > more and more == 0 then size = size + 1 row[size] = fill end
    from = from + each + (i <= more and 1 or 0)
    result[i] = values.list(row, size)
  end
  return values.generator(result)
end

--- The arguments from `first` on.
local function rest(args, first)
  return table.move(args, first, args.n, 1, { n = math.max(0, args.n - first + 1) })
end

-- Jinja2 goes through nothing where the value is false, None included.
local function items_of(value) return values.truth(value) and operators.items(value) or { n = 0 } end

--- The filter `map`.
function filters.map(value, args, named)
  local items, result, apply = items_of(value), {}
  if args.n == 0 and named and named.attribute ~= nil then
    local attribute, default = named.attribute, named.default
    for _, name in ipairs(named) do
      if name ~= "attribute" and name ~= "default" then fail("Unexpected keyword argument '%s'", name) end
    end
    apply = getter(attribute, default)
  else
    if args.n == 0 then fail "map requires a filter argument" end
    local filter = filters[str("map", args[1])]
    if not filter then fail("No filter named '%s'.", args[1]) end
    apply = function(item)
      local copy
      if named then copy = {} for key, given_value in pairs(named) do copy[key] = given_value end end
      return filter(item, rest(args, 2), copy)
    end
  end
  for i = 1, items.n do
    values.tick()
    result[i] = apply(items[i])
  end
  return values.generator(result, items.n)
end

for name, wanted in pairs { select = true, reject = false, selectattr = true, rejectattr = false } do
  local by_attribute = name:find "attr$" ~= nil
  filters[name] = function(value, args, named)
    local get, first = getter(nil), 1
    if by_attribute then
      if args.n == 0 then fail "Missing parameter for attribute name" end
      get, first = getter(args[1]), 2
    end
    local test, more = nil, rest(args, first + 1)
    if args[first] ~= nil then
      test = tests[str(name, args[first])]
      if not test then fail("No test named '%s'.", args[first]) end
    end
    local items, result, count = items_of(value), {}, 0
    for i = 1, items.n do
      values.tick()
      local item = get(items[i])
      local copy
      if named then copy = {} for key, given_value in pairs(named) do copy[key] = given_value end end
      local holds
      if test then holds = values.truth(test(item, rest(more, 1), copy)) else holds = values.truth(item) end
      if holds == wanted then
        count = count + 1
        result[count] = items[i]
      end
    end
    return values.generator(result, count)
  end
end

return filters
