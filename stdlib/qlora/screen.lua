--- What the place where text is shown can take: its columns, and characters beyond ASCII or not.
local native = require "qlora.native"

local screen = {}

-- Terminals without the characters of plots.
local poor = { dumb = true, linux = true, ansi = true, cons25 = true }

--- Whether the locale or the terminal asks for plain ASCII. A locale that is not set asks for nothing, and the kind of
--- terminal counts only where there is one.
--- @param get fun(name:string):string|nil reads an environment variable
--- @param is_terminal boolean
--- @return boolean
function screen.asks_for_ascii(get, is_terminal)
  for _, name in ipairs { "LC_ALL", "LC_CTYPE", "LANG" } do
    local locale = get(name)
    if locale and locale ~= "" then -- the first that is set decides
      if not locale:lower():find "utf%-?8" then return true end
      break
    end
  end
  local terminal = is_terminal and get "TERM"
  return terminal and (poor[terminal] or terminal:find "^vt%d" ~= nil) or false
end

-- Bits of a braille cell by row of dots, top to bottom.
local rows = { 0x09, 0x12, 0x24, 0xc0 }

--- A braille cell in ASCII: where its dots lie.
local function ascii_cell(bits)
  local top, count, sum = nil, 0, 0
  for row, mask in ipairs(rows) do
    if bits & mask ~= 0 then top, count, sum = top or row, count + 1, sum + row end
  end
  if count == 0 then return " " end
  if count >= 3 then return "|" end
  local mean = sum / count
  return mean < 2 and "'" or mean <= 3 and "-" or "."
end

local function braille(bits) return utf8.char(0x2800 + bits) end

local function split(text)
  local list = {}
  for _, code in utf8.codes(text) do list[#list + 1] = utf8.char(code) end
  return list
end

-- cell: dots of a curve; levels of a sparkline; shades of a map; a full part of a bar and the parts of one; frame.
local fine = { cell = braille, levels = split "▁▂▃▄▅▆▇█", shades = split " ░▒▓█", full = "█",
  parts = { "", "▏", "▎", "▍", "▌", "▋", "▊", "▉" }, side = "│", tick = "┤", corner = "└", rule = "─", thick = "━" }
local plain = { cell = ascii_cell, levels = split "_.-~=+*#", shades = split " .+*#", full = "#",
  parts = { "", "", "", "", "#", "#", "#", "#" }, side = "|", tick = "|", corner = "+", rule = "-", thick = "=" }

--- The characters of plots here.
function screen.glyphs()
  local function get(name) -- a sandbox has no environment
    local ok, value = pcall(os.getenv, name)
    return ok and value or nil
  end
  return screen.asks_for_ascii(get, native.isatty(1)) and plain or fine
end

--- Columns for a text that may be `usual` wide: those of a terminal, `usual` where there is none.
function screen.columns(usual)
  return native.isatty(1) and native.terminal_width() or usual
end

--- A bar for a share of 1 behind a text of `before` columns, at most `most` long and within the screen.
function screen.bar(share, before, most)
  local room = math.max(4, math.min(most, screen.columns(before + most) - before - 1))
  return screen.glyphs().full:rep(math.floor(share * room + 0.5))
end

--- One line of text in lines of at most `width` columns, broken at blanks; those that follow stand two columns further
--- in than the first.
local function broken(line, width)
  local indent = line:match "^ *"
  if (utf8.len(line) or #line) <= width or #indent > width // 2 then return line end
  local lines, current = {}, nil
  for word in line:gmatch "%S+" do
    local longer = current and current .. " " .. word or indent .. word
    if current and (utf8.len(longer) or #longer) > width then
      lines[#lines + 1] = current
      longer = indent .. "  " .. word
    end
    current = longer
  end
  lines[#lines + 1] = current
  return table.concat(lines, "\n")
end

--- A text whose lines fit into the terminal; as it is where there is none.
function screen.wrapped(text)
  if not native.isatty(1) then return text end
  local width = native.terminal_width()
  return (text:gsub("[^\n]+", function(line) return broken(line, width) end))
end

return screen
