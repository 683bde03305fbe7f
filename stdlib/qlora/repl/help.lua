--- `help(x)`: what the reference knows of a name or a value.
local native = require "qlora.native"
local colour = require "qlora.repl.colour"
local docs = require "qlora.repl.docs"
local reference = require "qlora.reference"
local strict = require "qlora.strict"
local suggest = require "qlora.suggest"
local topics = require "qlora.repl.topics"
local screen = require "qlora.screen"

local help = {}

local overview = [[
qlora.load(path, options)     a model from a directory, a .gguf file or a hub name
qlora.data.load, qlora.optim.adamw, qlora.train, qlora.select, qlora.schedule, qlora.eval

help(x), ? x                  explains a function, an object or a name: ? qlora.train, ? model, ? Model:loss, ? zeros
Tab                           completes names, fields, methods, options, modules of a model and file names
x = 5;                        a trailing ; prints nothing; a leading = is accepted
_, _1, _2, _3                 the last results
Ctrl-C                        stops the statement; models and tensors stay
Ctrl-D, exit(code)            leaves]]

--- One line for each entry of a table or a class, without the place in front.
local function listed(lines, entries, separator)
  for _, entry in ipairs(entries) do
    local head = reference.signature(entry):gsub("^[^(]*[.:]", "", 1)
    lines[#lines + 1] = ("  %s%s — %s"):format(separator, head, docs.summary(entry.doc))
  end
end

--- A class: its fields and its methods.
local function class(name)
  local found = reference.class(name)
  if not found then return nil end
  local lines = { found.name .. ": " .. found.doc }
  for _, property in ipairs(found.properties) do
    lines[#lines + 1] = ("  .%s: %s — %s"):format(property.name, property.type, property.doc)
  end
  listed(lines, found.entries, ":")
  return table.concat(lines, "\n")
end

--- A method, by the names of its class and its own.
local function method(class_name, name)
  local found = reference.class(class_name)
  for _, entry in ipairs(found and found.entries or {}) do
    if entry.name == class_name .. ":" .. name then return reference.text(entry) end
  end
end

--- A table of the library with what its file says and its functions; a callable one with its call.
local function library_table(place, path)
  local lines = { path, "  " .. (reference.about(path) or "") }
  local call = reference.of_call(path, place)
  if call then lines[#lines + 1] = "  called: " .. reference.text(call):gsub("\n", "\n  ") end
  local entries = {}
  for _, key in ipairs(topics.keys(place)) do
    if type(place[key]) == "function" then
      entries[#entries + 1] = reference.of_function(path .. "." .. key, place[key])
    end
  end
  listed(lines, entries, ".")
  for _, key in ipairs(topics.keys(place)) do
    local about = type(place[key]) == "table" and reference.about(path .. "." .. key)
    if about then lines[#lines + 1] = ("  .%s — %s"):format(key, docs.summary(about)) end
  end
  return table.concat(lines, "\n")
end

--- The text of a native function by the name of its declaration.
local function native_function(name)
  local f = topics.natives()[name]
  return f and reference.text(reference.of_function("qlora.native." .. name, f))
end

--- The class whose objects are called so in recipes: "Model" for "model", "Dataset" for "data"; else the name itself.
local function class_of_receiver(name)
  for class_name, about in pairs(strict.classes) do
    if about.receiver == name then return class_name end
  end
  local capital = name:sub(1, 1):upper() .. name:sub(2)
  return reference.class(capital) and capital or name
end

--- The text for a name: "zeros", "qlora.train", "Model", "Model:loss", "loss"; nil when it is unknown.
function help.of_name(name)
  if name == "qlora" then return library_table(require "qlora", name) end
  local library = topics.library()
  local path = library[name] and name or "qlora." .. name
  local value = library[path]
  if type(value) == "function" then return reference.text(reference.of_function(path, value)) end
  if value then return library_table(value, path) end
  local class_name, method_name = name:match("^(%w+)[:.]([%w_]+)$")
  if class_name then class_name = class_of_receiver(class_name) end
  local text = class_name and method(class_name, method_name) or class(name)
    or native_function((name:gsub("^qlora%.native%.", "")))
  if text then return text end
  for _, other in ipairs(reference.classes()) do
    text = method(other.name, name)
    if text then return text end
  end
end

local function of_function(f)
  local path = topics.path_of(f)
  if path then return reference.text(reference.of_function(path, f)) end
  for name, known in pairs(topics.natives()) do
    if rawequal(known, f) then return native_function(name) end
  end
  for _, class_name in ipairs(native.classes()) do
    for name, known in pairs(topics.methods(class_name)) do
      if rawequal(known, f) then return method(class_name, name) end
    end
  end
  for class_name, about in pairs(strict.classes) do
    for name, known in pairs(about.class) do
      if rawequal(known, f) then return method(class_name, name) end
    end
  end
  local comment = docs.of_function(f)
  return docs.signature("function", f) .. "\n  "
    .. (comment and comment:gsub("\n", "\n  ") or "(a Lua function without a comment)")
end

--- The name under which the class of a Lua object is declared.
local function class_of(value)
  local meta = debug.getmetatable(value)
  for name, about in pairs(strict.classes) do
    if meta and about.class == meta then return name end
  end
end

--- The text for a value.
function help.of_value(value)
  local kind, meta = type(value), debug.getmetatable(value)
  if kind == "function" then return of_function(value) end
  if kind == "userdata" then return meta and class(meta.__name) or "a userdata of another library" end
  if kind == "table" then
    local path = value == require "qlora" and "qlora" or topics.path_of(value)
    if path then return library_table(value, path) end
    local known = class_of(value)
    return known and class(known) or meta and meta.__name and "a " .. meta.__name or "a table"
  end
  return ("a %s: %s"):format(kind, tostring(value))
end

local function say(text) print((screen.wrapped(text):gsub("^[^\n]*", colour.bold, 1))) end

local function unknown(name)
  local known, ending = {}, {}
  for _, topic in ipairs(topics.names()) do
    known[topic] = true
    local last = topic:match("[^.:]+$") -- what one is likely to type
    if #last > 2 then known[last] = true end
    if last == name then ending[#ending + 1] = topic end
  end
  local nearest = ending[1] and ending or suggest.nearest(name, strict.sorted_keys(known), 3)
  print(("nothing is known about '%s'%s"):format(name, suggest.meant(nearest) or "; help() is an overview"))
end

--- Explains a value or, for a string, what it names; without an argument the prompt itself.
function help.show(...)
  if select("#", ...) == 0 then return print(screen.wrapped(overview)) end
  local value = ...
  if type(value) ~= "string" then return say(help.of_value(value)) end
  local text = help.of_name(value)
  if text then say(text) else unknown(value) end
end

--- `? text`: the value that the text stands for in `env`, else the name. `m:loss` stands for the method.
function help.asked(text, env)
  if text == "" then return help.show() end
  text = text:match("^(.-)%s*%(.*%)$") or text
  local quoted = text:match("^(['\"])(.*)%1$") and text:sub(2, -2)
  if quoted then return help.show(quoted) end
  local found = help.of_name(text)
  local chunk = text:find("^[%a_]") and load("return " .. text:gsub(":([%a_][%w_]*)$", ".%1"), "=stdin", "t", env)
  local ok, value = pcall(chunk or function() end)
  if ok and value ~= nil and type(value) ~= "string" then return say(help.of_value(value)) end
  if found then say(found) else unknown(text) end
end

return help
