--- Parses a template into statements: lists of nodes { kind, line =, … }.
local expressions = require "qlora.jinja.postfix"
local lexer = require "qlora.jinja.lexer"

local Parser, node = expressions.Parser, expressions.node
local blocks = {}

--- Statements up to one of the tags in `stops`, whose name it returns; nil: to the end of the template.
function Parser:body(stops)
  self:deeper()
  local list, opened = {}, (self.tokens[self.at - 1] or self:now()).line
  while true do
    local token = self:next()
    if token.kind == "finish" then
      if stops then lexer.fail(opened, "this block is never closed; expected {%% %s %%}", stops[#stops]) end
      break
    elseif token.kind == "data" then list[#list + 1] = node("data", token.line, { text = token.value })
    elseif token.value == "{{" then
      list[#list + 1] = node("print", token.line, { value = self:tuple {} })
      self:expect("end", "}}")
    else
      local name = self:expect("name")
      for _, stop in ipairs(stops or {}) do
        if name.value == stop then
          self.depth = self.depth - 1
          return list, stop
        end
      end
      local parse = blocks[name.value]
      if not parse then lexer.fail(name.line, "the tag '%s' is %s", name.value, name.value:find "^end"
        and "not expected here" or "not known here") end
      list[#list + 1] = parse(self, name.line)
    end
  end
  self.depth = self.depth - 1
  return list
end

--- The end of a tag.
function Parser:close() self:expect("end", "%}") end

--- A name, a tuple of names, or name.attribute of a namespace.
function Parser:target(stops, with_namespace)
  local line, items, is_tuple = self:now().line, {}, false
  while true do
    if #items > 0 then
      if not self:skip_op "," then break end
      is_tuple = true
    end
    if self:is "end" or self:op ")" or self:op "=" or self:is "name" and stops[self:now().value] then break end
    if self:skip_op "(" then
      items[#items + 1] = self:target({}, with_namespace)
      self:expect("operator", ")")
    else
      local name = self:expect("name")
      if ({ ["true"] = true, ["false"] = true, none = true, True = true, False = true, None = true })[
        name.value] then lexer.fail(name.line, "cannot assign to '%s'", name.value) end
      if name.value == "loop" and self.inside > 0 and not stops["="] and not self:op "." then
        lexer.fail(name.line, "cannot assign to 'loop' in a loop")
      end
      if with_namespace and self:skip_op "." then
        items[#items + 1] = node("member", name.line, { name = name.value, key = self:expect("name").value })
        self:read(name.value)
      else items[#items + 1] = node("name", name.line, { name = name.value }) end
    end
  end
  if #items == 0 then lexer.fail(line, "expected a name to assign to") end
  return is_tuple and node("tuple", line, { items = items }) or items[1]
end

blocks["for"] = function(self, line)
  self.inside = self.inside + 1
  local target = self:target { ["in"] = true }
  self:expect("name", "in")
  local list = self:tuple { plain = true, stops = { recursive = true } }
  local test = self:skip_word "if" and self:expression() or nil
  local recursive = self:skip_word "recursive" ~= nil
  self:close()
  self.loops = (self.loops or 0) + 1
  local body, stop = self:body { "else", "endfor" }
  self.loops = self.loops - 1
  self:close()
  local other
  if stop == "else" then
    other = self:body { "endfor" }
    self:close()
  end
  self.inside = self.inside - 1
  return node("for", line, { target = target, list = list, test = test, recursive = recursive, body = body,
    other = other })
end

blocks["if"] = function(self, line)
  local branches, other = {}, nil
  local test = self:tuple { plain = true }
  self:close()
  while true do
    local body, stop = self:body { "elif", "else", "endif" }
    branches[#branches + 1] = { test, body }
    if stop == "elif" then
      test = self:tuple { plain = true }
      self:close()
    else
      self:close()
      if stop == "else" then
        other = self:body { "endif" }
        self:close()
      end
      return node("if", line, { branches = branches, other = other })
    end
  end
end

--- The tag `set`.
function blocks.set(self, line)
  local target = self:target({}, true)
  if self:skip_op "=" then
    local value = self:tuple {}
    self:close()
    return node("set", line, { target = target, value = value })
  end
  local filter = self:filter(nil)
  self:close()
  local body = self:body { "endset" }
  self:close()
  return node("set block", line, { target = target, filter = filter, body = body })
end

--- The parameters of a macro or call block: names and defaults.
local function signature(self)
  local names, defaults = {}, {}
  self:expect("operator", "(")
  while not self:op ")" do
    if #names > 0 then self:expect("operator", ",") end
    if self:op ")" then break end
    local name = self:expect("name")
    names[#names + 1] = name.value
    if self:skip_op "=" then defaults[#names] = self:expression()
    elseif next(defaults) then lexer.fail(name.line, "a parameter without a default after one with it") end
  end
  self:expect("operator", ")")
  return names, defaults
end

--- The body of a macro, with the names that it reads; loops outside of it cannot be left from inside.
local function macro_body(self, line, name, stop, names, defaults)
  local read, loops = {}, self.loops
  self.macros[#self.macros + 1], self.loops = read, 0
  local body = self:body { stop }
  self:close()
  self.macros[#self.macros], self.loops = nil, loops
  return node("macro", line, { name = name, names = names, defaults = defaults, body = body, read = read })
end

--- The tag `macro`.
function blocks.macro(self, line)
  local name = self:expect("name").value
  local names, defaults = signature(self)
  self:close()
  return macro_body(self, line, name, "endmacro", names, defaults)
end

--- The tag `call`.
function blocks.call(self, line)
  local names, defaults = {}, {}
  if self:op "(" then names, defaults = signature(self) end
  local call = self:expression()
  if call.kind ~= "call" then lexer.fail(line, "expected a call") end
  self:close()
  local caller = macro_body(self, line, "caller", "endcall", names, defaults)
  return node("call block", line, { call = call, caller = caller })
end

--- The tag `filter`.
function blocks.filter(self, line)
  local filter = self:filter(nil, true)
  self:close()
  local body = self:body { "endfilter" }
  self:close()
  return node("filter block", line, { filter = filter, body = body })
end

blocks["with"] = function(self, line)
  local names, list = {}, {}
  while not self:is "end" do
    if #names > 0 then self:expect("operator", ",") end
    names[#names + 1] = self:target { ["="] = true }
    self:expect("operator", "=")
    list[#names] = self:expression()
  end
  self:close()
  local body = self:body { "endwith" }
  self:close()
  return node("with", line, { targets = names, list = list, body = body })
end

--- The tag `print`.
function blocks.print(self, line)
  local value = self:tuple {}
  self:close()
  return node("print", line, { value = value })
end

for _, name in ipairs { "break", "continue" } do
  blocks[name] = function(self, line)
    self:close()
    if (self.loops or 0) == 0 then lexer.fail(line, "'%s' outside of a loop", name) end
    return node(name, line, {})
  end
end

--- The tag `generation`.
function blocks.generation(self, line)
  self:close()
  self.has_generation = true
  local loops = self.loops
  self.loops = 0
  local body = self:body { "endgeneration" }
  self.loops = loops
  self:close()
  return node("generation", line, { body = body })
end

for _, name in ipairs { "include", "import", "from", "extends", "block", "autoescape", "trans", "do" } do
  blocks[name] = function(_, line)
    lexer.fail(line, "the tag '%s' is not supported: a chat template stands alone", name)
  end
end

--- The statements of a template; `has_generation` says whether there are generation blocks among them.
return function(source)
  local parser = Parser.new(lexer.tokens(source))
  local statements = parser:body()
  statements.has_generation = parser.has_generation or false
  return statements
end
