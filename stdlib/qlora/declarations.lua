--- The declarations of native functions and classes, by name.
local native = require "qlora.native"

local declarations = native.declarations()

-- "load_model", "optim.adamw", "Model:loss" -> function.
declarations.by_name = {}

for _, module in ipairs(declarations.modules) do
  for _, declared in ipairs(module.functions) do declarations.by_name[declared.name] = declared end
end
for _, class in ipairs(declarations.classes) do
  for _, method in ipairs(class.methods) do declarations.by_name[class.name .. ":" .. method.name] = method end
end

--- The fields of a function's options, or of the rows of its list: { { name =, kinds =, optional =, doc =, … }, … }.
function declarations.fields(name)
  local declared = declarations.by_name[name] or error(("no native function %s is declared"):format(name), 2)
  local rows
  for _, parameter in ipairs(declared.parameters) do
    if parameter.fields and not parameter.is_list then return parameter.fields end
    rows = rows or parameter.fields
  end
  return rows or {}
end

--- The methods that have an option of this name, as a recipe calls them ("model:generate").
function declarations.owners(option)
  local owners = {}
  for _, class in ipairs(declarations.classes) do
    for _, method in ipairs(class.methods) do
      for _, field in ipairs(declarations.fields(class.name .. ":" .. method.name)) do
        if field.name == option then owners[#owners + 1] = class.name:lower() .. ":" .. method.name end
      end
    end
  end
  return owners
end

--- The declaration of a class; nil when there is none of this name.
function declarations.class(name)
  for _, class in ipairs(declarations.classes) do
    if class.name == name then return class end
  end
end

return declarations
