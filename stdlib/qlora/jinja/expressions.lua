--- Parses expressions of Jinja into nodes { kind, line =, … }, with Jinja2's grammar.
local lexer = require "qlora.jinja.lexer"

local expressions = {}
local Parser = {}
Parser.__index = Parser
expressions.Parser = Parser

local constants = { ["true"] = true, True = true, ["false"] = true, False = true, none = true, None = true }
local finish = { kind = "finish", value = "the end of the template" }

--- A parser of tokens; `last` is the template's last line.
function Parser.new(tokens, last)
  finish.line = last -- a parser ends before the next begins
  return setmetatable({ tokens = tokens, at = 1, last = last, depth = 0, inside = 0, macros = {} }, Parser)
end

--- The token that comes next.
function Parser:now() return self.tokens[self.at] or finish end
--- The token after the next.
function Parser:ahead() return self.tokens[self.at + 1] or finish end
--- Takes a token.
function Parser:next()
  local token = self:now()
  self.at = self.at + 1
  return token
end
--- Whether the next token is of a kind, and has a value.
function Parser:is(kind, value)
  local token = self:now()
  return token.kind == kind and (value == nil or token.value == value)
end
--- Takes the next token if it is of a kind; nil otherwise.
function Parser:skip(kind, value)
  if self:is(kind, value) then return self:next() end
end
--- Takes the next token, which must be of a kind.
function Parser:expect(kind, value)
  if self:is(kind, value) then return self:next() end
  local token = self:now()
  lexer.fail(token.line, "expected %s, got '%s'", value and "'" .. value .. "'" or "a " .. kind, tostring(token.value))
end
--- Whether an operator comes next.
function Parser:op(value) return self:is("operator", value) end
--- Takes an operator if it comes next.
function Parser:skip_op(value) return self:skip("operator", value) end
--- Whether a name comes next.
function Parser:word(value) return self:is("name", value) end
--- Takes a name if it comes next.
function Parser:skip_word(value) return self:skip("name", value) end

--- Counts a level of nesting, which has a limit.
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

--- An expression, with `if … else`.
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

--- Operands of `and`.
function Parser:all()
  local line, left = self:now().line, self:negation()
  while self:skip_word "and" do left = node("and", line, { left = left, right = self:negation() }) end
  return left
end

--- `not` and what it stands before.
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

--- A chain of comparisons.
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

--- Operands of `~`.
function Parser:concatenation()
  local line, parts = self:now().line, { self:product() }
  while self:skip_op "~" do parts[#parts + 1] = self:product() end
  return #parts == 1 and parts[1] or node("concat", line, { parts = parts })
end

--- A value with its sign, postfixes and, unless `without_filter`, filters.
function Parser:unary(without_filter)
  self:deeper()
  local line, value = self:now().line
  if self:skip_op "-" then value = node("minus", line, { value = self:unary(true) })
  elseif self:skip_op "+" then value = node("plus", line, { value = self:unary(true) })
  else value = self:primary() end
  value = self:postfix(value)
  if not without_filter then value = self:filters(value) end
  self.depth = self.depth - 1
  return value
end

--- A literal, a name, or an expression in brackets.
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

return expressions
