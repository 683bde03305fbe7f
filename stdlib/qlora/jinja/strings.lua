--- The methods of Python's str.
local arguments = require "qlora.jinja.arguments"
local case = require "qlora.jinja.case"
local format = require "qlora.jinja.format"
local operators = require "qlora.jinja.operators"
local repr = require "qlora.jinja.repr"
local text = require "qlora.jinja.text"
local values = require "qlora.jinja.values"

local fail, None = values.fail, values.None
local read, int, str = arguments.read, arguments.int, arguments.text
local methods = {}

local function optional(value) if value == None then return nil end return value end
local function list(items) return values.list(items) end

for name, sides in pairs { strip = { true, true }, lstrip = { true, false }, rstrip = { false, true } } do
  methods[name] = function(s, args, named)
    local chars = str(name, optional(read(name, "chars", args, named)))
    return text.strip(s, chars, sides[1], sides[2])
  end
end

local function splitting(name, from_right)
  methods[name] = function(s, args, named)
    local separator, most = read(name, "sep maxsplit", args, named)
    separator, most = str(name, optional(separator)), int(name, most, -1)
    if most < 0 then most = nil end
    if separator == nil then return list(text.words(s, most, from_right)) end
    return list(text.split(s, separator, most, from_right))
  end
end
splitting("split", false)
splitting("rsplit", true)

--- str.splitlines
function methods.splitlines(s, args, named)
  return list(text.lines(s, values.truth(read("splitlines", "keepends", args, named) or false)))
end

--- str.partition
function methods.partition(s, args, named)
  local separator = str("partition", read("partition", "sep!", args, named))
  local parts = text.split(s, separator, 1)
  return values.tuple { parts[1], parts[2] and separator or "", parts[2] or "" }
end
--- str.rpartition
function methods.rpartition(s, args, named)
  local separator = str("rpartition", read("rpartition", "sep!", args, named))
  local parts = text.split(s, separator, 1, true)
  if #parts == 1 then return values.tuple { "", "", parts[1] } end
  return values.tuple { parts[1], separator, parts[2] }
end

--- The part of a text between two places of Python; nil when they are past it.
local function window(s, from, to)
  if from == nil and to == nil then return s, 0 end
  local length = text.length(s)
  local function place(value, default)
    local at = int("index", optional(value), default)
    if at < 0 then at = math.max(0, at + length) end
    return at
  end
  local first, last = place(from, 0), math.min(place(to, length), length)
  if first > length then return nil, 0 end
  return text.sub(s, first + 1, last), first, last < first
end

local function affix(name, matches)
  methods[name] = function(s, args, named)
    local wanted, from, to = read(name, "prefix! start end", args, named)
    local part, _, empty = window(s, from, to)
    local function one(piece)
      if type(piece) ~= "string" then
        values.defined(piece)
        fail("%s first arg must be str or a tuple of str, not %s", name, values.kind(piece))
      end
      return part ~= nil and not empty and matches(part, piece)
    end
    if values.kind(wanted) == "tuple" then
      for i = 1, wanted.n do if one(wanted[i]) then return true end end
      return false
    end
    return one(wanted)
  end
