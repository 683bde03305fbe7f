--- Compiles expressions to Lua functions of a scope. No text is ever loaded as Lua: each node becomes a closure, so a
--- template reaches what these closures reach and nothing else. A scope is a table of variables whose metatable leads
--- to the scope around it.
local attributes = require "qlora.jinja.attributes"
local filters = require "qlora.jinja.filters_select"
local lexer = require "qlora.jinja.lexer"
local operators = require "qlora.jinja.operators"
local tests = require "qlora.jinja.tests"
local values = require "qlora.jinja.values"

local compiler = { soft = 0 }
local fail, truth, None = values.fail, values.truth, values.None
local kinds = {}

--- The function of a node.
function compiler.expression(node) return kinds[node.kind](node) end
local compile = compiler.expression

local function all(nodes)
  local list = {}
  for i, node in ipairs(nodes) do list[i] = compile(node) end
  return list
end

--- An expression of kind literal.
function kinds.literal(node)
  local value = node.value
  return function() return value end
end

local constants = { ["true"] = true, ["false"] = false, none = None }
--- An expression of kind constant.
function kinds.constant(node)
  local value = constants[node.name]
  return function() return value end
end

-- The template, which has its blocks for attributes; there are none here.
local template = values.object("TemplateReference", function() end)

--- An expression of kind name.
function kinds.name(node)
  local name = node.name
  local missing = name == "self" and template or values.undefined(("'%s' is undefined"):format(name))
  return function(scope)
    local value = scope[name]
    if value == nil then return missing end
    return value
  end
end

