--- Parses expressions of Jinja into nodes { kind, line =, … }, with Jinja2's grammar.
local lexer = require "qlora.jinja.lexer"

local expressions = {}
local Parser = {}
Parser.__index = Parser
expressions.Parser = Parser

local constants = { ["true"] = true, True = true, ["false"] = true, False = true, none = true, None = true }
local finish = { kind = "finish", value = "the end of the template" }

function Parser.new(tokens, last)
  finish.line = last
  return setmetatable({ tokens = tokens, at = 1, last = last, depth = 0, macros = {} }, Parser)
end

function Parser:now() return self.tokens[self.at] or { kind = "finish", value = "the end of the template", line = self.last } end
function Parser:ahead() return self.tokens[self.at + 1] or finish end
function Parser:next()
  local token = self:now()
  self.at = self.at + 1
  return token
end
function Parser:is(kind, value)
  local token = self:now()
  return token.kind == kind and (value == nil or token.value == value)
end
function Parser:skip(kind, value)
  if self:is(kind, value) then return self:next() end
end
function Parser:expect(kind, value)
  if self:is(kind, value) then return self:next() end
  local token = self:now()
  lexer.fail(token.line, "expected %s, got '%s'", value and "'" .. value .. "'" or "a " .. kind, tostring(token.value))
end
function Parser:op(value) return self:is("operator", value) end
function Parser:skip_op(value) return self:skip("operator", value) end
function Parser:word(value) return self:is("name", value) end
function Parser:skip_word(value) return self:skip("name", value) end

function Parser:deeper()
  self.depth = self.depth + 1
  if self.depth > 150 then lexer.fail(self:now().line, "nested too deeply") end
end

local function node(kind, line, fields)
  fields.kind, fields.line = kind, line
  return fields
end
expressions.node = node

--- Notes a name that is read, for macros that read varargs, kwargs or caller.
function Parser:read(name)
  for _, names in ipairs(self.macros) do names[name] = true end
end

function Parser:expression()
  self:deeper()
  local line, value = self:now().line, self:any()
  while self:skip_word "if" do
    local test, other = self:any(), nil
    if self:skip_word "else" then other = self:expression() end
    value = node("choice", line, { test = test, first = value, second = other })
  end
  self.depth = self.depth - 1
  return value
end

--- An expression without `if … else`.
function Parser:any()
  local line, left = self:now().line, self:all()
  while self:skip_word "or" do left = node("or", line, { left = left, right = self:all() }) end
  return left
end

function Parser:all()
  local line, left = self:now().line, self:negation()
  while self:skip_word "and" do left = node("and", line, { left = left, right = self:negation() }) end
  return left
end

function Parser:negation()
  local line = self:now().line
  if self:skip_word "not" then
    self:deeper()
    local value = node("not", line, { value = self:negation() })
    self.depth = self.depth - 1
    return value
  end
  return self:comparison()
end

local comparisons = { ["=="] = true, ["!="] = true, ["<"] = true, ["<="] = true, [">"] = true, [">="] = true }

function Parser:comparison()
  local line, first, rest = self:now().line, self:sum(), {}
  while true do
    local token = self:now()
    local operator
    if token.kind == "operator" and comparisons[token.value] then operator = self:next().value
    elseif self:skip_word "in" then operator = "in"
    elseif self:word "not" and self:ahead().kind == "name" and self:ahead().value == "in" then
      self.at = self.at + 2
      operator = "not in"
    else break end
    rest[#rest + 1] = { operator, self:sum() }
  end
  if #rest == 0 then return first end
  return node("compare", line, { first = first, rest = rest })
end

--- Operators of one strength, from the left.
local function level(next_level, ...)
  local set = {}
  for _, operator in ipairs { ... } do set[operator] = true end
  return function(self)
    local line, left = self:now().line, self[next_level](self)
    while self:now().kind == "operator" and set[self:now().value] do
      local operator = self:next().value
      left = node("binary", line, { operator = operator, left = left, right = self[next_level](self) })
    end
    return left
  end
end

Parser.sum = level("concatenation", "+", "-")
Parser.product = level("power", "*", "/", "//", "%")
Parser.power = level("unary", "**")

function Parser:concatenation()
  local line, parts = self:now().line, { self:product() }
  while self:skip_op "~" do parts[#parts + 1] = self:product() end
  return #parts == 1 and parts[1] or node("concat", line, { parts = parts })
end

function Parser:unary(without_filter)
  self:deeper()
  local line, value = self:now().line, nil
  if self:skip_op "-" then value = node("minus", line, { value = self:unary(true) })
  elseif self:skip_op "+" then value = node("plus", line, { value = self:unary(true) })
  else value = self:primary() end
  value = self:postfix(value)
  if not without_filter then value = self:filters(value) end
  self.depth = self.depth - 1
  return value
end

function Parser:primary()
  local token = self:next()
  local line, value = token.line, token.value
  if token.kind == "name" then
    if constants[value] then return node("constant", line, { name = value:lower() }) end
    self:read(value)
    return node("name", line, { name = value })
  elseif token.kind == "string" then
    local parts = { value }
    while self:is "string" do parts[#parts + 1] = self:next().value end
    return node("literal", line, { value = table.concat(parts) })
  elseif token.kind == "number" then return node("literal", line, { value = value })
  elseif value == "(" and token.kind == "operator" then
    local inner = self:tuple { explicit = true }
    self:expect("operator", ")")
    return inner
  elseif value == "[" and token.kind == "operator" then
    local items = {}
    while not self:op "]" do
      if #items > 0 then self:expect("operator", ",") end
      if self:op "]" then break end
      items[#items + 1] = self:expression()
    end
    self:expect("operator", "]")
    return node("list", line, { items = items })
  elseif value == "{" and token.kind == "operator" then
    local items = {}
    while not self:op "}" do
      if #items > 0 then self:expect("operator", ",") end
      if self:op "}" then break end
      local key = self:expression()
      self:expect("operator", ":")
      items[#items + 1] = { key, self:expression() }
    end
    self:expect("operator", "}")
    return node("dict", line, { items = items })
  end
  lexer.fail(line, "unexpected '%s'", tostring(value))
end

--- One expression, or a tuple of several. `o`: explicit (it stands in parentheses, so that nothing is an empty tuple),
--- plain (without `if`), stops (words that end it).
function Parser:tuple(o)
  self:deeper()
  local line, items, is_tuple = self:now().line, {}, false
  while true do
    if #items > 0 then
      if not self:skip_op "," then break end
      is_tuple = true
    end
    local token = self:now()
    if token.kind == "end" or token.kind == "finish" or self:op ")"
      or token.kind == "name" and o.stops and o.stops[token.value] then break end
    if o.plain then items[#items + 1] = self:any() else items[#items + 1] = self:expression() end
  end
  self.depth = self.depth - 1
  if is_tuple or #items ~= 1 then
    if #items == 0 and not o.explicit then
      lexer.fail(line, "expected an expression, got '%s'", tostring(self:now().value))
    end
    return node("tuple", line, { items = items })
  end
  return items[1]
end

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
