--- Colours of the prompt: only on terminals that have them, and not where NO_COLOR is set (no-color.org).
local native = require "qlora.native"

local colour = {}

local function painter(code, descriptor)
  return function(text)
    if not (native.isatty(descriptor) and native.has_colours()) then return text end
    return ("\27[%sm%s\27[0m"):format(code, text)
  end
end

--- For what stands back: times, notes.
colour.dim = painter("2", 1)
--- For headings.
colour.bold = painter("1", 1)
--- For messages on standard error.
colour.error = painter("31", 2)

return colour
