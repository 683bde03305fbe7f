--- What functions of a recipe use from outside. Read before a sandbox takes debug.getupvalue and string.dump away, so
--- that scripted adapters are possible there.
---
--- These two stay in here: a function of the library or of C is refused, since what it uses from outside may be more
--- than a recipe may have. No global function and no method sees a value, since a recipe may have replaced it.
local getinfo, upvalue, dump, raise, match, sub = debug.getinfo, debug.getupvalue, string.dump, error, string.match,
  string.sub
local library = match(getinfo(1, "S").source, "^(.*)upvalues%.lua$")

local upvalues = {}

--- Raises for anything but a function that was compiled from a recipe.
local function check(f)
  local info = getinfo(f, "S")
  if info.what == "C" or sub(info.source, 1, #library) == library then
    raise("only what functions of a recipe use from outside can be looked up", 0)
  end
end

--- The name and the value of the variable number `i` from outside; nothing where there are fewer.
function upvalues.get(f, i)
  check(f)
  return upvalue(f, i)
end

--- Whether two functions have code of the same size, without names and lines.
function upvalues.have_alike_code(f, g)
  check(f)
  check(g)
  return #dump(f, true) == #dump(g, true)
end

return upvalues
