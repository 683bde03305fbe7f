--- TensorBoard event files: length-framed records with masked CRC-32C, each a small protocol-buffer message written by
--- hand.
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

local function varint(n)
  local bytes = ""
  while n > 127 do bytes, n = bytes .. string.char(n & 127 | 128), n >> 7 end
  return bytes .. string.char(n)
end

local function field(number, wire, payload) return varint(number << 3 | wire) .. payload end
local function message(number, payload) return field(number, 2, varint(#payload) .. payload) end

-- Tags as the trainers of Hugging Face write them, so that runs of both lie in one chart.
local tags_of = { lr = "train/learning_rate", norm = "train/grad_norm", eval_loss = "eval/loss",
  perplexity = "eval/perplexity" }

--- The tag of a number of the journal.
function tensorboard.tag(key) return tags_of[key] or "train/" .. key end

--- One framed record.
function tensorboard.frame(payload)
  local length = string.pack("<I8", #payload)
  return length .. masked(length) .. payload .. masked(payload)
end

--- The Event message of scalars { tag = number } at `step`.
function tensorboard.event(step, scalars, time)
  local tags, values = {}, ""
  for tag in pairs(scalars) do tags[#tags + 1] = tag end
  table.sort(tags)
  for _, tag in ipairs(tags) do
    values = values .. message(1, message(1, tag) .. field(2, 5, string.pack("<f", scalars[tag])))
  end
  return field(1, 1, string.pack("<d", time)) .. field(2, 0, varint(step)) .. message(5, values)
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
--- taken back.
function tensorboard.open(dir, resumed_at)
  local time = os.time()
  local file = assert(io.open(free_name(dir, time), "ab"))
  local clock = field(1, 1, string.pack("<d", time + 0.0))
  file:write(tensorboard.frame(clock .. message(3, "brain.Event:2")))
  if resumed_at then -- session_log { status: START }
    file:write(tensorboard.frame(clock .. field(2, 0, varint(resumed_at + 1)) .. message(7, field(1, 0, varint(1)))))
  end
  file:flush()
  return setmetatable({ file = file }, tensorboard)
end

--- Writes scalars of one step and flushes, so that TensorBoard sees a run while it goes.
function tensorboard:add(step, scalars)
  self.file:write(tensorboard.frame(tensorboard.event(step, scalars, os.time() + 0.0)))
  self.file:flush()
end

return tensorboard
