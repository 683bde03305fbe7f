--- Arguments of filters, tests and methods: by place or by name, as the Python functions declare them.
local values = require "qlora.jinja.values"

local arguments = {}
local fail, kind = values.fail, values.kind

--- `args` are the values by place with their number `n`; `named` holds values by name, and the names in their order as
--- its list. The values of the parameters named in `spec`, in their order; nil where one is not given. A name that ends
--- in `!` must be given.
function arguments.read(what, spec, args, named)
  local result, count = {}, 0
  for name in spec:gmatch "%S+" do
    local required = name:sub(-1) == "!"
    if required then name = name:sub(1, -2) end
    count = count + 1
    local value = args[count]
    if named and named[name] ~= nil then
      if value ~= nil then fail("%s() got multiple values for argument '%s'", what, name) end
      value = named[name]
      named[name] = nil
    end
    if value == nil and required then fail("%s() is missing the argument '%s'", what, name) end
    result[count] = value
  end
  if args.n > count then fail("%s() takes at most %d arguments (%d given)", what, count, args.n) end
  for _, name in ipairs(named or {}) do
    if named[name] ~= nil then fail("%s() got an unexpected keyword argument '%s'", what, name) end
  end
  return table.unpack(result, 1, count)
end

--- A whole number, or `default` when it is not given.
function arguments.int(what, value, default)
  if value == nil then return default end
  local n = values.number(value)
  if math.type(n) ~= "integer" then
    values.defined(value)
    fail("%s(): expected a whole number, got %s", what, kind(value))
  end
  return n
end

--- A text, or `default` when it is not given.
function arguments.text(what, value, default)
  if value == nil then return default end
  if type(value) ~= "string" then
    values.defined(value)
    fail("%s(): expected a str, got %s", what, kind(value))
  end
  return value
end

return arguments
