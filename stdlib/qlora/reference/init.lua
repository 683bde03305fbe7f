--- What is known of every public name: declarations of native functions, comments and declared options of Lua ones.
--- Help, the reference (markdown.lua) and the annotations for editors (annotations.lua) are made from its entries.
local comments = require "qlora.reference.comments"
local declarations = require "qlora.declarations"
local docs = require "qlora.repl.docs"
local examples = require "qlora.reference.examples"
local strict = require "qlora.strict"
local topics = require "qlora.repl.topics"

local reference = {}

local function literal(value) return type(value) == "string" and ("%q"):format(value) or tostring(value) end

--- Declared options as fields, the required ones first.
local function fields_of(schema)
  local list = {}
  for _, key in ipairs(strict.sorted_keys(schema)) do
    local option = schema[key]
    local initial = option.initial
    if option.default ~= nil then initial = literal(option.default) end
    list[#list + 1] = { name = key, kinds = option[1], doc = option[2], optional = not option.required,
      initial = initial, choices = option.choices, range = strict.range(option) }
  end
  table.sort(list, function(a, b)
    if a.optional ~= b.optional then return b.optional end
    return a.name < b.name
  end)
  return list
end

local function any_required(fields)
  for _, field in ipairs(fields) do
    if not field.optional then return true end
  end
  return false
end

