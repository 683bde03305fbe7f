--- Jinja source to tokens, with trim_blocks and lstrip_blocks as transformers sets them.
local text = require "qlora.jinja.text"

local lexer = {}

local function rstrip(s) return text.strip(s, nil, false, true) end

--- A syntax error of a template.
function lexer.fail(line, message, ...)
  error({ jinja = select("#", ...) > 0 and message:format(...) or message, line = line }, 0)
end

local operators = { "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">",
  "<", "=", ".", ":", "|", ",", ";" }
local opens, closes = { ["("] = ")", ["["] = "]", ["{"] = "}" }, { [")"] = true, ["]"] = true, ["}"] = true }
local simple = { n = "\n", t = "\t", r = "\r", a = "\a", b = "\b", f = "\f", v = "\v", ["\\"] = "\\", ["'"] = "'",
  ['"'] = '"', ["\n"] = "" }

local function unescape(s, line)
  if not s:find("\\", 1, true) then return s end
  local parts, at = {}, 1
  while true do
    local from = s:find("\\", at, true)
    if not from then break end
    parts[#parts + 1] = s:sub(at, from - 1)
    local c = s:sub(from + 1, from + 1)
    local octal = s:match("^[0-7][0-7]?[0-7]?", from + 1)
    local width = ({ x = 2, u = 4, U = 8 })[c]
    if simple[c] then
      parts[#parts + 1] = simple[c]
      at = from + 2
    elseif octal then
      parts[#parts + 1] = utf8.char(tonumber(octal, 8))
      at = from + 1 + #octal
    elseif width then
      local hex = s:match("^%x+", from + 2) or ""
      if #hex < width then lexer.fail(line, "\\%s needs %d hexadecimal digits", c, width) end
      local code = tonumber(hex:sub(1, width), 16)
      if code > 0x10FFFF then lexer.fail(line, "illegal character \\%s%s", c, hex:sub(1, width)) end
      if code >= 0xD800 and code < 0xE000 then lexer.fail(line, "half of a surrogate pair is no character here") end
      parts[#parts + 1] = utf8.char(code)
      at = from + 2 + width
    elseif c == "N" then lexer.fail(line, "characters by name (\\N) are not supported")
    else
      parts[#parts + 1] = "\\"
      at = from + 1
    end
  end
  parts[#parts + 1] = s:sub(at)
  return table.concat(parts)
end

local function number_at(source, at, line)
  local function digits(pattern) return source:match(pattern, at) end
  local whole = digits "^%d[%d_]*"
  if not whole then return nil end
  local prefix = digits "^0[xX][%x_]+" or digits "^0[bB][01_]+" or digits "^0[oO][0-7_]+"
  if prefix then
    local base = ({ x = 16, b = 2, o = 8 })[prefix:sub(2, 2):lower()]
    return tonumber((prefix:sub(3):gsub("_", "")), base), #prefix
  end
  local fraction = source:match("^%.%d[%d_]*", at + #whole) or ""
  local exponent = source:match("^[eE][+-]?%d[%d_]*", at + #whole + #fraction) or ""
  local all = whole .. fraction .. exponent
  local value = tonumber((all:gsub("_", "")))
  if fraction == "" and exponent == "" then
    if #whole > 1 and whole:find "^0" and whole:find "[1-9]" then lexer.fail(line, "a number begins with 0") end
    value = math.tointeger(value)
    if not value or math.type(tonumber((whole:gsub("_", "")))) ~= "integer" then
      lexer.fail(line, "%s is too large a number", all)
    end
  end
  return value, #all
end

--- Tokens of one tag up to its end; returns the position after it.
local function tag(source, at, line, close, put)
  local stack, started = {}, line
  while true do
    local blank = source:match("^%s+", at)
    if blank then
      at, line = at + #blank, line + select(2, blank:gsub("\n", ""))
    end
    if at > #source then lexer.fail(started, "a tag that is opened here has no %s", close) end
    if #stack == 0 then
      local sign = source:match("^[-+]?", at)
      if close == "}}" and sign == "+" then sign = "" end
      if source:sub(at + #sign, at + #sign + 1) == close then
        at = at + #sign + 2
        local skipped = ""
        if sign == "-" then skipped = source:match("^%s*", at)
        elseif sign == "" and close == "%}" and source:sub(at, at) == "\n" then skipped = "\n" end
        put("end", close, line)
        return at + #skipped, line + select(2, skipped:gsub("\n", "")), skipped:sub(-1) == "\n"
      end
    end
    local c = source:sub(at, at)
    local name = source:match("^[%a_\128-\255][%w_\128-\255]*", at)
    if name then
      put("name", name, line)
      at = at + #name
    elseif c == "'" or c == '"' then
      local stop = at + 1
      while true do
        stop = source:find("[\\" .. c .. "]", stop)
        if not stop then lexer.fail(line, "a text that is opened here has no closing quote") end
        if source:sub(stop, stop) == c then break end
        stop = stop + 2
      end
      local body = source:sub(at + 1, stop - 1)
      put("string", unescape(body, line), line)
      at, line = stop + 1, line + select(2, body:gsub("\n", ""))
    else
      local value, width = number_at(source, at, line)
      if value then
        put("number", value, line)
        at = at + width
      else
        local found
        for _, operator in ipairs(operators) do
          if source:sub(at, at + #operator - 1) == operator then found = operator break end
        end
        if not found then
          lexer.fail(line, "unexpected character '%s'", source:match("^[\0-\127\192-\255][\128-\191]*", at) or c)
        end
        if opens[found] then stack[#stack + 1] = opens[found]
        elseif closes[found] then
          local expected = table.remove(stack)
          if expected ~= found then lexer.fail(line, "unexpected '%s'%s", found, expected and ", expected '" .. expected
            .. "'" or "") end
        end
        put("operator", found, line)
        at = at + #found
      end
    end
  end
end

--- The list of tokens { kind =, value =, line = }: data, begin ("{{" or "{%"), end, name, string, number, operator.
function lexer.tokens(source)
  source = source:gsub("\r\n?", "\n"):gsub("\n$", "")
  local list = {}
  local function put(kind, value, line) list[#list + 1] = { kind = kind, value = value, line = line } end
  local at, line, at_start = 1, 1, true
  local function data(piece, sign, is_block)
    local kept = piece
    if sign == "-" then kept = rstrip(piece)
    elseif sign ~= "+" and is_block then
      local from = (piece:match ".*\n()" or 1)
      if (from > 1 or at_start) and not piece:find("[^%s]", from) then kept = piece:sub(1, from - 1) end
    end
    if kept ~= "" then put("data", kept, line) end
    line = line + select(2, piece:gsub("\n", ""))
  end
  while true do
    local from = at
    local open
    while true do
      from = source:find("{", from, true)
      if not from then break end
      open = source:sub(from, from + 1)
      if open == "{{" or open == "{%" or open == "{#" then break end
      from = from + 1
    end
    if not from then
      if at <= #source then put("data", source:sub(at), line) end
      return list, line
    end
    local sign = source:match("^[-+]?", from + 2)
    if open == "{{" and sign == "+" then sign = "" end -- a plus sign of the expression
    data(source:sub(at, from - 1), sign, open ~= "{{")
    local inside = from + 2 + #sign
    if open == "{#" then
      local stop = source:find("#}", inside, true)
      if not stop then lexer.fail(line, "a comment that is opened here has no #}") end
      local last = source:sub(stop - 1, stop - 1)
      at = stop + 2
      if stop > inside and last == "-" then at = source:match("^%s*()", at)
      elseif not (stop > inside and last == "+") and source:sub(at, at) == "\n" then at = at + 1 end
      local piece = source:sub(from, at - 1)
      line = line + select(2, piece:gsub("\n", ""))
      at_start = piece:sub(-1) == "\n"
    else
      local raw = open == "{%" and source:match("^%s*raw%s*%-?%%}()", inside)
      if raw then
        if source:sub(raw - 3, raw - 3) == "-" then raw = source:match("^%s*()", raw) end
        line = line + select(2, source:sub(from, raw - 1):gsub("\n", ""))
        at_start = source:sub(raw - 1, raw - 1) == "\n"
        local first, sign_at, mark, after = source:match("(){%%([-+]?)%s*endraw%s*([-+]?)%%}()", raw)
        if not first then lexer.fail(line, "{%% raw %%} has no {%% endraw %%}") end
        data(source:sub(raw, first - 1), sign_at, true)
        if mark == "-" then after = source:match("^%s*()", after)
        elseif mark == "" and source:sub(after, after) == "\n" then after = after + 1 end
        local piece = source:sub(first, after - 1)
        line = line + select(2, piece:gsub("\n", ""))
        at_start, at = piece:sub(-1) == "\n", after
      else
        put("begin", open, line)
        at, line, at_start = tag(source, inside, line, open == "{{" and "}}" or "%}", put)
      end
    end
  end
end

return lexer
