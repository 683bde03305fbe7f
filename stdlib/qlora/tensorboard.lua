--- TensorBoard event files: length-framed records with masked CRC-32C, each a small protocol-buffer message.
local wire = require "qlora.protobuf"

local tensorboard = {}
tensorboard.__index = tensorboard

local crc_table = {}
for i = 0, 255 do
  local c = i
  for _ = 1, 8 do c = c & 1 == 1 and (c >> 1) ~ 0x82f63b78 or c >> 1 end
  crc_table[i] = c
end

--- CRC-32C (Castagnoli) of a string.
function tensorboard.crc32c(text)
  local c = 0xffffffff
  for i = 1, #text do c = crc_table[(c ~ text:byte(i)) & 0xff] ~ (c >> 8) end
  return c ~ 0xffffffff
end

local function masked(text)
  local c = tensorboard.crc32c(text)
  return string.pack("<I4", (((c >> 15) | (c << 17)) + 0xa282ead8) & 0xffffffff)
end

--- One framed record.
function tensorboard.frame(payload)
  local length = string.pack("<I8", #payload)
  return length .. masked(length) .. payload .. masked(payload)
end

--- The Event message of `values`, messages of tensorboard_values.lua one after another, at `step`.
function tensorboard.event(step, values, time)
  return wire.double(1, time) .. wire.integer(2, step) .. wire.message(5, values)
end

--- A name no earlier session used: bytes after a record that was cut short would be lost to readers.
local function free_name(dir, time)
  local number = 0
  while true do
    local path = ("%s/events.out.tfevents.%d.qlora%s"):format(dir, time, number > 0 and "." .. number or "")
    local file = io.open(path, "rb")
    if not file then return path end
    file:close()
    number = number + 1
  end
end

--- Opens a new event file in `dir`. With `resumed_at`, the last step that stands, later steps of earlier files count as
--- taken back. `first` are values of step 0. Returns nil and a message where it cannot be written.
function tensorboard.open(dir, resumed_at, first)
  local time = os.time()
  local path = free_name(dir, time)
  local file, message = io.open(path, "ab")
  if not file then return nil, message end
  local self = setmetatable({ file = file, path = path }, tensorboard)
  local clock = wire.double(1, time + 0.0)
  local head = tensorboard.frame(clock .. wire.message(3, "brain.Event:2"))
  if resumed_at then -- session_log { status: START }
    head = head
      .. tensorboard.frame(clock .. wire.integer(2, resumed_at + 1) .. wire.message(7, wire.integer(1, 1)))
  end
  local ok
  ok, message = self:put(head .. tensorboard.frame(tensorboard.event(0, first, os.time() + 0.0)))
  if ok then return self end
  file:close()
  return nil, message
end

--- Appends records and flushes, so that TensorBoard sees a run while it goes. Returns nil and a message where that
--- fails: what follows half a record is lost to readers.
function tensorboard:put(records)
  local ok, message = self.file:write(records)
  if ok then ok, message = self.file:flush() end
  if ok then return true end
  return nil, self.path .. ": " .. message
end

--- Writes the values of one step; returns what `put` does.
function tensorboard:add(step, values)
  return self:put(tensorboard.frame(tensorboard.event(step, values, os.time() + 0.0)))
end

return tensorboard
