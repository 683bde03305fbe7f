--- Jinja templates of chat models: compiled once, rendered with Python's semantics in a sandbox.
local blocks = require "qlora.jinja.blocks"
local compiler = require "qlora.jinja.compiler"
local globals = require "qlora.jinja.globals"
local parse = require "qlora.jinja.statements"
local values = require "qlora.jinja.values"
local reader = require "qlora.jinja.reader"

local jinja = { None = values.None }

local compiled, count = {}, 0

--- Runs `body`; an error of the template is raised again as `NAME: line N: message`.
local function guarded(name, body)
  local ok, result = pcall(body)
  if ok then return result end
  if type(result) == "table" and result.jinja then
    local message = result.jinja
    error(("%s: line %d: %s"):format(name, result.line or 0, result.raised and "the template says: " .. message
      or message), 0)
  end
  error(result, 0)
end

--- What `read(value)` gives; a value that no template can have is an error that says why.
local function read_by(read, value)
  local ok, result = pcall(read, value)
  if ok then return result end
  error(type(result) == "table" and result.jinja or result, 0)
end

--- A Lua value as a value of a template.
function jinja.read(value) return read_by(reader.lua, value) end

--- A JSON text as a value of a template.
function jinja.read_json(text) return read_by(reader.json, text) end

--- The statements of a source; `has_generation` says whether there are generation blocks among them.
--- @throws `NAME: line N: …` for a source that is no template
function jinja.parse(source, name)
  name = name or "template"
  if #source > 4 << 20 then error(name .. ": the template is longer than 4 MiB", 0) end
  if not utf8.len(source, 1, -1, true) then error(name .. ": the template is no UTF-8", 0) end
  return guarded(name, function() return parse(source) end)
end

--- The function of a source; compiled once.
--- @throws `NAME: line N: …` for a source that is no template
function jinja.compile(source, name)
  name = name or "template"
  local found = compiled[source]
  if found then return found end
  local statements = jinja.parse(source, name)
  found = guarded(name, function()
    compiler.soft = 0
    return blocks.body(statements)
  end)
  if count >= 64 then compiled, count = {}, 0 end
  compiled[source], count = found, count + 1
  return found
end

--- The text that a source writes. `variables` are values of a template or Lua values by name. `o`: name (for errors),
--- now (the time of strftime_now), messages (a list, for the numbers of those that generation blocks belong to).
--- Returns the text; the { first, last } byte of each generation block with its text, line and message, as jinja.blocks
--- notes them; and a set of the variables that were read.
function jinja.render(source, variables, o)
  o = o or {}
  local name = o.name or "template"
  local body = jinja.compile(source, name)
  local outer = values.state
  local root, numbers = { n = 0, bytes = 0 }, {}
  for i, message in ipairs(o.messages or {}) do numbers[message] = i end
  local state = { line = 0, steps = 0, bytes = 0, depth = 0, loops = 0, now = o.now, generated = {}, messages = numbers,
    root = root, out = root }
  local read = {}
  values.state = state
  local ok, result = pcall(guarded, name, function()
    local given = {}
    for key, value in pairs(variables) do given[key] = reader.lua(value) end
    body(setmetatable({}, { __index = function(_, key)
      local value = given[key]
      if value == nil then return globals[key] end
      read[key] = true
      return value
    end }))
    return table.concat(state.out)
  end)
  values.state = outer
  if not ok then error(result, 0) end
  return result, state.generated, read
end

return jinja
