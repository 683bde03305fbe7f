--- Adapters that a recipe writes: `model:add_adapter_module(select, { parameters = …, forward = … })`.
local native = require "qlora.native"
local source = require "qlora.scripted_source"
local strict = require "qlora.strict"
local selection = require "qlora.selection"

local scripted = {}

local definition = {
  parameters = { "function", "parameters(module) returns a table of new f32 tensors by name, which are trained",
    required = true, hint = "parameters = function(m) return { A = …, B = … } end" },
  forward = { "function", "forward(x, base, p, training) returns the output [T, out] from the input x [T, in], the "
    .. "output of the frozen module and the tensors by name", required = true,
    hint = "forward = function(x, base, p) return base + … end" },
  name = { "string", "what the adapter is called among others of the model", default = "default" },
}
local add_schema = strict.declare("model:add_adapter_module", definition, {
  quiet = { "boolean", "do not print the report", default = false },
})
local load_schema = strict.declare("model:load_adapter_module", definition, {
  trainable = { "boolean", "train it on", default = false },
})

local function checked(name, model, options, schema)
  if type(model) == "table" and not model.modules then
    strict.fail("%s: call it with a colon, model:%s(…); with a dot it gets no model", name, name)
  end
  local o = strict.options(name, options, schema)
  return o, { parameters = o.parameters, forward = o.forward, source = source.of(name, o), name = o.name,
    trainable = o.trainable, current = function() return source.of(name, o) end }
end

--- Puts an adapter that is written in Lua on the selected modules. Its functions may use local variables that hold
--- numbers, strings, booleans, tables of those, modules and other such functions; their values count as part of it.
--- They use no tensor from outside.
--- @param what any a selection, as for add_lora
--- @return Selection what matched; printing it shows the table
--- @throws when a rule matches no module, when a function raises or makes what cannot be used, or when it uses a
---   variable that cannot be saved
--- @example
--- model:remove_adapters()
--- local report = model:add_adapter_module({ "q_proj" }, {
---   parameters = function(m) return { gain = qlora.ones(m.out_features) } end,
---   forward = function(_, base, p) return base * p.gain end,
--- })
--- assert(report.trainable > 0)
function scripted.add(model, what, options)
  local o, given = checked("add_adapter_module", model, options, add_schema)
  local _, report = selection.resolve(model, what)
  local names = {}
  for i, module in ipairs(report.selected) do
    names[i], report.list[i] = module.name, { name = module.name, text = "scripted" }
  end
  report.kind, report.trainable = "Scripted", model:attach_module(names, given)
  report.bytes = 4 * report.trainable
  if not o.quiet and not native.options.quiet then print(report) end
  return report
end

--- Reads an adapter that is written in Lua from the folder where save_adapter put it, and uses it. The definition is
--- given again: what lies in the folder is run by nobody unless a recipe does, `dofile(directory .. "/adapter.lua")`.
--- @param directory string path of the adapter's directory
--- @return integer the modules that got an adapter
--- @throws when the definition is not that of the files, or the files do not fit the model
--- @example
--- local gain = {
---   parameters = function(m) return { gain = qlora.ones(m.out_features) } end,
---   forward = function(_, base, p) return base * p.gain end,
--- }
--- model:remove_adapters()
--- model:add_adapter_module({ "q_proj" }, gain)
--- model:save_adapter "gain"
--- model:remove_adapters()
--- assert(model:load_adapter_module("gain", gain) > 0)
function scripted.load(model, directory, options)
  local _, given = checked("load_adapter_module", model, options, load_schema)
  return model:load_module(directory, given)
end

return scripted