end
affix("startswith", function(s, piece) return s:sub(1, #piece) == piece end)
affix("endswith", function(s, piece) return piece == "" or s:sub(-#piece) == piece end)

local function finding(name, from_right, must)
  methods[name] = function(s, args, named)
    local wanted, from, to = read(name, "sub! start end", args, named)
    local part, shift, empty = window(s, from, to)
    local at = part and not empty and text.find(part, str(name, wanted), from_right) or -1
    if at < 0 and must then fail "substring not found" end
    return at < 0 and -1 or at + shift
  end
end
finding("find", false, false)
finding("rfind", true, false)
finding("index", false, true)
finding("rindex", true, true)

--- str.count
function methods.count(s, args, named)
  local wanted, from, to = read("count", "sub! start end", args, named)
  local part, _, empty = window(s, from, to)
  if not part or empty then return 0 end
  wanted = str("count", wanted)
  if wanted == "" then return text.length(part) + 1 end
  return #text.split(part, wanted) - 1
end

--- str.replace
function methods.replace(s, args, named)
  local old, new, count = read("replace", "old! new! count", args, named)
  old, new, count = str("replace", old), str("replace", new), int("replace", count, -1)
  local pieces
  if old == "" then
    pieces = text.characters(s)
    table.insert(pieces, 1, "")
    pieces[#pieces + 1] = ""
    if count >= 0 and count < #pieces - 1 then -- the rest stays one piece
      local rest = table.concat(pieces, "", count + 1)
      pieces = table.move(pieces, 1, count, 1, {})
      pieces[#pieces + 1] = rest
    end
  else pieces = text.split(s, old, count >= 0 and count or nil) end
  if #new * #pieces > values.limits.text then fail("a text grows above %d bytes", values.limits.text) end
  return values.sized(table.concat(pieces, new))
end

for name, change in pairs { upper = case.upper, lower = case.lower, capitalize = case.capitalize, title = case.title,
  casefold = function(s)
    if not text.is_ascii(s) then fail "casefold of a text beyond ASCII is not supported" end
    return s:lower()
  end,
  swapcase = function(s)
    return (s:gsub("[\0-\127\192-\255][\128-\191]*", function(c)
      return case.is_upper_letter(c) and case.lower(c) or case.upper(c)
    end))
  end } do
  methods[name] = function(s, args, named)
    read(name, "", args, named)
    return change(s)
  end
end

--- str.join
function methods.join(s, args, named)
  local items, parts = operators.items(read("join", "iterable!", args, named)), {}
  for i = 1, items.n do
    if type(items[i]) ~= "string" then
      fail("sequence item %d: expected str instance, %s found", i - 1, values.kind(items[i]))
    end
    parts[i] = items[i]
  end
  return values.sized(table.concat(parts, s))
end

--- str.format
function methods.format(s, args, named)
  return format.braces(s, args, named, function(value, key, as_item)
    local attributes = require "qlora.jinja.attributes"
    return as_item and attributes.item(value, key) or attributes.attribute(value, key)
  end)
end

for name, align in pairs { ljust = "<", rjust = ">", center = "^" } do
  methods[name] = function(s, args, named)
    local width, fill = read(name, "width! fillchar", args, named)
    width, fill = int(name, width), str(name, fill, " ")
    if align == "^" then -- Python puts an odd blank to the left of an odd width
      local missing = width - text.length(s)
      if missing <= 0 then return s end
      if missing > values.limits.items then fail "a width is too large" end
      local left = missing // 2 + (missing & width & 1)
      return fill:rep(left) .. s .. fill:rep(missing - left)
    end
    return format.padded(s, width, align, fill)
  end
end

--- str.zfill
function methods.zfill(s, args, named)
  local width = int("zfill", read("zfill", "width!", args, named))
  local sign = s:match "^[+-]" or ""
  return sign .. format.padded(s:sub(#sign + 1), width - #sign, ">", "0")
end

--- str.removeprefix
function methods.removeprefix(s, args, named)
  local prefix = str("removeprefix", read("removeprefix", "prefix!", args, named))
  return s:sub(1, #prefix) == prefix and s:sub(#prefix + 1) or s
end
--- str.removesuffix
function methods.removesuffix(s, args, named)
  local suffix = str("removesuffix", read("removesuffix", "suffix!", args, named))
  return suffix ~= "" and s:sub(-#suffix) == suffix and s:sub(1, -#suffix - 1) or s
end

--- str.expandtabs
function methods.expandtabs() fail "the method 'expandtabs' of str is not supported" end

--- Whether all characters are of a class; `case_of` for isupper and islower.
local function class(name, pattern, empty)
  methods[name] = function(s, args, named)
    read(name, "", args, named)
    if s == "" then return empty or false end
    if not text.is_ascii(s) then fail("%s of a text beyond ASCII is not supported", name) end
    return not s:find("[^" .. pattern .. "]")
  end
end
class("isdigit", "%d")
class("isdecimal", "%d")
class("isnumeric", "%d")
class("isalpha", "%a")
class("isalnum", "%w")
class("isascii", "\0-\127", true)
--- str.isascii
function methods.isascii(s) return text.is_ascii(s) end
--- str.isspace
function methods.isspace(s)
  return s ~= "" and text.strip(s, nil, true, false) == ""
end
--- str.isupper
function methods.isupper(s)
  return case.upper(s) == s and case.lower(s) ~= s
end
--- str.islower
function methods.islower(s)
  return case.lower(s) == s and case.upper(s) ~= s
end
--- str.istitle
function methods.istitle(s)
  return case.title(s) == s and case.lower(s) ~= case.upper(s)
end
--- str.isidentifier
function methods.isidentifier(s)
  if not text.is_ascii(s) then fail "isidentifier of a text beyond ASCII is not supported" end
  return s:find "^[%a_][%w_]*$" ~= nil
end

for _, name in ipairs { "encode", "translate", "maketrans", "isprintable", "format_map" } do
  methods[name] = function() fail("the method '%s' of str is not supported", name) end
end

return { methods = methods, str = repr.str }
