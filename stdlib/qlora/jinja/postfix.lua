--- Parses what follows a value: .name, [key], calls, filters and tests.
local expressions = require "qlora.jinja.expressions"
local lexer = require "qlora.jinja.lexer"

local Parser, node = expressions.Parser, expressions.node

--- Attributes, items and calls of a value.
function Parser:postfix(value)
  while true do
    if self:op "." or self:op "[" then value = self:subscript(value)
    elseif self:op "(" then value = self:call(value)
    else return value end
  end
end

--- Filters, tests and calls after a value.
function Parser:filters(value)
  while true do
    if self:op "|" then value = self:filter(value)
    elseif self:word "is" then value = self:test(value)
    elseif self:op "(" then value = self:call(value)
    else return value end
  end
end

--- `.name` or `[key]`.
function Parser:subscript(value)
  local token = self:next()
  local line = token.line
  if token.value == "." then
    local name = self:next()
    if name.kind == "name" then return node("attribute", line, { value = value, name = name.value }) end
    if name.kind == "number" and math.type(name.value) == "integer" then
      return node("item", line, { value = value, key = node("literal", line, { value = name.value }) })
    end
    lexer.fail(line, "expected a name or a number after '.'")
  end
  local parts = {}
  while not self:op "]" do
    if #parts > 0 then self:expect("operator", ",") end
    parts[#parts + 1] = self:subscribed()
  end
  self:expect("operator", "]")
  if #parts == 0 then lexer.fail(line, "expected an expression in []") end
  local key = #parts == 1 and parts[1] or node("tuple", line, { items = parts })
  return node("item", line, { value = value, key = key })
end

--- One key or slice in [].
function Parser:subscribed()
  local line, parts, at = self:now().line, {}, 1
  local is_slice = false
  while at <= 3 do
    if not (self:op ":" or self:op "]" or self:op ",") then parts[at] = self:expression() end
    if at == 3 or not self:skip_op ":" then break end
    is_slice, at = true, at + 1
  end
  if not is_slice then
    if not parts[1] then lexer.fail(line, "expected an expression in []") end
    return parts[1]
  end
  return node("slice", line, { from = parts[1], to = parts[2], step = parts[3] })
end

--- The arguments of a call: positional, by name, *list and **dict.
function Parser:arguments()
  local line = self:expect("operator", "(").line
  local args = { positional = {}, named = {} }
  local function ensure(fine) if not fine then lexer.fail(line, "arguments of a call in a wrong order") end end
  local first = true
  while not self:op ")" do
    if not first then
      self:expect("operator", ",")
      if self:op ")" then break end
    end
    first = false
    if self:skip_op "*" then
      ensure(not args.star and not args.stars)
      args.star = self:expression()
    elseif self:skip_op "**" then
      ensure(not args.stars)
      args.stars = self:expression()
    elseif self:is "name" and self:ahead().kind == "operator" and self:ahead().value == "=" then
      ensure(not args.stars)
      local name = self:next().value
      self:next()
      args.named[#args.named + 1] = { name, self:expression() }
    else
      ensure(not args.star and not args.stars and #args.named == 0)
      args.positional[#args.positional + 1] = self:expression()
    end
  end
  self:expect("operator", ")")
  return args
end

--- A call of a value.
function Parser:call(value)
  local line = self:now().line
  return node("call", line, { value = value, args = self:arguments() })
end

local function dotted(self)
  local name = self:expect("name").value
  while self:skip_op "." do name = name .. "." .. self:expect("name").value end
  return name
end

--- `| name(…)`; `value` nil for a filter of a block. `inline`: the first has no bar in front.
function Parser:filter(value, inline)
  while inline or self:op "|" do
    if not inline then self:next() end
    inline = false
    local line, name = self:now().line, dotted(self)
    local args = self:op "(" and self:arguments() or { positional = {}, named = {} }
    value = node("filter", line, { value = value, name = name, args = args })
  end
  return value
end

local no_argument = { ["else"] = true, ["or"] = true, ["and"] = true, ["is"] = true }

--- `is name`, `is not name`, with arguments.
function Parser:test(value)
  local line = self:next().line
  local negated = self:skip_word "not"
  local name, args = dotted(self), { positional = {}, named = {} }
  local token = self:now()
  if self:op "(" then args = self:arguments()
  elseif token.kind == "string" or token.kind == "number" or self:op "[" or self:op "{"
    or token.kind == "name" and not no_argument[token.value] then
    args.positional[1] = self:postfix(self:primary())
  elseif self:word "is" then lexer.fail(line, "tests cannot be chained with is") end
  local result = node("test", line, { value = value, name = name, args = args })
  return negated and node("not", line, { value = result }) or result
end

return expressions
