--- Texts in characters: Python counts code points, Lua bytes.
local values = require "qlora.jinja.values"

local text = {}
local fail = values.fail

local blanks = {}
for code in ("9 10 11 12 13 28 29 30 31 32 133 160 5760 8232 8233 8239 8287 12288"):gmatch "%d+" do
  blanks[math.tointeger(code)] = true
end
for code = 8192, 8202 do blanks[code] = true end
text.blanks = blanks

--- Whether all characters are ASCII.
function text.is_ascii(s) return not s:find "[\128-\255]" end

--- The number of characters.
function text.length(s)
  if text.is_ascii(s) then return #s end
  return utf8.len(s, 1, -1, true) or fail "a text is no UTF-8"
end

--- The characters of a text as a list.
function text.characters(s)
  values.tick(#s >> 4)
  local list = {}
  for c in s:gmatch "[\0-\127\192-\255][\128-\191]*" do list[#list + 1] = c end
  return list
end

--- Characters `from` to `to`, counted from 1.
function text.sub(s, from, to)
  if from > to then return "" end
  if text.is_ascii(s) then return s:sub(from, to) end
  local first, after = utf8.offset(s, from), utf8.offset(s, to + 1)
  return first and s:sub(first, (after or #s + 1) - 1) or ""
end

local function set_of(chars)
  local set = {}
  for _, c in ipairs(text.characters(chars)) do set[c] = true end
  return set
end

local function is_blank(c) return blanks[utf8.codepoint(c)] or false end
text.is_blank = is_blank

--- Without the characters of `chars` (blanks when nil) at its sides.
function text.strip(s, chars, left, right)
  if chars == nil and text.is_ascii(s) then
    if left then s = s:gsub("^[\9-\13\28-\32]+", "") end
    if right then
      local last = #s
      while last > 0 and blanks[s:byte(last)] do last = last - 1 end
      s = s:sub(1, last)
    end
    return s
  end
  local set = chars and set_of(chars)
  local from, to = 1, #s
  local function drops(c) if set then return set[c] end return is_blank(c) end
  while left and from <= to do
    local c = s:match("^[\0-\127\192-\255][\128-\191]*", from)
    if not c or not drops(c) then break end
    from = from + #c
  end
  while right and to >= from do
    local first = to
    while first > from and s:byte(first) & 0xC0 == 0x80 do first = first - 1 end
    if not drops(s:sub(first, to)) then break end
    to = first - 1
  end
  return s:sub(from, to)
end

--- Pieces between blanks, at most `most` cuts; nil for no limit. `from_right` cuts from the end.
function text.words(s, most, from_right)
  local list, chars = {}, text.characters(s)
  local function grow(at, step)
    local piece = {}
    while chars[at] and not is_blank(chars[at]) do
      table.insert(piece, chars[at])
      at = at + step
    end
    return piece, at
  end
  local step = from_right and -1 or 1
  local at = from_right and #chars or 1
  while true do
    while chars[at] and is_blank(chars[at]) do at = at + step end
    if not chars[at] then break end
    if most and #list >= most then
      local rest = from_right and text.strip(table.concat(chars, "", 1, at), nil, false, true)
        or text.strip(table.concat(chars, "", at), nil, true, false)
      list[#list + 1] = rest
      break
    end
    local piece
    piece, at = grow(at, step)
    if from_right then
      for i = 1, #piece // 2 do piece[i], piece[#piece + 1 - i] = piece[#piece + 1 - i], piece[i] end
    end
    list[#list + 1] = table.concat(piece)
  end
  if from_right then
    for i = 1, #list // 2 do list[i], list[#list + 1 - i] = list[#list + 1 - i], list[i] end
  end
  return list
end

--- Pieces between separators; `most` cuts at most.
function text.split(s, separator, most, from_right)
  if separator == "" then fail "empty separator" end
  local places, at = {}, 1
  while true do
    local first, last = s:find(separator, at, true)
    if not first then break end
    places[#places + 1] = first
    at = last + 1
  end
  values.tick(#places)
  if from_right and #separator > 1 then -- overlaps are told apart from the right
    places = {}
    local to = #s
    while to >= #separator do
      local first = to - #separator + 1
      if s:sub(first, to) == separator then
        table.insert(places, first)
        to = first - 1
      else to = to - 1 end
    end
    for i = 1, #places // 2 do places[i], places[#places + 1 - i] = places[#places + 1 - i], places[i] end
  end
  local from, to = 1, #places
  if most and most < #places then
    if from_right then from = #places - most + 1 else to = most end
  end
  local list, start = {}, 1
  for i = from, to do
    list[#list + 1] = s:sub(start, places[i] - 1)
    start = places[i] + #separator
  end
  list[#list + 1] = s:sub(start)
  return list
end

--- Lines as Python's splitlines cuts them.
function text.lines(s, keep)
  local list, line = {}, {}
  local breaks = { ["\n"] = true, ["\r"] = true, ["\v"] = true, ["\f"] = true, ["\28"] = true, ["\29"] = true,
    ["\30"] = true, ["\u{85}"] = true, ["\u{2028}"] = true, ["\u{2029}"] = true }
  local chars = text.characters(s)
  local i = 1
  while i <= #chars do
    local c = chars[i]
    if breaks[c] then
      if c == "\r" and chars[i + 1] == "\n" then c, i = "\r\n", i + 1 end
      list[#list + 1] = table.concat(line) .. (keep and c or "")
      line = {}
    else line[#line + 1] = c end
    i = i + 1
  end
  if #line > 0 then list[#list + 1] = table.concat(line) end
  return list
end

--- The place of a text in another, in characters from 0; -1 without it.
function text.find(s, part, from_right)
  local at
  if from_right then
    for first = #s - #part + 1, 1, -1 do
      if s:sub(first, first + #part - 1) == part then at = first break end
    end
  else at = s:find(part, 1, true) end
  return at and text.length(s:sub(1, at - 1)) or -1
end

return text
