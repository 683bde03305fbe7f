--- Numbers as people read them: bytes, durations, counts; and words as a shell reads them.
local native = require "qlora.native"

local format = {}

--- A number of bytes in binary units with three significant digits.
--- @param count number the bytes
--- @return string such as "4.31 GiB"
--- @example assert(qlora.format.bytes(3 << 20) == "3.00 MiB")
function format.bytes(count) return native.byte_text(count) end

--- A duration.
--- @param seconds number the seconds
--- @return string such as "1:02:03" or "4:05"
--- @example assert(qlora.format.seconds(245) == "4:05")
function format.seconds(seconds)
  local whole = math.floor(seconds + 0.5)
  local h, m, s = whole // 3600, whole // 60 % 60, whole % 60
  -- A file may say more seconds than an integer holds.
  return h > 0 and ("%.0f:%02.0f:%02.0f"):format(h, m, s) or ("%.0f:%02.0f"):format(m, s)
end

--- A number in decimal thousands with three significant digits.
--- @param value number the number
--- @return string such as "1.61 G", "39.9 M" or "812"
--- @example assert(qlora.format.count(39.9e6) == "39.9 M")
function format.count(value)
  local units, i = { "", " K", " M", " G", " T", " P" }, 1
  while value >= 1000 and i < #units do value, i = value / 1000, i + 1 end
  if i == 1 then return ("%g"):format(value) end
  return (value >= 100 and "%.0f%s" or value >= 10 and "%.1f%s" or "%.2f%s"):format(value, units[i])
end

--- A whole number with a comma between the thousands.
--- @param value integer|number the number; a fraction is rounded
--- @return string such as "1,234,567"
--- @example assert(qlora.format.thousands(-1234567) == "-1,234,567")
function format.thousands(value)
  local sign, digits = ("%.0f"):format(value):match "^(%-?)(.*)$"
  local reversed = digits:reverse():gsub("(%d%d%d)", "%1,")
  return sign .. (reversed:reverse():gsub("^,", ""))
end

--- A rate without what its 32 bits add to it: seven significant digits.
--- @param value number the rate
--- @return number the nearest number of seven digits
--- @example assert(qlora.format.rate(0.0010000000474975) == 0.001)
function format.rate(value) return tonumber(("%.7g"):format(value)) or value end

--- A word of a command line: as it is, or in quotes where the shell would read it otherwise.
--- @param text any a path, a value
--- @return string what to type for it
--- @example assert(qlora.format.word("my model") == "'my model'" and qlora.format.word("out/a") == "out/a")
function format.word(text)
  text = tostring(text)
  return text:find "^[%w_@%+=:,./-]+$" and text or "'" .. text:gsub("'", "'\\''") .. "'"
end

return format
