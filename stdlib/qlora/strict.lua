--- Option tables that do not swallow mistakes: unknown keys and wrong types are errors at the recipe's own line.
local declarations = require "qlora.declarations"
local foreign = require "qlora.foreign_words"
local suggest = require "qlora.suggest"

--- An option is declared once, as `name = { kinds, sentence, … }`, with fields that it needs: `default` (filled in
--- here), `initial` (a default that is filled in elsewhere, as text), `choices`, the bounds `at_least`, `above`,
--- `at_most` and `below` of a number, `infinite` (it need not be finite), `required` and `hint` (what to write; it ends
--- the message when the option is missing or wrong). Checks, help, completion, the reference and the annotations for
--- editors read these declarations.
local strict = {}

-- The bounds of a number in the order of messages, each with its test.
strict.bounds = {
  { "at_least", "at least %s", function(value, bound) return value >= bound end },
  { "above", "above %s", function(value, bound) return value > bound end },
  { "at_most", "at most %s", function(value, bound) return value <= bound end },
  { "below", "below %s", function(value, bound) return value < bound end },
}

-- What the functions of the library take, by the name under which a recipe calls them.
strict.declared = {}

--- Declares the options of a function, from one or more schemas { name = option }; returns them as one.
function strict.declare(name, ...)
  local schema = {}
  for _, part in ipairs { ... } do
    for key, option in pairs(part) do schema[key] = option end
  end
  strict.declared[name] = schema
  return schema
end

--- Some options as a native function ("load_model", "Model:attach_lora") declares them; all without `keys`.
function strict.native(name, keys)
  local schema, wanted = {}, {}
  for _, key in ipairs(keys or {}) do wanted[key] = true end
  for _, field in ipairs(declarations.fields(name)) do
    if not keys or wanted[field.name] then
      local option = { field.kinds, field.doc, initial = field.initial, choices = field.choices,
        required = not field.optional or nil, infinite = field.infinite }
      for _, bound in ipairs(strict.bounds) do option[bound[1]] = field[bound[1]] end
      schema[field.name] = option
      wanted[field.name] = nil
    end
  end
  if next(wanted) then error(("strict: %s declares no option %s"):format(name, next(wanted)), 2) end
  return schema
end

-- Classes that are made in Lua, by name.
strict.classes = {}

--- Declares a class made in Lua for help and reference. `about` = { doc =, receiver = what an object is called where
--- its options are declared, fields = { { name, type, sentence }, … } }. Returns `class`.
function strict.class(name, class, about)
  about.class = class
  strict.classes[name] = about
  return class
end

-- Every frame whose chunk lies beside this one is the library's, so the first frame elsewhere is the caller's.
local library = debug.getinfo(1, "S").source:match("^(.*)strict%.lua$") or "@qlora/"

--- "recipe.lua:12: " of the nearest caller outside the standard library ("" when there is none).
function strict.caller()
  local level = 2
  while true do
    local info = debug.getinfo(level, "Sl")
    if not info then return "" end
    if info.what ~= "C" and info.currentline > 0 and info.source:sub(1, #library) ~= library then
      return ("%s:%d: "):format(info.short_src, info.currentline), info
    end
    level = level + 1
  end
end

--- Raises a formatted error that points to the caller's line.
function strict.fail(format, ...)
  local position = strict.caller()
  error(position .. format:format(...), 0)
end

--- Raises again what is no text, an interrupt or another end of the program, so that nobody words it anew.
function strict.pass_on(raised) if type(raised) == "table" then error(raised, 0) end end

local function sorted_keys(schema)
  local keys = {}
  for key in pairs(schema) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    if type(a) == type(b) and type(a) ~= "table" and type(a) ~= "boolean" then return a < b end
    return tostring(a) < tostring(b)
  end)
  return keys
end
strict.sorted_keys = sorted_keys

