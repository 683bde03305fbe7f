--- copies a recipe that ships, to edit it; an existing file stays
local native = require "qlora.native"
local command_line = require "qlora.command_line"
local shipped = require "qlora.shipped"
local suggest = require "qlora.suggest"

return {
  usage = "NAME [DEST]", least = 1, most = 2,
  run = function(_, arguments)
    local name, target = arguments[1], arguments[2]
    local path, near = shipped.path(name)
    if not path then
      command_line.fail("no recipe is called '%s'%s", name, suggest.meant(near)
        or "; see qlora-run list")
    end
    target = target or path:match "[^/]+$"
    if native.exists(target) then command_line.fail("cannot write %s: File exists", target) end
    local file = assert(io.open(path, "rb"))
    native.write_file(target, file:read "a")
    file:close()
    print("copied to " .. target)
  end,
}
