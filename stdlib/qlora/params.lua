--- `qlora.params { rank = 16, ... }`: the knobs of a recipe, which `--set rank=8` turns without editing the file.
local native = require "qlora.native"
local strict = require "qlora.strict"
local suggest = require "qlora.suggest"

local truths = { ["true"] = true, yes = true, on = true, ["1"] = true, ["false"] = false, no = false, off = false,
  ["0"] = false }

--- The text of `--set` as a value of the type the recipe's default has.
local function convert(key, text, default)
  local kind = math.type(default) or type(default)
  if kind == "string" then return text end
  if kind == "boolean" then
    if truths[text:lower()] ~= nil then return truths[text:lower()] end
    strict.fail("--set %s=%s: expected true or false", key, text)
  end
  if kind == "integer" or kind == "float" then
    local number = tonumber(text)
    if not strict.is_finite(number) then
      strict.fail("--set %s=%s: expected a number (the default is %s)", key, text, tostring(default))
    end
    if kind == "float" then return number + 0.0 end
    if not math.tointeger(number) then
      strict.fail("--set %s=%s: expected a whole number (the default is %s)", key, text, tostring(default))
    end
    return math.tointeger(number)
  end
  if kind == "table" then -- a list: commas, each item of the type of the first default item
    local list = {}
    for item in text:gmatch("[^,]+") do
      list[#list + 1] = convert(key, item, default[1] == nil and "" or default[1])
    end
    return list
  end
  return strict.fail("--set %s: the default is a %s, which cannot be given on the command line", key, type(default))
end

strict.class("Params", {}, {
  doc = "The parameters of a recipe, by name; pairs() goes through them, printing shows them.", receiver = "p",
})

local params = { resolved = nil }

-- Names of --set that nothing has read yet, and where the recipe declares its parameters.
local unread, declared_at = {}, ""

--- Raises an error for an override of `--set` that nothing has read; the program calls it at the end of a recipe. Under
--- `--plan` it is a note: the recipe ended at its first step.
--- @throws when a parameter was overridden and never read
--- @example qlora.params.check_overrides()
function params.check_overrides()
  for _, key in ipairs(strict.sorted_keys(native.options.set or {})) do
    if not params.resolved then
      error(("--set %s: the recipe has no qlora.params { … } to override; declare %s = … there"):format(key, key), 0)
    end
    if unread[key] and native.options.plan then
      io.stderr:write(("note: --plan ended before the recipe read p.%s, so --set %s is not in the plan\n"):format(key,
        key))
    elseif unread[key] then
      error(("%s--set %s changed nothing: the recipe declares %s but never reads p.%s"):format(declared_at, key, key,
        key), 0)
    end
  end
end

--- Returns a copy of `defaults` with the command line's `--set` values; reading or writing any other key is an error.
local function resolve(defaults)
  if type(defaults) ~= "table" then strict.fail("qlora.params: expected a table, got %s", type(defaults)) end
  local values, keys = {}, strict.sorted_keys(defaults)
  for _, key in ipairs(keys) do
    if type(key) ~= "string" then strict.fail("qlora.params: names must be strings, got %s", tostring(key)) end
    values[key] = defaults[key]
  end
  local overrides = native.options.set or {}
  for _, key in ipairs(strict.sorted_keys(overrides)) do
    if values[key] == nil then
      strict.fail("--set %s: the recipe has no parameter '%s'%s", key, key, suggest.phrase(key, keys))
    end
    values[key] = convert(key, overrides[key], defaults[key])
    unread[key] = true
  end
  params.resolved, declared_at = values, strict.caller()
  local function unknown(_, key)
    strict.fail("qlora.params: no parameter '%s'%s", tostring(key), suggest.phrase(key, keys))
  end
  return setmetatable({}, {
    __name = "params",
    __index = function(self, key)
      local value = values[key]
      if value == nil then unknown(self, key) end
      unread[key] = nil
      return value
    end,
    __newindex = function(self, key, value)
      if values[key] == nil then unknown(self, key) end
      values[key] = value
    end,
    __pairs = function()
      unread = {}
      return next, values, nil
    end,
    __tostring = function()
      local lines = {}
      for i, key in ipairs(keys) do lines[i] = ("%s = %s"):format(key, tostring(values[key])) end
      return table.concat(lines, "\n")
    end,
  })
end

--- The knobs of a recipe: a copy of its defaults with the values of `--set`; reading or writing any other key is an
--- error.
--- @param defaults table values by name; `--set` gives a value of the same type
--- @return Params the values
--- @throws when `--set` names a parameter that is not there, or a value of another type
--- @example
--- local p = qlora.params { rank = 16, lr = 2e-4 } -- qlora-run --set rank=8 recipe.lua
--- assert(p.rank == 16)
return setmetatable(params, { __call = function(_, defaults) return resolve(defaults) end })