--- Whether `value` is an object of a class: bound by name, made in Lua by being a table.
local function is_object(value, class)
  if type(value) == "table" then return true end
  return type(value) == "userdata" and getmetatable(value) == class
end

--- Whether a value is a number that is neither NaN nor infinite.
function strict.is_finite(value)
  return type(value) == "number" and value == value and value ~= math.huge and value ~= -math.huge
end
local is_finite = strict.is_finite

-- What can be counted, as in the engine: the product of two of these is still an integer.
local most = 0x7fffffff

--- Whether a value is a whole number of at least 1 that the engine can count to.
function strict.is_count(value)
  return type(value) == "number" and math.tointeger(value) and value >= 1 and value <= most or false
end

--- Whether `value` is of a kind named in `kinds` ("integer|string"). Besides Lua's types: number (a finite one, unless
--- `infinite`), integer, positive (a finite number > 0), count (an integer >= 1), callable, and the name of a class.
local function matches(value, kinds, infinite)
  for kind in kinds:gmatch("[^|]+") do
    if kind == type(value) and (kind ~= "number" or infinite or is_finite(value))
      or kind == "integer" and math.tointeger(value) and type(value) == "number"
      or kind == "positive" and is_finite(value) and value > 0
      or kind == "count" and strict.is_count(value)
      or kind == "callable" and (type(value) == "function" or (getmetatable(value) or {}).__call ~= nil)
      or kind:find "^%u" and is_object(value, kind) then
      return true
    end
  end
  return false
end

local wording = {
  positive = "a number above 0", count = "a whole number of at least 1", callable = "a function",
  integer = "a whole number", Optimizer = "an Optimizer",
}

