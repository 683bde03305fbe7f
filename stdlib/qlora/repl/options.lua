--- The options that a call at the cursor takes: `qlora.train { st` goes on with `steps`.
local declarations = require "qlora.declarations"
local strict = require "qlora.strict"

local options = {}

--- The text before the innermost bracket `{` that is still open at the end of `text`; nil when there is none.
local function before_brace(text)
  local open, i = {}, 1
  while i <= #text do
    local c = text:sub(i, i)
    if c == '"' or c == "'" then
      i = text:find("[^\\]" .. c, i) or #text
      if text:sub(i, i) ~= c then i = i + 1 end
    elseif c == "{" or c == "(" then open[#open + 1] = i
    elseif c == "}" or c == ")" then open[#open] = nil end
    i = i + 1
  end
  local last = open[#open]
  return last and text:sub(last, last) == "{" and text:sub(1, last - 1) or nil
end

--- Adds the names of the options of the function or method that is called `path`.
local function add(found, path)
  local method = path:match(":([%w_]+)$")
  for name, schema in pairs(strict.declared) do
    if name == path or method and name:match(":([%w_]+)$") == method then
      table.move(strict.sorted_keys(schema), 1, 1000, #found + 1, found)
    end
  end
  for name in pairs(method and declarations.by_name or {}) do
    if name:match(":([%w_]+)$") == method then
      for _, field in ipairs(declarations.fields(name)) do found[#found + 1] = field.name end
    end
  end
end

--- Names of options that may stand at the end of `text`; empty where none is expected.
function options.at(text)
  local found = {}
  if not text:find "[{,]%s*[%w_]*$" then return found end
  local before = before_brace(text)
  local path = before and (before:match "([%a_][%w_.:]*)%s*$" or before:match "([%a_][%w_.:]*)%s*%([^()]*$")
  if path then add(found, path) end
  return found
end

return options
