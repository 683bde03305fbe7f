--- `map` of qlora.data.load: records as a file has them -> records as a format reads them.
local strict = require "qlora.strict"
local suggest = require "qlora.suggest"
local fields = require "qlora.data.fields"

local mapping = {}

--- The fields that the format `name` reads, or any format.
local function read_by(name)
  local set = {}
  for format, variants in pairs(fields.formats) do
    for _, variant in ipairs(name == nil and variants or format == name and variants or {}) do
      for _, field in ipairs(variant) do set[field[1]] = true end
    end
  end
  return set
end

--- Checks a table { field of the format = field of the record }; `format` is its name, a function, or nil.
function mapping.check(map, format)
  if type(map) ~= "table" then return end
  local known = type(format) ~= "function" and read_by(format) or nil
  if next(map) == nil then
    strict.fail 'data.load: option \'map\' is empty; write such as map = { prompt = "question", completion = "answer" }'
  end
  for to, from in pairs(map) do
    if type(to) ~= "string" or type(from) ~= "string" then
      strict.fail("data.load: option 'map' is { field of the format = \"field of the record\" } or a function, "
        .. "got %s = %s in it", tostring(to), strict.show(from))
    end
    if known and not known[to] and not fields.of_model[to] then
      strict.fail("data.load: option 'map': %s reads no field '%s'%s", format and "format " .. format or "a format", to,
        suggest.phrase(to, strict.sorted_keys(known)))
    end
  end
end

--- The record with its fields renamed; what is not named in `map` stays.
local function renamed(map, record)
  if type(record) ~= "table" then strict.fail("it is %s, expected a table of fields", fields.shown(record)) end
  local result, moved = {}, {}
  for _, from in pairs(map) do moved[from] = true end
  for key, value in pairs(record) do
    if not moved[key] then result[key] = value end
  end
  for to, from in pairs(map) do
    if result[to] ~= nil and not fields.is_empty(result[to]) then
      strict.fail("it has '%s', and map puts '%s' in its place; say too where '%s' goes", to, from, to)
    end
    result[to] = record[from]
  end
  return result
end

--- A record of the file as `map` makes it; nil to leave it out.
function mapping.one(map, record)
  if type(map) == "table" then return renamed(map, record) end
  local result = map(record)
  if result ~= nil and (type(result) ~= "table" or result[1] ~= nil) then
    strict.fail("map gave %s, expected a record such as { prompt =, completion = } or { messages = }, or nil to leave "
      .. "it out; a list of spans is what a function as format gives", fields.shown(result))
  end
  return result
end

--- A field that no record has is a slip in `map`.
function mapping.check_used(map, records, count)
  if type(map) ~= "table" then return end
  local seen = {}
  for i = 1, count do
    for key in pairs(type(records[i]) == "table" and records[i] or {}) do seen[key] = true end
  end
  for _, to in ipairs(strict.sorted_keys(map)) do
    if not seen[map[to]] then
      strict.fail("data.load: option 'map': no record has '%s'%s", map[to],
        suggest.phrase(map[to], strict.sorted_keys(seen)))
    end
  end
end

--- What the settings of a run say.
function mapping.shown(map)
  if type(map) ~= "table" then return map and "a function of the recipe" end
  local parts = {}
  for i, to in ipairs(strict.sorted_keys(map)) do parts[i] = ("%s = %s"):format(to, map[to]) end
  return table.concat(parts, ", ")
end

local asked = { "instruction", "question", "query", "problem", "input", "prompt", "source", "user" }
local answered = { "output", "answer", "response", "solution", "target", "completion", "assistant", "summary" }

--- A guess for records whose fields tell no format: a `map` for two of them, or nil.
function mapping.guess(record)
  local function first(list)
    for _, name in ipairs(list) do
      if type(record[name]) == "string" then return name end
    end
  end
  local question, answer = first(asked), first(answered)
  return question and answer and ('map = { prompt = "%s", completion = "%s" }'):format(question, answer) or nil
end

return mapping
