--- Compiles statements to Lua functions of a scope, which write to the output and return "break" or "continue" where
--- one of these left them.
local compiler = require "qlora.jinja.compiler"
local loop_of = require "qlora.jinja.loop"
local operators = require "qlora.jinja.operators"
local repr = require "qlora.jinja.repr"
local values = require "qlora.jinja.values"

local blocks = {}
local fail = values.fail
local kinds = {}

local function child(scope) return setmetatable({}, { __index = scope }) end

local function write(piece)
  if piece == "" then return end
  local state = values.state
  local out = state.out
  out.n, out.bytes, state.bytes = out.n + 1, out.bytes + #piece, state.bytes + #piece
  if state.bytes > values.limits.bytes then fail("the template writes more than %d bytes", values.limits.bytes) end
  out[out.n] = piece
end

--- The text that `body` writes.
local function captured(body, scope)
  local state = values.state
  local outer = state.out
  state.out = { n = 0, bytes = 0 }
  state.depth = state.depth + 1
  if state.depth > values.limits.depth then fail "macros or loops call themselves too deeply" end
  body(scope)
  local text = table.concat(state.out)
  state.out, state.depth = outer, state.depth - 1
  return text
end

--- The function of a list of statements.
function blocks.body(nodes)
  local list, lines = {}, {}
  for i, node in ipairs(nodes) do list[i], lines[i] = kinds[node.kind](node), node.line end
  local count = #list
  return function(scope)
    for i = 1, count do
      local state = values.state
      state.line, state.steps = lines[i], state.steps + 1
      local signal = list[i](scope)
      if signal then return signal end
    end
    values.tick(0)
  end
end
local body_of = blocks.body

--- A statement of kind data.
function kinds.data(node)
  local text = node.text
  return function() write(text) end
end

--- A statement of kind print.
function kinds.print(node)
  local value = compiler.expression(node.value)
  return function(scope) write(repr.str(value(scope))) end
end

