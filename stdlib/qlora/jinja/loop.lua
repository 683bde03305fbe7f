--- The variable `loop` of a loop.
local values = require "qlora.jinja.values"

local fail = values.fail

--- The variable over `items`; `at.i` is the place, `depth` the loop's own, `again` runs the loop on another list.
return function(items, at, depth, again)
  local last, has_last
  local fields = {
    index = function() return at.i end, index0 = function() return at.i - 1 end,
    revindex = function() return items.n - at.i + 1 end, revindex0 = function() return items.n - at.i end,
    first = function() return at.i == 1 end, last = function() return at.i == items.n end,
    length = function() return items.n end,
    depth = function() return depth end, depth0 = function() return depth - 1 end,
    previtem = function()
      if at.i == 1 then return values.undefined "there is no previous item" end
      return items[at.i - 1]
    end,
    nextitem = function()
      if at.i == items.n then return values.undefined "there is no next item" end
      return items[at.i + 1]
    end,
    cycle = function()
      return function(args)
        if args.n == 0 then fail "no items for cycling given" end
        return args[(at.i - 1) % args.n + 1]
      end
    end,
    changed = function()
      return function(args)
        local now = values.tuple(args, args.n)
        if has_last and values.equal(now, last) then return false end
        has_last, last = true, now
        return true
      end
    end,
  }
  return values.object("LoopContext", function(name) return fields[name] and fields[name]() end, again)
end
