--- Jinja templates of chat models: compiled once, rendered with Python's semantics in a sandbox.
local blocks = require "qlora.jinja.blocks"
local compiler = require "qlora.jinja.compiler"
local globals = require "qlora.jinja.globals"
local parse = require "qlora.jinja.statements"
local values = require "qlora.jinja.values"
local reader = require "qlora.jinja.reader"

local jinja = { None = values.None, read = reader.lua, read_json = reader.json }

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

--- The function of a source; compiled once.
function jinja.compile(source, name)
  local found = compiled[source]
  if found then return found end
  if #source > 4 << 20 then error((name or "template") .. ": the template is longer than 4 MiB", 0) end
  if not utf8.len(source, 1, -1, true) then error((name or "template") .. ": the template is no UTF-8", 0) end
  found = guarded(name or "template", function()
    compiler.soft = 0
    return blocks.body(parse(source))
  end)
  if count >= 64 then compiled, count = {}, 0 end
  compiled[source], count = found, count + 1
  return found
end

--- The text that a source writes. `variables` are values of a template or Lua values by name. `o`: name (for errors),
--- now (the time of strftime_now). Returns the text; the { first, last } byte of each generation block, nil when one of
--- them is inside a macro or a captured text, whose place is not known; and a set of the variables that were read.
function jinja.render(source, variables, o)
  o = o or {}
  local name = o.name or "template"
  local body = jinja.compile(source, name)
  local outer = values.state
  local state = { line = 0, steps = 0, bytes = 0, depth = 0, now = o.now, generated = {},
    out = { n = 0, bytes = 0, is_root = true } }
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
  local generated = state.generated
  if state.hidden then generated = nil end
  return result, generated, read
end

return jinja