--- A function (scope, value) that assigns.
local function target_of(node)
  if node.kind == "name" then
    local name = node.name
    return function(scope, value) scope[name] = value end
  elseif node.kind == "member" then
    local name, key = node.name, node.key
    return function(scope, value)
      local namespace = scope[name]
      if values.kind(namespace) ~= "Namespace" then fail "cannot assign attribute on non-namespace object" end
      if key:sub(1, 1) == "_" then fail("a namespace cannot hold '%s', which begins with an underscore", key) end
      namespace[key] = value
    end
  end
  local targets = {}
  for i, item in ipairs(node.items) do targets[i] = target_of(item) end
  return function(scope, value)
    local items = operators.items(value)
    if items.n < #targets then
      fail("not enough values to unpack (expected %d, got %d)", #targets, items.n)
    elseif items.n > #targets then fail("too many values to unpack (expected %d)", #targets) end
    for i, target in ipairs(targets) do target(scope, items[i]) end
  end
end

--- A statement of kind set.
function kinds.set(node)
  local target, value = target_of(node.target), compiler.expression(node.value)
  return function(scope) target(scope, value(scope)) end
end

kinds["set block"] = function(node)
  local target, filter, body = target_of(node.target), node.filter and compiler.filter(node.filter), body_of(node.body)
  return function(scope)
    local text = captured(body, child(scope))
    target(scope, filter and filter(text, scope) or text)
  end
end

kinds["filter block"] = function(node)
  local filter, body = compiler.filter(node.filter), body_of(node.body)
  return function(scope) write(repr.str(filter(captured(body, child(scope)), scope))) end
end

kinds["if"] = function(node)
  compiler.soft = compiler.soft + 1
  local branches = {}
  for i, branch in ipairs(node.branches) do
    branches[i] = { compiler.expression(branch[1]), body_of(branch[2]) }
  end
  local other = node.other and body_of(node.other)
  compiler.soft = compiler.soft - 1
  return function(scope)
    for _, branch in ipairs(branches) do
      if values.truth(branch[1](scope)) then return branch[2](scope) end
    end
    if other then return other(scope) end
  end
end

kinds["with"] = function(node)
  local targets, list, body = {}, {}, body_of(node.body)
  for i, target in ipairs(node.targets) do
    targets[i], list[i] = target_of(target), compiler.expression(node.list[i])
  end
  return function(scope)
    local inner, given = child(scope), {}
    for i, value in ipairs(list) do given[i] = value(scope) end
    for i, target in ipairs(targets) do target(inner, given[i]) end
    return body(inner)
  end
end

kinds["break"] = function() return function() return "break" end end
kinds["continue"] = function() return function() return "continue" end end

kinds["for"] = function(node)
  local target, list = target_of(node.target), compiler.expression(node.list)
  local test = node.test and compiler.expression(node.test)
  local body, other = body_of(node.body), node.other and body_of(node.other)
  local line = node.line
  local function filtered(source, scope)
    local kept, count = {}, 0
    for i = 1, source.n do
      values.tick()
      local inner = child(scope)
      target(inner, source[i])
      if values.truth(test(inner)) then
        count = count + 1
        kept[count] = source[i]
      end
    end
    kept.n = count
    return kept
  end
  local function run(scope, value, depth)
    local items, at = operators.items(value), { i = 0 }
    if test then items = filtered(items, scope) end
    if items.n == 0 then return other and other(scope) end
    local again = node.recursive and function(args)
      if args.n ~= 1 then fail "loop() takes one argument" end
      return captured(function() run(scope, args[1], depth + 1) end, scope)
    end
    local loop, state = loop_of(items, at, depth, again), values.state
    local outer = state.message
    state.loops = state.loops + 1
    for i = 1, items.n do
      at.i = i
      state.line = line
      state.message = state.messages[items[i]] or outer or 0
      values.tick()
      local inner = child(scope)
      inner.loop = loop
      target(inner, items[i])
      if body(inner) == "break" then break end
    end
    state.message = outer
  end
  return function(scope) run(scope, list(scope), 1) end
end

--- A macro as a value that can be called in `scope`.
local function macro_of(node)
  local names, body, read, name = node.names, body_of(node.body), node.read, node.name
  local defaults = {}
  for i, default in pairs(node.defaults) do defaults[i] = compiler.expression(default) end
  local declared = {}
  for _, parameter in ipairs(names) do declared[parameter] = true end
  local catches_named, catches_more = read.kwargs and not declared.kwargs, read.varargs and not declared.varargs
  local calls = read.caller and not declared.caller
  local function bind(inner, args, named)
    for i, parameter in ipairs(names) do
      local value = args[i]
      if named[parameter] ~= nil then
        if value ~= nil then fail("macro '%s' got multiple values for argument '%s'", name, parameter) end
        value = named[parameter]
      end
      if value == nil and defaults[i] then value = defaults[i](inner)
      elseif value == nil then value = values.undefined(("parameter '%s' was not provided"):format(parameter)) end
      inner[parameter] = value
    end
    local kwargs = values.dict()
    for _, key in ipairs(named) do
      if not declared[key] then
        if key == "caller" and calls then inner.caller = named.caller
        elseif catches_named then values.put(kwargs, key, named[key])
        else fail("macro '%s' takes no keyword argument '%s'", name, key) end
      end
    end
    if catches_named then inner.kwargs = kwargs end
    if calls and named.caller == nil then inner.caller = values.undefined "No caller defined" end
    if catches_more then
      local count = math.max(0, args.n - #names)
      inner.varargs = values.tuple(table.move(args, #names + 1, args.n, 1, {}), count)
    elseif args.n > #names then
      fail("macro '%s' takes not more than %d argument(s)", name, #names)
    end
  end
  return function(scope)
    local function get(key)
      if key == "name" then return name end
      if key == "arguments" then return values.tuple(table.move(names, 1, #names, 1, {})) end
      if key == "caller" then return calls or false end
      if key == "catch_kwargs" then return catches_named or false end
      if key == "catch_varargs" then return catches_more or false end
    end
    return values.object("Macro", get, function(args, named)
      local inner = child(scope)
      bind(inner, args, named or {})
      return captured(body, inner)
    end)
  end
end

--- A statement of kind macro.
function kinds.macro(node)
  local make, name = macro_of(node), node.name
  return function(scope) scope[name] = make(scope) end
end

kinds["call block"] = function(node)
  local make = macro_of(node.caller)
  local call = compiler.call(node.call, function(named, scope)
    if named.caller == nil then named[#named + 1] = "caller" end
    named.caller = make(scope)
    return named
  end)
  return function(scope) write(repr.str(call(scope))) end
end

--- What an assistant says: its place is noted as transformers takes it, behind what the template itself has written so
--- far. In a macro or a captured text that may be another place than the text gets, so the text is noted too. `message`
--- is the number of the message whose loop the block stands in, 0 in a loop over something else, nil behind all loops.
function kinds.generation(node)
  local body = body_of(node.body)
  return function(scope)
    local state = values.state
    local loops = state.loops
    local text = captured(body, child(scope))
    local message = state.message
    if not message and (loops == 0 or state.loops > loops) then message = 0 end
    local before = state.root.bytes
    state.generated[#state.generated + 1] = { before + 1, before + #text, text = text, line = node.line,
      message = message }
    write(text)
  end
end

return blocks
