--- `help(x)`: native functions and classes from their declarations, functions of the library from the comments above
--- them, values by what they are.
local native = require "qlora.native"
local colour = require "qlora.repl.colour"
local docs = require "qlora.repl.docs"
local strict = require "qlora.strict"
local suggest = require "qlora.suggest"
local topics = require "qlora.repl.topics"

local help = {}

local overview = [[
qlora.load(path, options)     a model from a directory, a .gguf file or a hub name
qlora.data.load, qlora.optim.adamw, qlora.train, qlora.select, qlora.schedule, qlora.eval

help(x), ? x                  explains a function, an object or a name: ? qlora.train, ? model, ? Model:loss, ? zeros
Tab                           completes names, fields, methods, modules of a model and file names
x = 5;                        a trailing ; prints nothing; a leading = is accepted
_, _1, _2, _3                 the last results
Ctrl-C                        stops the statement; models and tensors stay
Ctrl-D, exit(code)            leaves]]

--- A function of Lua: signature and comment.
local function lua_function(f, name)
  local comment = docs.of_function(f)
  local head = docs.signature(name or "function", f)
  if not comment then return nil, head end
  return head .. "\n  " .. comment:gsub("\n", "\n  ")
end

--- A method that Lua added to a bound class, or the declaration of a native one.
local function method(class, name)
  local f = topics.methods(class)[name]
  if not f then return nil end
  return native.help(class .. ":" .. name) or lua_function(f, class .. ":" .. name)
end

--- A bound class: its declaration and the methods that Lua added.
local function class(name)
  local lines = { native.help(name) }
  if not lines[1] then return nil end
  for _, key in ipairs(strict.sorted_keys(topics.methods(name))) do
    if not native.help(name .. ":" .. key) then
      local f = topics.methods(name)[key]
      local about = docs.summary(docs.of_function(f) or "")
      lines[#lines + 1] = ("  %s — %s"):format(docs.signature(":" .. key, f), about)
    end
  end
  return table.concat(lines, "\n")
end

--- Signature and first line of a function that is declared, or wraps a declared one of the same name.
local function declared(f, key)
  local path = topics.path_of(f) or key
  local text = native.help((path:gsub("^qlora%.", ""))) or key .. "(…)"
  return (text:gsub("^[%w_.]-([%w_]+%(.-)\n%s*([^\n]*).*$", "%1 — %2"))
end

--- One line a function of a table.
local function listed(place, separator)
  local lines = {}
  for _, key in ipairs(topics.keys(place)) do
    local f = place[key]
    if type(f) == "function" and not key:find "^__" then
      local comment = docs.of_function(f)
      if comment then
        lines[#lines + 1] = ("  %s — %s"):format(docs.signature(separator .. key, f), docs.summary(comment))
      else
        lines[#lines + 1] = "  " .. separator .. declared(f, key)
      end
    end
  end
  return lines
end

--- A table of the library with what its file says and its functions; a callable one with the comment of its call.
local function library_table(place, path)
  local meta = debug.getmetatable(place)
  local lines = { path, "  " .. (docs.of_module(path) or ""):gsub("\n", "\n  ") }
  local call = meta and meta.__call
  local comment = type(call) == "function" and docs.of_function(call)
  if comment then lines[#lines + 1] = "  called: " .. comment:gsub("\n", "\n  ") end
  table.move(listed(place, "."), 1, 1000, #lines + 1, lines)
  for _, key in ipairs(topics.keys(place)) do
    local about = type(place[key]) == "table" and docs.of_module(path .. "." .. key)
    if about then lines[#lines + 1] = ("  .%s — %s"):format(key, docs.summary(about)) end
  end
  return table.concat(lines, "\n")
end

--- The text for a name: "zeros", "qlora.train", "Model", "Model:loss", "loss"; nil when it is unknown.
function help.of_name(name)
  local library = topics.library()
  local value = library[name] or library["qlora." .. name]
  if value then return help.of_value(value) end
  local class_name, method_name = name:match("^(%w+)[:.]([%w_]+)$")
  if class_name then
    local text = method(class_name, method_name)
    if text then return text end
  end
  local text = class(name) or native.help(name)
  if text then return text end
  for _, other in ipairs(native.classes()) do
    text = method(other, name)
    if text then return text end
  end
end

local function of_function(f)
  local path = topics.path_of(f)
  local text, signature = lua_function(f, path)
  if text then
    local module = path and rawequal(package.loaded[path], f) and docs.of_module(path)
    return module and text .. "\n  " .. module:gsub("\n", "\n  ") or text
  end
  for name, native_function in pairs(topics.natives()) do
    if rawequal(native_function, f) then return native.help(name) end
  end
  for _, class_name in ipairs(native.classes()) do
    for name, known in pairs(topics.methods(class_name)) do
      if rawequal(known, f) then return method(class_name, name) end
    end
  end
  -- A checked wrapper of a native function (optim.adamw) has its name.
  return path and native.help(path:gsub("^qlora%.", "")) or signature .. "\n  (a Lua function without a comment)"
end

--- The text for a value.
function help.of_value(value)
  local kind, meta = type(value), debug.getmetatable(value)
  if kind == "function" then return of_function(value) end
  if kind == "userdata" then return meta and class(meta.__name) or "a userdata of another library" end
  if kind == "table" then
    local path = topics.path_of(value)
    if path then return library_table(value, path) end
    if value == require "qlora" then return library_table(value, "qlora") end
    local lines = { meta and meta.__name and "a " .. meta.__name or "a table" }
    local methods = meta and (type(meta.__index) == "table" and meta.__index or meta) or {}
    return table.concat(table.move(listed(methods, ":"), 1, 1000, 2, lines), "\n")
  end
  return ("a %s: %s"):format(kind, tostring(value))
end

local function say(text) print((text:gsub("^[^\n]*", colour.bold, 1))) end

local function unknown(name)
  local known = {}
  for _, topic in ipairs(topics.names()) do
    known[topic] = true
    local last = topic:match("[^.:]+$") -- what one is likely to type
    if #last > 2 then known[last] = true end
  end
  local nearest = suggest.nearest(name, strict.sorted_keys(known), 3)
  print(("nothing is known about '%s'%s"):format(name,
    nearest[1] and "; did you mean " .. table.concat(nearest, ", ") .. "?" or "; help() is an overview"))
end

--- Explains a value or, for a string, what it names; without an argument the prompt itself.
function help.show(...)
  if select("#", ...) == 0 then return print(overview) end
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
