--- PNG files of a grid of colours, without a library: one byte per pixel against a palette, deflate in stored blocks.
local png = {}

local crc_table = {}
for i = 0, 255 do
  local c = i
  for _ = 1, 8 do c = c & 1 == 1 and (c >> 1) ~ 0xedb88320 or c >> 1 end
  crc_table[i] = c
end

--- CRC-32 as PNG and zip have it.
function png.crc32(text)
  local c = 0xffffffff
  for i = 1, #text do c = crc_table[(c ~ text:byte(i)) & 0xff] ~ (c >> 8) end
  return c ~ 0xffffffff
end

--- Adler-32, the checksum of zlib streams.
function png.adler32(text)
  local a, b = 1, 0
  for i = 1, #text do
    a = (a + text:byte(i)) % 65521
    b = (b + a) % 65521
  end
  return b << 16 | a
end

local function chunk(kind, data)
  return string.pack(">I4", #data) .. kind .. data .. string.pack(">I4", png.crc32(kind .. data))
end

--- A zlib stream that holds `text` uncompressed.
local function stored(text)
  local parts, size = { "\x78\x01" }, 65535
  for from = 1, math.max(1, #text), size do
    local piece = text:sub(from, from + size - 1)
    parts[#parts + 1] = string.pack("<I1I2I2", from + size > #text and 1 or 0, #piece, #piece ~ 0xffff) .. piece
  end
  return table.concat(parts) .. string.pack(">I4", png.adler32(text))
end

--- The file for `rows`, a list of strings of equal length with a palette index per byte; `palette` is a list of
--- { red, green, blue } from index 0 on. Each pixel is drawn `scale` times as wide and as high.
function png.encode(rows, palette, scale)
  local lines = {}
  for i, row in ipairs(rows) do
    local line = "\0" .. row:gsub(".", function(c) return c:rep(scale) end)
    for j = 1, scale do lines[(i - 1) * scale + j] = line end
  end
  local colours = {}
  for i, colour in ipairs(palette) do colours[i] = string.char(colour[1], colour[2], colour[3]) end
  return "\x89PNG\r\n\x1a\n" .. chunk("IHDR", string.pack(">I4I4BBBBB", #rows[1] * scale, #lines, 8, 3, 0, 0, 0))
    .. chunk("PLTE", table.concat(colours)) .. chunk("IDAT", stored(table.concat(lines))) .. chunk("IEND", "")
end

return png