--- The parameters of a Lua function: names from the function, the rest from `@param` tags and declared options.
local function parameters_of(f, comment, schema, is_method)
  local list, info = {}, debug.getinfo(f, "u")
  for i = 1, info.nparams do list[i] = { name = debug.getlocal(f, i) } end
  if info.isvararg then list[#list + 1] = { name = "…" } end
  if is_method then table.remove(list, 1) end
  for i, parameter in ipairs(list) do
    local said = comment.params[parameter.name] or parameter
    local fields = parameter.name == "options" and schema and fields_of(schema) or nil
    list[i] = { name = parameter.name, kinds = said.kinds or fields and "table", optional = said.optional,
      doc = said.doc or fields and "the options below", fields = fields }
    if fields and not comment.params[parameter.name] then list[i].optional = not any_required(fields) end
  end
  return list
end

--- The entry of a Lua function under a name ("qlora.train", "Dataset:steps"). `receiver` is what its options are
--- declared under when it is a method; `is_call` says that it is the call of a table, whose first parameter is that.
local function lua_entry(name, f, receiver, is_call)
  local comment = comments.parse(docs.of_function(f) or "")
  local method = name:match(":([%w_]+)$")
  local schema = strict.declared[method and receiver .. ":" .. method or name]
  if method then comment.params[debug.getlocal(f, 1) or ""] = nil end -- the object; the call as a function has it
  return { name = name, doc = comment.doc, returns = comment.returns, returned = comment.returned,
    errors = comment.errors, example = comment.example, comment = comment,
    parameters = parameters_of(f, comment, schema, method or is_call) }
end

--- The entry of a native function, under the name by which a recipe calls it.
local function native_entry(declared, name)
  local parameters, schema = {}, strict.declared[name]
  for i, parameter in ipairs(declared.parameters) do
    local copy = {}
    for key, value in pairs(parameter) do copy[key] = value end
    if copy.fields and schema then copy.fields = fields_of(schema) end -- a checked wrapper of the library
    parameters[i] = copy
  end
  local key = name:find ":" and name or declared.name
  return { name = name, doc = declared.doc, parameters = parameters, returns = declared.returns, returned = "",
    errors = declared.errors, example = declared.example or examples[key], native = declared.name }
end

--- The declaration of the native function that is this value.
local function declared_of(f)
  for name, known in pairs(topics.natives()) do
    if rawequal(known, f) then return declarations.by_name[name] end
  end
end

--- The entry of a function of the library; a wrapper without a comment is that of its native namesake.
function reference.of_function(name, f)
  local declared = declared_of(f)
  if not declared and not docs.of_function(f) then
    declared = declarations.by_name[name:gsub("^qlora%.", "")]
  end
  return declared and native_entry(declared, name) or lua_entry(name, f)
end

--- The entry of a table that can be called (`qlora.params { … }`); nil for another.
function reference.of_call(name, place)
  local call = (debug.getmetatable(place) or {}).__call
  return type(call) == "function" and lua_entry(name, call, nil, true) or nil
end

-- Tables of the library that have no file of their own.
local abouts = {
  ["qlora"] = "What `require \"qlora\"` gives.",
  ["qlora.optim"] = "Optimizers: each is made for a list of tensors and steps when told to.",
  ["qlora.tokenizer"] = "Tokenizers without a model.",
  ["qlora.data.formats"] = "How records become samples: the formats of qlora.data.load by name, each a function "
    .. "record -> spans.",
  ["qlora.chat.templates"] = "Chat templates by name, each a function messages, settings -> spans.",
}

--- What a table of the library is for.
function reference.about(path)
  local text = abouts[path] or docs.of_module(path)
  return text and text:gsub("\n", " "):gsub("%s+", " ") or nil
end

--- The entries of a table of the library: its call, then its functions by name, those that are native last.
local function entries_of(path, place)
  local list, natives = { reference.of_call(path, place) }, {}
  for _, key in ipairs(topics.keys(place)) do
    local value = rawget(place, key)
    local entry = type(value) == "function" and reference.of_function(path .. "." .. key, value)
    if entry then table.insert(entry.native and natives or list, entry) end
  end
  return table.move(natives, 1, #natives, #list + 1, list)
end

--- Every table of the library with its entries: { { name =, doc =, entries = }, … }, `qlora` first.
function reference.tables()
  local library = topics.library()
  library.qlora = require "qlora"
  local list = {}
  for _, path in ipairs(strict.sorted_keys(library)) do
    if type(library[path]) == "table" then
      list[#list + 1] = { name = path, doc = reference.about(path), entries = entries_of(path, library[path]) }
    end
  end
  return list
end

--- A bound class: its declaration, the native methods and those that Lua added.
local function bound_class(declared)
  local entries = {}
  for _, method in ipairs(declared.methods) do
    entries[#entries + 1] = native_entry(method, declared.name .. ":" .. method.name)
  end
  for _, name in ipairs(strict.sorted_keys(topics.methods(declared.name))) do
    if not declarations.by_name[declared.name .. ":" .. name] then
      entries[#entries + 1] = lua_entry(declared.name .. ":" .. name, topics.methods(declared.name)[name],
        declared.name:lower())
    end
  end
  return { name = declared.name, doc = declared.doc, properties = declared.properties, entries = entries }
end

--- A class made in Lua: fields as declared, methods by their comments.
local function lua_class(name, about)
  local properties, entries = {}, {}
  for i, field in ipairs(about.fields or {}) do properties[i] = { name = field[1], type = field[2], doc = field[3] } end
  for _, key in ipairs(topics.keys(about.class)) do
    local f = about.class[key]
    if type(f) == "function" and not key:find "^__" then
      entries[#entries + 1] = lua_entry(name .. ":" .. key, f, about.receiver)
    end
  end
  return { name = name, doc = about.doc, properties = properties, entries = entries }
end

--- A class by name, nil when there is none: { name =, doc =, properties =, entries = }.
function reference.class(name)
  local declared, about = declarations.class(name), strict.classes[name]
  return declared and bound_class(declared) or about and lua_class(name, about) or nil
end

--- The classes by name, those a recipe meets first in front.
function reference.classes()
  local list, seen = {}, {}
  local function add(name)
    if not seen[name] then list[#list + 1], seen[name] = reference.class(name), true end
  end
  for _, name in ipairs { "Model", "Tokenizer", "Dataset", "Optimizer", "Training", "Run", "Selector", "Tensor" } do
    add(name)
  end
  for _, name in ipairs(strict.sorted_keys(strict.classes)) do add(name) end
  for _, class in ipairs(declarations.classes) do add(class.name) end
  return list
end

--- The native modules: { { doc =, entries = }, … }, every function under `qlora.native`.
function reference.natives()
  local list = {}
  for i, module in ipairs(declarations.modules) do
    local entries = {}
    for j, declared in ipairs(module.functions) do
      entries[j] = native_entry(declared, "qlora.native." .. declared.name)
    end
    list[i] = { doc = module.doc, entries = entries }
  end
  return list
end

--- Every entry of the reference, in order.
function reference.all()
  local list = {}
  for _, group in ipairs { reference.tables(), reference.classes(), reference.natives() } do
    for _, part in ipairs(group) do table.move(part.entries, 1, #part.entries, #list + 1, list) end
  end
  return list
end

--- "name(a, [b]) -> type".
function reference.signature(entry)
  local names = {}
  for i, parameter in ipairs(entry.parameters) do
    names[i] = parameter.optional and ("[%s]"):format(parameter.name) or parameter.name
  end
  return ("%s(%s)%s"):format(entry.name, table.concat(names, ", "),
    entry.returns ~= "" and " -> " .. entry.returns or "")
end

local words = { count = "integer of at least 1", positive = "number above 0", callable = "function" }

--- The type of a parameter or an option as people read it, with default, choices and range.
function reference.type_text(field)
  local text = (field.kinds or "any"):gsub("[^|]+", words)
  if field.choices then text = text .. ", one of " .. table.concat(field.choices, ", ") end
  local range = field.range or strict.range(field)
  if range then text = text .. ", " .. range end
  if field.initial then return text .. ", default " .. field.initial end
  return field.optional and text .. ", optional" or text
end

local function add_fields(lines, fields, indent)
  for _, field in ipairs(fields) do
    lines[#lines + 1] = ("%s%s: %s — %s"):format(indent, field.name, reference.type_text(field), field.doc or "")
    if field.fields then add_fields(lines, field.fields, indent .. "  ") end
  end
end

--- A sentence in lines of at most 100 columns, two blanks in front.
local function wrapped(text)
  local lines, line = {}, " "
  for word in text:gmatch "%S+" do
    if #line + #word > 99 then lines[#lines + 1], line = line, " " end
    line = line .. " " .. word
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\n")
end

--- The entry as help prints it.
function reference.text(entry)
  local lines = { reference.signature(entry), wrapped(entry.doc) }
  add_fields(lines, entry.parameters, "  ")
  if entry.returned ~= "" then lines[#lines + 1] = wrapped("returns: " .. entry.returned) end
  if entry.errors ~= "" then lines[#lines + 1] = wrapped("errors: " .. entry.errors) end
  if entry.example then lines[#lines + 1] = "  example: " .. entry.example:gsub("\n", "\n    ") end
  return table.concat(lines, "\n")
end

--- Names in examples.lua that no native function has, for the tests.
function reference.stray_examples()
  local known, stray = {}, {}
  for _, entry in ipairs(reference.all()) do
    if entry.native then known[entry.name:find ":" and entry.name or entry.native] = true end
  end
  for _, key in ipairs(strict.sorted_keys(examples)) do
    if not known[key] then stray[#stray + 1] = key end
  end
  return stray
end

return reference
