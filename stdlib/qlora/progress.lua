--- Progress of a run: one line that redraws itself on a terminal, plain lines when the output is a file or a pipe.
local native = require "qlora.native"
local format = require "qlora.format"
local screen = require "qlora.screen"

local progress = {}
progress.__index = progress

--- `total` steps, of which those before `start` are already done; a plain line every `every` steps.
function progress.new(total, start, every)
  return setmetatable({
    total = total, start = start, every = every, quiet = native.options.quiet, terminal = native.isatty(1),
    began = native.clock(), tokens = 0, drawn = false,
  }, progress)
end

local function bar(share, width)
  local full = math.floor(share * width + 0.5)
  local glyphs = screen.glyphs()
  return glyphs.thick:rep(full) .. glyphs.rule:rep(width - full)
end

--- Shows a finished step: { step =, loss =, tokens =, lr =, norm = }.
function progress:update(s)
  self.tokens = self.tokens + s.tokens
  if self.quiet then return end
  local seconds = math.max(native.clock() - self.began, 1e-9)
  local rate = self.tokens / seconds
  local left = seconds / (s.step - self.start + 1) * (self.total - s.step)
  local memory = native.memory()
  -- What a narrow terminal goes without stands at the end.
  local parts = { ("loss %-7.4f"):format(s.loss), format.seconds(left) .. " left",
    format.count(math.floor(rate)) .. " tok/s", format.bytes(memory.rss or memory.live) }
  local text = ("%s %s  %s  %s"):format(parts[1], parts[3], parts[4], parts[2])
  if self.terminal then
    local head = ("step %d/%d "):format(s.step, self.total)
    while #parts > 0 and #head + #text + 1 >= native.terminal_width() do
      parts[#parts] = nil
      text = table.concat(parts, "  ")
    end
    local room = math.min(30, native.terminal_width() - #head - #text - 3)
    self.drawn = head .. (room >= 6 and bar(s.step / self.total, room) or "") .. " " .. text
    io.write("\r", self.drawn, "\27[K")
    io.flush()
  elseif s.step == self.start or s.step % self.every == 0 or s.step == self.total then
    io.write(("step %d/%d  %s\n"):format(s.step, self.total, text))
    io.flush()
  end
end

--- Runs `body`, which may print, with the line taken away; draws it again afterwards.
function progress:aside(body)
  if self.drawn then io.write("\r\27[K") end
  body()
  if self.drawn then
    io.write("\r", self.drawn)
    io.flush()
  end
end

--- A line of text above the progress.
function progress:note(text)
  if not self.quiet then self:aside(function() print(text) end) end
end

--- Leaves the line that redraws itself, so that other output starts on a line of its own.
function progress:finish()
  if self.drawn then io.write("\n") end
  self.drawn = false
end

return progress
