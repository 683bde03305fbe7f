--- Upper and lower case beyond ASCII: Latin, Greek and Cyrillic. Other scripts that have case are an error, never left
--- as they are in silence.
local values = require "qlora.jinja.values"
local text = require "qlora.jinja.text"

local case = {}
local upper, lower = {}, {}

local function pair(capital, small) upper[small], lower[capital] = capital, small end
for code = 0xE0, 0xFE do if code ~= 0xF7 then pair(code - 32, code) end end
for code = 0x100, 0x136, 2 do if code ~= 0x130 then pair(code, code + 1) end end
for code = 0x139, 0x147, 2 do pair(code, code + 1) end
for code = 0x14A, 0x176, 2 do pair(code, code + 1) end
for code = 0x179, 0x17D, 2 do pair(code, code + 1) end
pair(0x178, 0xFF)
for code = 0x3B1, 0x3C9 do if code ~= 0x3C2 then pair(code - 32, code) end end
pair(0x386, 0x3AC)
for i = 0, 2 do pair(0x388 + i, 0x3AD + i) end
pair(0x38C, 0x3CC)
pair(0x38E, 0x3CD)
pair(0x38F, 0x3CE)
for code = 0x430, 0x44F do pair(code - 32, code) end
for code = 0x450, 0x45F do pair(code - 80, code) end
-- without case, or handled above
local plain = { { 0x80, 0xB4 }, { 0xB6, 0xDE }, { 0xE0, 0x12F }, { 0x132, 0x137 }, { 0x139, 0x148 }, { 0x14A, 0x17E },
  { 0x300, 0x344 }, { 0x346, 0x36F }, { 0x400, 0x45F }, { 0x590, 0x109F }, { 0x1100, 0x139F }, { 0x1400, 0x1C7F },
  { 0x1CD0, 0x1CFF }, { 0x2000, 0x2101 }, { 0x2190, 0x24B5 }, { 0x24EA, 0x2BFF }, { 0x2E00, 0xA63F },
  { 0xA6A0, 0xA721 }, { 0xA800, 0xAB2F }, { 0xAC00, 0xFAFF }, { 0xFB1D, 0xFF20 }, { 0xFF5B, 0xFFFF },
  { 0x1F000, 0x2FFFF } }

local function known(code)
  if upper[code] or lower[code] then return true end
  for _, range in ipairs(plain) do if code >= range[1] and code <= range[2] then return true end end
  return false
end

local function mapped(s, map, native)
  if text.is_ascii(s) then return native(s) end
  return (s:gsub("[\0-\127\192-\255][\128-\191]*", function(c)
    if #c == 1 then return native(c) end
    local code = utf8.codepoint(c)
    if code == 0xDF then return map == upper and "SS" or c end
    if not known(code) or code == 0x3A3 then
      values.fail("upper and lower case of U+%04X are not supported", code)
    end
    return map[code] and utf8.char(map[code]) or c
  end))
end

--- In capitals.
function case.upper(s) return mapped(s, upper, string.upper) end
--- In small letters.
function case.lower(s) return mapped(s, lower, string.lower) end
--- Whether a character is a capital.
function case.is_upper_letter(c) return case.lower(c) ~= c end
--- Whether a character has case.
function case.is_cased(c) return case.lower(c) ~= c or case.upper(c) ~= c end

--- The first character a capital, the others small.
function case.capitalize(s)
  local first = s:match "^[\0-\127\192-\255][\128-\191]*" or ""
  return (first == "ß" and "Ss" or case.upper(first)) .. case.lower(s:sub(#first + 1))
end

--- Python's str.title: a letter after a character without case is a capital.
function case.title(s)
  local inside, parts = false, {}
  for i, c in ipairs(text.characters(s)) do
    local cased = case.is_cased(c)
    if cased then parts[i] = inside and case.lower(c) or c == "ß" and "Ss" or case.upper(c) else parts[i] = c end
    inside = cased
  end
  return table.concat(parts)
end

return case
