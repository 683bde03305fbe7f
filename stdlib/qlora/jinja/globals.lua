--- The functions that every template can call.
local arguments = require "qlora.jinja.arguments"
local operators = require "qlora.jinja.operators"
local repr = require "qlora.jinja.repr"
local values = require "qlora.jinja.values"

local globals = {}
local fail, read, int = values.fail, arguments.read, arguments.int

--- range(stop) and range(start, stop, step)
function globals.range(args, named)
  for i = 1, args.n do args[i] = int("range", args[i]) end
  if named and #named > 0 then fail "range() takes no keyword arguments" end
  if args.n < 1 or args.n > 3 then fail("range expected 1 to 3 arguments, got %d", args.n) end
  local from, to, step = args[1], args[2], args[3] or 1
  if args.n == 1 then from, to = 0, args[1] end
  if step == 0 then fail "range() arg 3 must not be zero" end
  local count = step > 0 and (to - from + step - 1) // step or (from - to - step - 1) // -step
  if count > values.limits.items then fail("Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).",
    values.limits.items) end
  count = math.max(0, count)
  values.tick(count >> 2)
  local items = {}
  for i = 1, count do items[i] = from + (i - 1) * step end
  local view = values.view("range", items, count)
  view.shown = step == 1 and ("range(%d, %d)"):format(from, to) or ("range(%d, %d, %d)"):format(from, to, step)
  return view
end

--- dict(mapping, **named)
function globals.dict(args, named)
  local dict = values.dict()
  local source = args[1]
  if args.n > 1 then fail("dict expected at most 1 argument, got %d", args.n) end
  if values.is_dict(source) then
    values.see(source)
    for _, key in ipairs(source.keys) do values.put(dict, key, values.raw(source, key)) end
  elseif source ~= nil then
    local items = operators.items(source)
    for i = 1, items.n do
      local pair = operators.items(items[i])
      if pair.n ~= 2 then fail("dictionary update sequence element #%d has length %d; 2 is required", i - 1, pair.n) end
      values.put(dict, pair[1], pair[2])
    end
  end
  for _, name in ipairs(named or {}) do values.put(dict, name, named[name]) end
  return dict
end

--- namespace(**named)
function globals.namespace(args, named)
  local dict, fields = globals.dict(args, named), {}
  for _, key in ipairs(dict.keys) do
    if type(key) == "string" and key:sub(1, 1) == "_" then
      fail("a namespace cannot hold a name with an underscore in front, but got %s", repr.repr(key))
    end
    fields[key] = values.raw(dict, key)
  end
  return values.namespace(fields)
end

--- Ends the rendering with the template's own message.
function globals.raise_exception(args, named)
  local message = read("raise_exception", "message!", args, named)
  error({ jinja = repr.str(message), line = values.state.line, raised = true }, 0)
end

--- Directives of strftime that C and Python share; `-` in front leaves zeros out.
function globals.strftime_now(args, named)
  local format = arguments.text("strftime_now", read("strftime_now", "format!", args, named))
  local now = values.state.now or os.time()
  return (format:gsub("%%(-?)(.?)", function(flag, letter)
    if letter == "%" then return "%" end
    if letter == "z" or letter == "Z" then return "" end -- Python's now() knows no zone
    if not letter:find "^[aAbBcdDeFHIjmMpSuUVwWxXyYGgTRr]$" then
      fail("strftime_now: the directive %%%s%s is not supported", flag, letter)
    end
    local written = os.date("%" .. letter, now)
    if flag == "-" then written = written:gsub("^[0 ]+(.)", "%1") end
    return written
  end))
end

--- cycler(*items): next() goes around.
function globals.cycler(args)
  if args.n == 0 then fail "at least one item has to be provided" end
  local at = 1
  local function current() return args[at] end
  local object
  object = values.object("Cycler", function(name)
    if name == "current" then return current() end
    if name == "next" then
      return function()
        local item = current()
        at = at % args.n + 1
        return item
      end
    end
    if name == "reset" then return function() at = 1 return values.None end end
  end)
  return object
end

--- joiner(separator): nothing the first time it is called.
function globals.joiner(args, named)
  local separator, used = read("joiner", "sep", args, named), false
  return values.object("Joiner", function() end, function()
    if used then return separator == nil and ", " or separator end
    used = true
    return ""
  end)
end

--- Not supported.
function globals.lipsum() fail "the function 'lipsum' is not supported" end

return globals
