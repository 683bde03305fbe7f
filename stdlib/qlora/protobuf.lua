--- Fields of protocol-buffer messages, as bytes.
local wire = {}

local function varint(n)
  local bytes = ""
  while n > 127 do bytes, n = bytes .. string.char(n & 127 | 128), n >> 7 end
  return bytes .. string.char(n)
end

--- An integer of at least 0, or a boolean as 0 or 1.
function wire.integer(number, value) return varint(number << 3) .. varint(value) end

--- A double of 8 bytes.
function wire.double(number, value) return varint(number << 3 | 1) .. string.pack("<d", value) end

--- A float of 4 bytes.
function wire.float(number, value) return varint(number << 3 | 5) .. string.pack("<f", value) end

--- A text, or a message made of fields.
function wire.message(number, payload) return varint(number << 3 | 2) .. varint(#payload) .. payload end

return wire
