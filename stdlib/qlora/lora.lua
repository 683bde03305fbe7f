--- `model:add_lora { select = …, rank = … }`: resolves the selection, attaches the adapters and prints what matched.
local native = require "qlora.native"
local strict = require "qlora.strict"
local selection = require "qlora.selection"

local lora = {}

local schema = { select = "!any", quiet = "boolean" }
for key, kinds in pairs(selection.settings_schema) do schema[key] = kinds end
strict.declare("model:add_lora", schema)

local hints = {
  select = 'such as select = "all-linear", { "q_proj", "v_proj" } or a function of the module',
  rank = "such as rank = 16",
}

--- Adds trainable low-rank adapters. Returns the report (`.rules`, `.modules`, `.trainable`, `.list`; printing it shows
--- the table).
function lora.add_lora(model, options)
  if options == nil and type(model) == "table" and not model.modules then
    strict.fail("add_lora: call it with a colon, model:add_lora { … }; with a dot it gets no model")
  end
  local o = strict.options("add_lora", options, schema, hints)
  local defaults = {}
  for key in pairs(selection.settings_schema) do defaults[key] = o[key] end
  if o.init then strict.one_of("add_lora", "init", o.init, { "default", "gaussian" }) end
  local list, report = selection.resolve(model, o.select, defaults)
  report.trainable = model:attach_lora(list)
  if not o.quiet and not native.options.quiet then print(report) end
  return report
end

--- What a selection would match, without attaching anything. `defaults` are settings as `add_lora` takes them.
function lora.preview(model, what, defaults)
  local _, report = selection.resolve(model, what, defaults)
  return report
end

return lora
