--- Lua's own files under --smoke and --plan: what a recipe writes with io and os goes where results of such a run go
--- (see native.place_to_save), and is found there again. os.execute and io.popen do what they are told.
local native = require "qlora.native"

local scratch = {}

--- Where io.open finds or makes a file. What is changed in place is a copy of the real one.
local function place(path, mode)
  if type(path) ~= "string" then return path end
  mode = mode or "r"
  if not mode:find "[wa+]" then return native.place_to_read(path) end
  local existing, target = native.place_to_read(path), native.place_to_save(path)
  if existing ~= target and not mode:find "w" and native.exists(existing) then
    local file = scratch.open(existing, "rb")
    if file then
      native.write_file(target, file:read "a")
      file:close()
    end
  end
  return target
end

--- Puts functions that go by the folder in the place of Lua's.
function scratch.install()
  if scratch.open then return end
  scratch.open = io.open
  local lines, input, output, remove, rename = io.lines, io.input, io.output, os.remove, os.rename
  function io.open(path, mode) return scratch.open(place(path, mode), mode) end
  function io.lines(path, ...)
    if path == nil then return lines(nil, ...) end
    return lines(place(path), ...)
  end
  function io.input(file) return input(file ~= nil and place(file) or nil) end
  function io.output(file) return output(file ~= nil and place(file, "w") or nil) end
  function os.remove(path)
    local there = native.place_to_read(path)
    -- What is not this run's stays; a recipe that removes its old results goes on as if it had.
    if native.may_change(there) then return remove(there) end
    if native.exists(there) then return true end
    return remove(there)
  end
  function os.rename(from, to)
    local there = native.place_to_read(from)
    if native.may_change(there) then return rename(there, native.place_to_save(to)) end
    local file, problem = scratch.open(there, "rb")
    if not file then return nil, problem end
    native.write_file(to, file:read "a")
    file:close()
    return true
  end
  local count = 0
  function os.tmpname()
    count = count + 1
    return native.place_to_save(("tmp-%d"):format(count), true)
  end
end

return scratch
