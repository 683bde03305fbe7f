--- Hostile calls: each picks a function, method, metamethod, property or operator of the live API and arguments that are
--- wrong in type, size, number or state, or nearly right as the declarations say.
local root, _, note = ...
local native = require "qlora.native"
local qlora = require "qlora"
local hostile = assert(loadfile(root .. "/Tests/LuaTests/hostile.lua", "t"))()

-- They end the program or delete what an argument names.
local skipped = { exit = true, remove_tree = true }
-- A call that loops in Lua is stopped after so many instructions.
local most_instructions = 20000000

local random = math.random
local function pick(list) return list[random(#list)] end

local integers = { 0, 1, 2, 3, 4, 7, 16, 63, 64, 65, 255, 256, 1 << 15, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 53, 1 << 62,
  math.maxinteger, math.maxinteger - 1, math.mininteger, -1, -2, -100, -2147483649 }
local numbers = { 0.0, -0.0, 0.5, 1.0, 1e-8, 2.0, -1.5, 1e300, -1e300, 5e-324, 2^31, 2^53, 2^63, 1/0, -1/0, 0/0 }
local texts = { "", "x", "a b", "q_proj", "model.layers.0.mlp.up_proj", "nf4", "fp4", "int4", "f32", "bf16", "i64", "cpu",
  "64MiB", "-1", "1e400B", ".", "a/b", "file.safetensors", "file.jsonl", "file.json", "(a+)+$", "[", "\\", "%", "%d",
  "SELECT 1", "SELECT ?", "\0", "\255\254", "e\204\129", ("x"):rep(300), ("a"):rep(5000), "\27[31m" }
local objects = {}
for class in pairs(hostile.makers) do objects[#objects + 1] = class end
table.sort(objects)

-- Objects that calls have returned, by class: a batch with an extreme number meets a model only when it is kept. The
-- first model has adapters with dropout, whose masks depend on numbers of batch and step.
local returned = {}
for _, class in ipairs(objects) do returned[class] = {} end
returned.Model[1] = hostile.makers.Model()
returned.Model[1]:add_lora { select = { "q_proj", "up_proj" }, rank = 2, alpha = 4, dropout = 0.1, quiet = true }

local function keep(...)
  for i = 1, select("#", ...) do
    local object = select(i, ...)
    local list = type(object) == "userdata" and returned[(debug.getmetatable(object) or {}).__name]
    if list then
      if #list >= 4 then list[random(#list)] = object else list[#list + 1] = object end
    end
  end
end

local function object_of(class)
  local list = returned[class]
  return #list > 0 and random(2) == 1 and pick(list) or hostile.makers[class]()
end

local value

--- A list of anything, or of one kind: token ids, extents, tensors, texts.
local function list(depth)
  local kind, items = random(6), {}
  for i = 1, random(0, kind == 1 and 20 or 4) do
    if kind == 1 then items[i] = random(0, 63)
    elseif kind == 2 then items[i] = random(0, 5)
    elseif kind == 3 then items[i] = random(3) == 1 and 0 or pick(integers)
    elseif kind == 4 then items[i] = object_of "Tensor"
    elseif kind == 5 then items[i] = pick(texts)
    else items[i] = value(depth + 1) end
  end
  return items
end

--- Any value, half of them from the sweep's own list.
function value(depth)
  local kind = random(12)
  if kind <= 5 then return pick(hostile.values)() end
  if kind == 6 then return pick(integers) end
  if kind == 7 then return pick(numbers) end
  if kind == 8 then return pick(texts) end
  if kind == 9 then return object_of(pick(objects)) end
  if kind == 10 then return function(...) return ... end end
  if depth > 2 then return {} end
  if kind == 11 then return list(depth) end
  return { [pick(texts)] = value(depth + 1), [random(3)] = value(depth + 1) }
end

local function fields_of(parameter, fitting)
  local made = {}
  for _, field in ipairs(parameter.fields) do
    if not field.optional and random(8) > 1 or random(3) == 1 then made[field.name] = fitting(field) end
  end
  if random(20) == 1 then made[pick(texts)] = value(1) end
  return made
end

--- A value that the declaration of a parameter allows, or nearly.
local function fitting(parameter)
  if random(6) == 1 then return value(0) end
  if parameter.fields then
    if not parameter.is_list then return fields_of(parameter, fitting) end
    local rows = {}
    for i = 1, random(3) do rows[i] = fields_of(parameter, fitting) end
    return rows
  end
  if parameter.choices and random(3) > 1 then return pick(parameter.choices) end
  local kinds = {}
  for kind in parameter.kinds:gmatch "[^|]+" do kinds[#kinds + 1] = kind end
  local kind = pick(kinds)
  local border = random(2) == 1 and parameter.at_least or parameter.at_most
  if border and random(3) == 1 then return border + random(-1, 1) end
  if kind == "integer" or kind == "count" then return random(2) == 1 and random(-1, 8) or pick(integers) end
  if kind == "number" or kind == "positive" then return random(2) == 1 and pick(numbers) or pick(integers) end
  if kind == "string" then return pick(texts) end
  if kind == "boolean" then return random(2) == 1 end
  if kind == "function" then return pick { print, function() return value(1) end, function() error "boom" end, error } end
  if kind == "table" then return list(0) end
  if hostile.makers[kind] then return object_of(kind) end
  return value(0)
end

local function arguments(parameters)
  local made = { n = math.max(0, #parameters + pick { 0, 0, 0, 0, 1, -1, random(0, 4) }) }
  for i = 1, made.n do
    local parameter = parameters[i]
    if parameter and random(8) > 1 then made[i] = fitting(parameter) else made[i] = value(0) end
  end
  return made
end

-- What can be called: { name =, parameters =, class = of the receiver, call = function(receiver, …) }.
local targets = {}
local function add(name, parameters, class, call)
  targets[#targets + 1] = { name = name, parameters = parameters, class = class, call = call }
end

local declarations = native.declarations()
local declared = {}
for _, module in ipairs(declarations.modules) do
  for _, f in ipairs(module.functions) do declared[f.name] = f.parameters end
end

local function walk(prefix, t, seen)
  for _, key in ipairs(require("qlora.strict").sorted_keys(t)) do
    local f = rawget(t, key)
    if type(key) == "string" and not skipped[key] and not seen[f] then
      if type(f) == "function" then
        local parameters = declared[(prefix .. key):gsub("^native%.", "")]
        add(prefix .. key, parameters or { { kinds = "any" }, { kinds = "any" } }, nil, f)
      elseif type(f) == "table" and key ~= "options" and key ~= "native" then
        seen[f] = true
        walk(prefix .. key .. ".", f, seen)
      end
    end
  end
end
walk("native.", native, {})
walk("qlora.", qlora, { [native] = true })

local metatables = hostile.metatables()
for _, class in ipairs(declarations.classes) do
  local metatable, of = metatables[class.name], {}
  assert(metatable, "no metatable of " .. class.name)
  for _, method in ipairs(class.methods) do of[method.name] = method.parameters end
  for _, name in ipairs(require("qlora.strict").sorted_keys(metatable.methods)) do
    add(class.name .. ":" .. name, of[name] or { { kinds = "any" }, { kinds = "any" } }, class.name,
      metatable.methods[name])
  end
  for _, name in ipairs(require("qlora.strict").sorted_keys(metatable)) do
    if type(metatable[name]) == "function" then
      add(class.name .. "." .. name, { { kinds = "any" } }, class.name, metatable[name])
      add(class.name .. "." .. name .. " of anything", { { kinds = "any" }, { kinds = "any" } }, nil, metatable[name])
    end
  end
  for _, property in ipairs(class.properties) do
    add(class.name .. "." .. property.name, {}, class.name, function(object) return object[property.name] end)
    add(class.name .. "." .. property.name .. " =", { { kinds = "any" } }, class.name,
      function(object, new) object[property.name] = new end)
  end
  add(class.name .. "[]", { { kinds = "any" } }, class.name, function(object, key) return object[key] end)
  add(class.name .. "[] =", { { kinds = "any" }, { kinds = "any" } }, class.name,
    function(object, key, new) object[key] = new end)
  for _, name in ipairs(require("qlora.strict").sorted_keys(hostile.operators)) do
    local operator = hostile.operators[name]
    add(class.name .. " " .. name, { { kinds = "any" } }, class.name, operator)
    add(name .. " " .. class.name, { { kinds = "any" } }, class.name, function(object, other)
      return operator(other, object)
    end)
  end
  add("-" .. class.name, {}, class.name, function(object) return -object end)
  add("#" .. class.name, {}, class.name, function(object) return #object end)
  add("tostring " .. class.name, {}, class.name, tostring)
end

local function show(v, depth)
  if type(v) == "string" then return #v > 40 and ("%q…"):format(v:sub(1, 40)) or ("%q"):format(v) end
  if type(v) ~= "table" then return type(v) == "userdata" and "<" .. (debug.getmetatable(v).__name or "object") .. ">"
    or type(v) == "function" and "<function>" or tostring(v) end
  if depth > 2 then return "{…}" end
  local parts = {}
  for key, item in next, v do parts[#parts + 1] = ("[%s] = %s"):format(show(key, 3), show(item, depth + 1)) end
  return "{ " .. table.concat(parts, ", ") .. " }"
end

local function describe(target, receiver, made)
  local parts = {}
  for i = 1, made.n do parts[i] = show(made[i], 0) end
  return ("%s(%s)%s"):format(target.name, table.concat(parts, ", "), receiver == nil and "" or " of " .. show(receiver, 0))
end

--- An object of a class: a new one where the call ends it, and sometimes one that was freed.
local function receiver_of(target)
  if hostile.ends[target.name:match "[^:.]+$"] then return hostile.makers[target.class]() end
  if random(60) > 1 then return object_of(target.class) end
  local object = hostile.makers[target.class]()
  object:free()
  return object
end

return {
  read = function(_, choice)
    math.randomseed(choice)
    local target = pick(targets)
    local receiver = target.class and receiver_of(target)
    local made = arguments(target.parameters)
    note(describe(target, receiver, made))
    debug.sethook(function() error("stopped after too many instructions", 2) end, "", most_instructions)
    local result = target.class and table.pack(pcall(target.call, receiver, table.unpack(made, 1, made.n)))
      or table.pack(pcall(target.call, table.unpack(made, 1, made.n)))
    debug.sethook()
    if random(500) == 1 then collectgarbage() end
    if not result[1] then error(result[2], 0) end
    keep(table.unpack(result, 2, result.n))
  end,
}
