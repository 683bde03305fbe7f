--- Reads TensorBoard event files without TensorBoard.
local tensorboard = require "qlora.tensorboard"

--- The payloads of a TensorBoard event file, with both checksums of each record checked; and the bytes left over at the
--- end, where a writer was stopped.
return function(text)
  local function masked(s)
    local c = tensorboard.crc32c(s)
    return (((c >> 15) | (c << 17)) + 0xa282ead8) & 0xffffffff
  end
  local list, at = {}, 1
  while #text - at + 1 >= 12 do
    local length, crc, start = string.unpack("<I8I4", text, at)
    assert(crc == masked(text:sub(at, at + 7)), "checksum of the length")
    if #text - start + 1 < length + 4 then break end
    local payload = text:sub(start, start + length - 1)
    assert(string.unpack("<I4", text, start + length) == masked(payload), "checksum of the record")
    list[#list + 1] = payload
    at = start + length + 4
  end
  return list, #text - at + 1
end