--- What is expected instead of `value`.
local function describe(kinds, value)
  local words = {}
  for kind in kinds:gmatch("[^|]+") do
    local word = wording[kind] or ("a " .. kind)
    if type(value) == "number" then
      if kind == "count" and value > most then word = "a whole number from 1 to " .. most end
      if kind == "number" or kind == "positive" and value == math.huge then word = word:gsub("^a ", "a finite ") end
    end
    words[#words + 1] = word
  end
  return table.concat(words, " or ")
end

--- What a value is, for messages: `"text"`, `5`, `nil`, `a table`, `a Model`.
function strict.show(value)
  if type(value) == "string" then return ("%q"):format(value) end
  if value ~= value then return "nan" end -- its sign says nothing
  if type(value) == "number" or type(value) == "boolean" or value == nil then return tostring(value) end
  local meta = getmetatable(value)
  local name = type(meta) == "string" and meta or type(meta) == "table" and rawget(meta, "__name") or type(value)
  return "a " .. name
end
local show = strict.show

--- The remedy for an option: what its declaration hints at, or nothing.
local function hint(option) return option.hint and "; " .. option.hint or "" end

--- Where option `key` belongs when it is not the caller's: `; it is an option of qlora.train`, or nothing.
local function belongs(key)
  local owners = {}
  for _, name in ipairs(sorted_keys(strict.declared)) do
    if strict.declared[name][key] then owners[#owners + 1] = name end
  end
  if #owners == 0 then owners = declarations.owners(key) end
  if #owners == 0 then return "" end
  local more = #owners > 3 and ", …" or ""
  return ("; it is an option of %s%s"):format(table.concat(owners, ", ", 1, math.min(3, #owners)), more)
end

--- A value as a recipe writes it, where it is short and plain; else nil.
local function literal(value)
  if type(value) == "table" or type(value) == "function" or type(value) == "userdata" then return nil end
  local text = show(value)
  return #text <= 40 and text or nil
end

local function check_unknown(name, options, schema)
  local unknown, wants_list = {}, false
  for _, key in ipairs(sorted_keys(options)) do
    if not schema[key] and type(key) == "number" then
      strict.fail("%s: %s stands in the options without a name; write name = value, with one of: %s", name,
        show(options[key]), table.concat(sorted_keys(schema), ", "))
    end
    if not schema[key] then
      local known, place = sorted_keys(schema), belongs(key)
      local here = foreign.names[key]
      if here and not schema[here] then
        place = belongs(here):gsub("^; it is", ('; here it is called "%s",'):format(here))
      end
      local remedy = suggest.remedy(key, known, place, literal(options[key]))
      wants_list = wants_list or not remedy
      unknown[#unknown + 1] = ("unknown option '%s'%s"):format(tostring(key), remedy or place)
    end
  end
  if #unknown > 0 then
    strict.fail("%s: %s%s", name, table.concat(unknown, "; "), wants_list and suggest.valid(sorted_keys(schema)) or "")
  end
end

local function check_range(name, key, option, value)
  if type(value) ~= "number" then return end
  for _, bound in ipairs(strict.bounds) do
    local limit = option[bound[1]]
    if limit and not bound[3](value, limit) then
      strict.fail("%s: option '%s' must be %s, got %s%s", name, key, strict.range(option), show(value), hint(option))
    end
  end
end

--- The bounds of an option as text, "at least 0 and below 1"; nil where there are none.
function strict.range(option)
  local words = {}
  for _, bound in ipairs(strict.bounds) do
    local limit = option[bound[1]]
    if limit then words[#words + 1] = bound[2]:format(math.tointeger(limit) or limit) end
  end
  return words[1] and table.concat(words, " and ") or nil
end

--- Checks `options` against `schema`, the declared options. Returns a copy with the defaults filled in.
function strict.options(name, options, schema)
  if options == nil then options = {} end
  if type(options) ~= "table" then
    strict.fail("%s: expected a table of options such as { %s = … }, got %s", name, sorted_keys(schema)[1] or "key",
      show(options))
  end
  check_unknown(name, options, schema)
  local copy = {}
  for _, key in ipairs(sorted_keys(schema)) do
    local option, value = schema[key], options[key]
    if value == nil then
      if option.required then
        strict.fail("%s: option '%s' is missing (or nil)%s", name, key, hint(option))
      end
      copy[key] = option.default
    else
      local kinds = option[1]
      if kinds ~= "any" and not matches(value, kinds, option.infinite) then
        strict.fail("%s: option '%s' must be %s, got %s%s", name, key, describe(kinds, value), show(value),
          hint(option))
      end
      if option.choices and type(value) ~= "function" then
        strict.one_of(name, key, value, option.choices, hint(option))
      end
      check_range(name, key, option, value)
      copy[key] = value
    end
  end
  return copy
end

--- Checks what a function is given at a place; `remedy` is what to give. A data set must hold samples.
function strict.argument(name, place, value, kinds, remedy)
  if not matches(value, kinds) or kinds == "Dataset" and value.batch == nil then
    strict.fail("%s: %s must be %s, got %s; %s", name, place, describe(kinds, value), show(value), remedy)
  end
end

--- `value` must be one of `words`, compared as text; returns it.
function strict.one_of(name, option, value, words, remedy)
  local text = tostring(math.tointeger(value) or value)
  for _, word in ipairs(words) do
    if tostring(word) == text then return value end
  end
  local texts = {}
  for i, word in ipairs(words) do texts[i] = tostring(word) end
  local other = suggest.choice(text, texts)
  local meant = not other and type(value) == "string" and suggest.meant(suggest.nearest(text, texts))
  return strict.fail("%s: option '%s' has no choice %s%s; choices: %s", name, option, show(value),
    other or meant or remedy or "", table.concat(texts, ", "))
end

--- Makes a missing field of the library table `name` an error with the nearest right one, not a nil that fails later.
function strict.namespace(name, fields)
  local meta = getmetatable(fields) or {}
  meta.__index = function(_, key)
    strict.fail("%s has no '%s'%s", name, tostring(key), suggest.phrase(tostring(key), sorted_keys(fields)))
  end
  return setmetatable(fields, meta)
end

return strict
