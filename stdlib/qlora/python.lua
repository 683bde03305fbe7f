--- What Lua says of a line that is Python, with what to write instead: `python(message)` returns the message of an
--- error of grammar, longer where the line it names is of a form that is known.

-- Patterns of a line, the first that fits counts, and what to write.
local forms = {
  { "^%s*import%s", 'write local qlora = require "qlora"' },
  { "^%s*from%s+%S+%s+import", 'write local qlora = require "qlora"' },
  { "^%s*def%s+[%w_]+%s*%(", "write local function name(a, b) … end" },
  { "^%s*class%s", "Lua has tables in the place of classes" },
  { "^%s*try%s*:", "write local ok, message = pcall(function() … end)" },
  { "^%s*except", "write local ok, message = pcall(function() … end)" },
  { "^%s*with%s", "Lua has no with: what is needed is opened and freed in the loop itself" },
  { "^%s*assert%s+[^%(]", "write assert(condition)" },
  { "%f[%w_]in%s+range%s*%(", "write for i = 1, n do … end" },
  { "^%s*for%s.*:%s*$", "write for i, x in ipairs(list) do … end" },
  { "^%s*for%s.*%sin%s", "write for i, x in ipairs(list) do … end" },
  { "^%s*while%s.*:%s*$", "write while condition do … end" },
  { "%f[%w_]is%s+not%s+None", "write ~= nil" },
  { "%f[%w_]is%s+None", "write == nil" },
  { "!=", "write ~= for !=" },
  { "&&", "write and" },
  { "||", "write or" },
  { "^%s*el[si]+f?%s.*:", "write if a then … elseif b then … else … end" },
  { "^%s*else%s*:", "write if a then … else … end" },
  { "^%s*if%s.*:%s*[%w_%(%)]*%s*$", "write if condition then … end" },
  { "^%s*elif%s", "write elseif" },
  { "^%s*else%s+if%s", "write elseif, which needs no end of its own" },
  { "%f[%w_]lambda%f[^%w_]", "write function(x) return … end" },
  { "[%w_%]%)]%s*[%+%-%*/]=", "write x = x + 1" },
  { "[%w_]%+%+", "write x = x + 1" },
  { "%f[%w_]f[\"']", 'write ("%d steps"):format(n)' },
  { "^%s*print%s+[^%s%(\"'{%[]", "write print(x)" },
  { "^%s*//", "a comment begins with --" },
  { "^%s*#", "a comment begins with --" },
  { "[{,]%s*[\"'][%w_ ]+[\"']%s*:", "write { name = value }" },
  { "[{,]%s*[%w_]+%s*:%s", "write { name = value }" },
  { "[=%(,{]%s*%[[^%[=]", "a list is written { 1, 2 }" },
  { "[%w_]%s*%([^{]*%f[%w_][%w_]+%s*=[^=]", "options stand in a table: f(x, { name = value })" },
  { "%f[%w_]!%s*[%w_%(]", "write not" },
  { "!%s*[%w_%(]", "write not" },
}

--- A line of a text, or of a file where none is given; nil where it cannot be read.
local function line_of(source, path, number)
  if not source then
    local file = io.open(path, "rb")
    source = file and file:read "a" or ""
    if file then file:close() end
  end
  local current = 0
  for line in (source .. "\n"):gmatch "(.-)\r?\n" do
    current = current + 1
    if current == number then return line end
  end
end

--- The message with what to write.
--- @param message string an error of Lua's grammar, or of adding texts
--- @param source? string the text, where it is in no file
--- @return string
return function(message, source)
  if message:find("attempt to add a 'string'", 1, true) then return message .. "; texts are joined with .." end
  if message:find "near '<\\%d+>'$" then return message .. "; names have the letters a to z, digits and _" end
  local path, number = message:match "^(.-):(%d+): [^\n]* near [^\n]*$"
  local line = path and line_of(source, path, math.tointeger(number))
  for _, form in ipairs(line and forms or {}) do
    if line:find(form[1]) then return message .. "; " .. form[2] end
  end
  return message
end