--- An expression of kind list.
function kinds.list(node)
  local items = all(node.items)
  return function(scope)
    local list = {}
    for i, item in ipairs(items) do list[i] = item(scope) end
    return values.list(list, #items)
  end
end

--- An expression of kind tuple.
function kinds.tuple(node)
  local items = all(node.items)
  return function(scope)
    local list = {}
    for i, item in ipairs(items) do list[i] = item(scope) end
    return values.tuple(list, #items)
  end
end

--- An expression of kind dict.
function kinds.dict(node)
  local pairs_of = {}
  for i, item in ipairs(node.items) do pairs_of[i] = { compile(item[1]), compile(item[2]) } end
  return function(scope)
    local dict = values.dict()
    for _, pair in ipairs(pairs_of) do values.put(dict, pair[1](scope), pair[2](scope)) end
    return dict
  end
end

kinds["or"] = function(node)
  local left, right = compile(node.left), compile(node.right)
  return function(scope)
    local value = left(scope)
    if truth(value) then return value end
    return right(scope)
  end
end
kinds["and"] = function(node)
  local left, right = compile(node.left), compile(node.right)
  return function(scope)
    local value = left(scope)
    if not truth(value) then return value end
    return right(scope)
  end
end
kinds["not"] = function(node)
  local value = compile(node.value)
  return function(scope) return not truth(value(scope)) end
end

--- An expression of kind choice.
function kinds.choice(node)
  compiler.soft = compiler.soft + 1
  local test, first, second = compile(node.test), compile(node.first), node.second and compile(node.second)
  compiler.soft = compiler.soft - 1
  local missing = values.undefined(("the inline if-expression on line %d evaluated to false and no else section was "
    .. "defined."):format(node.line))
  return function(scope)
    if truth(test(scope)) then return first(scope) end
    if second then return second(scope) end
    return missing
  end
end

--- An expression of kind compare.
function kinds.compare(node)
  local first, rest = compile(node.first), {}
  for i, part in ipairs(node.rest) do rest[i] = { operators[part[1]], compile(part[2]) } end
  return function(scope)
    local left = first(scope)
    for _, part in ipairs(rest) do
      local right = part[2](scope)
      if not part[1](left, right) then return false end
      left = right
    end
    return true
  end
end

--- An expression of kind binary.
function kinds.binary(node)
  local apply, left, right = operators[node.operator], compile(node.left), compile(node.right)
  return function(scope) return apply(left(scope), right(scope)) end
end
--- An expression of kind minus.
function kinds.minus(node)
  local value = compile(node.value)
  return function(scope) return operators.minus(value(scope)) end
end
--- An expression of kind plus.
function kinds.plus(node)
  local value = compile(node.value)
  return function(scope) return operators.plus(value(scope)) end
end
--- An expression of kind concat.
function kinds.concat(node)
  local parts = all(node.parts)
  return function(scope)
    local list = {}
    for i, part in ipairs(parts) do list[i] = part(scope) end
    return operators.concat(list)
  end
end

--- An expression of kind attribute.
function kinds.attribute(node)
  local value, name = compile(node.value), node.name
  return function(scope) return attributes.attribute(value(scope), name) end
end

--- An expression of kind item.
function kinds.item(node)
  local value = compile(node.value)
  if node.key.kind == "slice" then
    local slice = node.key
    local from, to, step = slice.from and compile(slice.from), slice.to and compile(slice.to),
      slice.step and compile(slice.step)
    return function(scope)
      return attributes.slice(value(scope), from and from(scope), to and to(scope), step and step(scope))
    end
  end
  local key = compile(node.key)
  return function(scope) return attributes.item(value(scope), key(scope)) end
end

--- An expression of kind slice.
function kinds.slice(node) lexer.fail(node.line, "a slice beside other indices is not supported") end

--- A function scope -> arguments by place (with n) and by name (nil without).
local function arguments(args)
  local positional, named = all(args.positional), {}
  for i, pair in ipairs(args.named) do named[i] = { pair[1], compile(pair[2]) } end
  local star, stars = args.star and compile(args.star), args.stars and compile(args.stars)
  local count = #positional
  return function(scope)
    local list, by_name = { n = count }, nil
    for i = 1, count do list[i] = positional[i](scope) end
    if star then
      local items = operators.items(star(scope))
      table.move(items, 1, items.n, count + 1, list)
      list.n = count + items.n
    end
    local function name(key, value)
      by_name = by_name or {}
      if by_name[key] ~= nil then fail("got multiple values for keyword argument '%s'", key) end
      by_name[#by_name + 1], by_name[key] = key, value
    end
    for _, pair in ipairs(named) do name(pair[1], pair[2](scope)) end
    if stars then
      local dict = stars(scope)
      if not values.is_dict(dict) then fail("argument after ** must be a mapping, not %s", values.kind(dict)) end
      values.see(dict)
      for _, key in ipairs(dict.keys) do
        if type(key) ~= "string" then fail "keywords must be strings" end
        name(key, values.raw(dict, key))
      end
    end
    return list, by_name
  end
end

--- Calls a value of a template.
function compiler.invoke(value, args, named)
  values.tick()
  if type(value) == "function" then return value(args, named) end
  if values.is_undefined(value) then fail("%s", value.hint) end
  if type(value) ~= "table" or values.kind(value) ~= "object" or not value.call then
    fail("'%s' object is not callable", values.kind(value))
  end
  return value.call(args, named)
end

--- Compiles a call; `more(named, scope)` may add arguments by name.
function compiler.call(node, more)
  local value, args, line = compile(node.value), arguments(node.args), node.line
  return function(scope)
    local callee = value(scope)
    local list, named = args(scope)
    if more then named = more(named or {}, scope) end
    values.state.line = line
    local result = compiler.invoke(callee, list, named)
    values.state.line = line
    return result
  end
end
--- An expression of kind call.
function kinds.call(node) return compiler.call(node) end

local function known(table_of, what, node)
  local found = table_of[node.name]
  if found then return found end
  if compiler.soft == 0 then lexer.fail(node.line, "No %s named '%s'.", what, node.name) end
  return function() fail("No %s named '%s'.", what, node.name) end
end

--- A filter as a function of a value and the scope.
function compiler.filter(node)
  local apply, args = known(filters, "filter", node), arguments(node.args)
  local inner = node.value and compiler.filter(node.value)
  return function(value, scope)
    if inner then value = inner(value, scope) end
    return apply(value, args(scope))
  end
end

--- An expression of kind filter.
function kinds.filter(node)
  local apply, args, value = known(filters, "filter", node), arguments(node.args), compile(node.value)
  return function(scope)
    local given = value(scope)
    return apply(given, args(scope))
  end
end

--- An expression of kind test.
function kinds.test(node)
  local apply, args, value = known(tests, "test", node), arguments(node.args), compile(node.value)
  return function(scope)
    local given = value(scope)
    return apply(given, args(scope))
  end
end

return compiler
