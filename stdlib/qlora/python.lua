--- What Lua says of a line that is Python, with what to write instead: `python(message)` returns the message of an
--- error of grammar, longer where the line it names is of a form that is known.

local words = require("qlora.foreign_words").anywhere

-- Patterns of a line without the contents of its strings and without comments; the first that fits counts. And what to
-- write.
local require_it, each, branches = words.transformers, words.enumerate, "if a then … elseif b then … else … end"
local forms = {
  { "^%s*import%s", require_it }, { "^%s*from%s+%S+%s+import", require_it },
  { "^%s*def%s+[%w_]+%s*%(", "local function name(a, b) … end" },
  { "^%s*class%s", "tables in the place of classes" },
  { "^%s*try%s*:", "local ok, message = pcall(function() … end)" },
  { "^%s*except%f[%W]", "local ok, message = pcall(function() … end)" },
  { "^%s*with%s.*:%s*$", "what it does by itself: Lua has no with" },
  { "^%s*assert%s+[^%(]", "assert(condition)" },
  { "%f[%w_]in%s+range%s*%(", words.range },
  { "^%s*for%s.*:%s*$", each }, { "^%s*for%s.*%sin%s+[%w_%.]+%s*do%f[%W]", each },
  { "^%s*while%s.*:%s*$", "while condition do … end" },
  { "%f[%w_]is%s+not%s+None", "~= nil" }, { "%f[%w_]is%s+None", "== nil" },
  { "!=", "~= for !=" }, { "&&", "and" }, { "||", "or" },
  { "^%s*el[si]+f?%s.*:", branches }, { "^%s*else%s*:", branches },
  { "^%s*if%s.*:%s*[%w_%(%)]*%s*$", "if condition then … end" },
  { "^%s*elif%s", "elseif" }, { "^%s*else%s+if%s", "elseif, which needs no end of its own" },
  { "%f[%w_]lambda%f[^%w_]", "function(x) return … end" },
  { "[%w_%]%)]%s*[%+%-%*/]=[^=]", "x = x + 1" }, { "[%w_]%+%+", "x = x + 1" },
  { "%f[%w_]f[\"']", '("%d steps"):format(n) for f"{n} steps"' },
  { "^%s*print%s+[^%s%(\"'{%[]", "print(x)" },
  { "^%s*//", "a comment behind --" }, { "^%s*#", "a comment behind --" },
  { "[{,]%s*([\"'])%1%s*:", "{ name = value }" }, { "[{,]%s*[%w_]+%s*:%s", "{ name = value }" },
  { "[=%(]%s*%[[^%[=]", "a list as { 1, 2 }" },
  { "!%s*[%w_%(]", "not" },
}

-- A block of Python: what follows its line may be read as Lua for a while, so that the error stands further down.
local heading = "^%s*%l+%f[%W].*:%s*$"
local headings = { ["for"] = true, ["while"] = true, ["if"] = true, ["elif"] = true, ["else"] = true, def = true,
  class = true, try = true, except = true, with = true }

--- A line with its strings empty and without its comment.
local function bare(line)
  local parts, i = {}, 1
  while i <= #line do
    local quote = line:match("^[\"']", i)
    local level = line:match("^%[(=*)%[", i)
    if line:find("^%-%-", i) then break end
    if quote then
      local j = i + 1
      while j <= #line and line:sub(j, j) ~= quote do j = j + (line:sub(j, j) == "\\" and 2 or 1) end
      parts[#parts + 1], i = quote .. quote, j + 1
    elseif level then
      local _, last = line:find("]" .. level .. "]", i, true)
      parts[#parts + 1], i = "''", (last or #line) + 1
    else
      parts[#parts + 1], i = line:sub(i, i), i + 1
    end
  end
  return table.concat(parts)
end

--- Whether a call in the line has an option outside of a table: f(a = 1).
local function has_named_argument(line)
  for inside in line:gmatch "[%w_]%s*(%b())" do
    local outside = inside:sub(2, -2):gsub("%b{}", "{}"):gsub("%f[%w_]function%f[^%w_].*", "")
    if outside:find "^%s*[%w_]+%s*=[^=]" or outside:find ",%s*[%w_]+%s*=[^=]" or has_named_argument(outside) then
      return true
    end
  end
  return false
end

--- What to write for a line; nil for one of no known form.
local function remedy(line)
  local text = bare(line)
  for _, form in ipairs(forms) do
    if text:find(form[1]) then return "write " .. form[2] end
  end
  return has_named_argument(text) and "options stand in a table: f(x, { name = value })" or nil
end

--- A line of a text, or of a file where none is given, and those before it; nil where it cannot be read.
local function line_of(source, path, number)
  if not source then
    local file = io.open(path, "rb")
    source = file and file:read "a" or ""
    if file then file:close() end
  end
  local lines = {}
  for line in (source .. "\n"):gmatch "(.-)\r?\n" do
    lines[#lines + 1] = line
    if #lines == number then break end
  end
  return lines[number], lines
end

--- The message with what to write.
--- @param message string an error of Lua's grammar, or of adding texts
--- @param source? string the text, where it is in no file
--- @return string
return function(message, source)
  if message:find("attempt to add a 'string'", 1, true) then return message .. "; texts are joined with .." end
  if message:find "near '<\\%d+>'$" then return message .. "; names have the letters a to z, digits and _" end
  if message:find "'then' expected near '='$" or message:find "'do' expected near '='$" then
    return message .. "; write == to compare"
  end
  local is_name = message:find("undeclared global 'f'", 1, true) -- of f"…", a call for Lua
  local path, number = message:match "^(.-):(%d+): [^\n]* near [^\n]*$"
  if is_name then path, number = message:match "^(.-):(%d+): " end
  number = math.tointeger(number)
  if not path then return message end
  local line, lines = line_of(source, path, number)
  if is_name then
    return line and bare(line):find "%f[%w_]f[\"']"
      and message:gsub("; is it misspelt.*$", "") .. '; write ("%d steps"):format(n) for f"{n} steps"' or message
  end
  local said = line and remedy(line)
  if said then return message .. "; " .. said end
  for i = number - 1, math.max(1, number - 20), -1 do
    local above = lines and bare(lines[i] or "") or ""
    if above:find(heading) and headings[above:match "%l+"] then
      return ("%s; line %d: %s"):format(message, i, remedy(lines[i]) or "write " .. branches)
    end
  end
  return message
end
