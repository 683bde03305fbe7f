--- The reference against the code: every public name is described, every example runs, the generated files are those
--- that `make reference` writes. Each failure says which name lacks what.
local t = require "harness"
local native = require "qlora.native"
local qlora = require "qlora"
local declarations = require "qlora.declarations"
local generated = require "qlora.reference.generated"
local reference = require "qlora.reference"

--- Two words at least, so that "how" and "where" do not count as a description.
local function described(text) return type(text) == "string" and text:find "%S%s+%S" ~= nil end

local function check_fields(missing, place, fields)
  for _, field in ipairs(fields) do
    local name = ("%s: %s"):format(place, field.name)
    if not described(field.doc) then missing[#missing + 1] = name .. " has no description of two words or more" end
    if not field.kinds then missing[#missing + 1] = name .. " has no type (@param)" end
    check_fields(missing, name, field.fields or {})
  end
end

t.test("every public name has a sentence, types and an example", function()
  local missing, count = {}, 0
  for _, entry in ipairs(reference.all()) do
    count = count + 1
    if not described(entry.doc) then missing[#missing + 1] = entry.name .. " has no sentence" end
    if not entry.example then missing[#missing + 1] = entry.name .. " has no example" end
    check_fields(missing, entry.name, entry.parameters)
  end
  for _, class in ipairs(reference.classes()) do
    if not described(class.doc) then missing[#missing + 1] = class.name .. " has no sentence" end
    for _, property in ipairs(class.properties) do
      if not described(property.doc) then
        missing[#missing + 1] = ("%s.%s has no description of two words or more"):format(class.name, property.name)
      end
    end
  end
  for _, part in ipairs(reference.tables()) do
    if not described(part.doc) then missing[#missing + 1] = part.name .. " has no text about it" end
  end
  t.equal(missing, {}, "what lacks in the reference")
  t.equal(count > 250, true, "entries found")
end)

t.test("no tag, declaration or example is about a name that is not there", function()
  local stray = {}
  for _, entry in ipairs(reference.all()) do
    local known = {}
    for _, parameter in ipairs(entry.parameters) do known[parameter.name] = true end
    for name in pairs(entry.comment and entry.comment.params or {}) do
      if not known[name] then stray[#stray + 1] = ("%s: @param %s"):format(entry.name, name) end
    end
  end
  for _, key in ipairs(reference.stray_examples()) do stray[#stray + 1] = "reference/examples.lua: " .. key end
  t.equal(stray, {}, "what describes nothing")
end)

-- Before the examples run, some of which add to classes.
t.test("reference and annotations are up to date", function()
  for path, text in pairs(generated()) do
    local file = assert(io.open(native.resource(path), "rb"))
    local stored = file:read "a"
    file:close()
    t.equal(stored == text, true, path .. " is not what `make reference` writes")
  end
end)

-- Examples ------------------------------------------------------------------------------------------------------------

local facts = {}
for i = 1, 10 do
  facts[i] = ('{"input":"Question %d: who makes bread?","output":" The baker makes bread."}\n'):format(i)
end

--- Names that an example may use, made when it asks for them.
local makers = {
  model = function()
    local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4", quiet = true })
    model:add_lora { select = { "q_proj", "v_proj" }, rank = 2, quiet = true }
    return model
  end,
  data = function(env) return qlora.data.load("facts.jsonl", { tokenizer = env.model.tokenizer, quiet = true }) end,
  optimizer = function(env) return qlora.optim.adamw(env.model:trainable(), { lr = 1e-3 }) end,
}

local function environment()
  return setmetatable({ qlora = qlora }, { __index = function(env, key)
    local value = makers[key] and makers[key](env)
    if value == nil then return _G[key] end
    rawset(env, key, value)
    return value
  end })
end

--- Runs one example in the working directory, emptied before it; what it prints is dropped.
local function run(example)
  for _, name in ipairs(native.list_dir ".") do native.remove_tree(name) end
  native.write_file("facts.jsonl", table.concat(facts))
  local env = environment()
  env.print = function(...) for _, value in ipairs { ... } do assert(tostring(value)) end end
  -- Named by its text, so that functions in it have one.
  local code = load("return " .. example, "=example", "t", env) or assert(load(example, example, "t", env))
  t.captured(code)
end

t.test("every example runs", function()
  if #native.list_dir "." > 0 then error "start the tests in an empty folder: the examples write and delete there" end
  local failed, seen, spill = {}, {}, native.spill_directory()
  for _, entry in ipairs(reference.all()) do
    if entry.example and not seen[entry.example] then
      seen[entry.example] = true
      local ok, message = pcall(run, entry.example)
      if not ok then failed[#failed + 1] = ("%s: %s"):format(entry.name, tostring(message)) end
    end
  end
  native.spill_directory(spill)
  t.equal(failed, {}, "examples that fail")
end)

-- The mock -----------------------------------------------------------------------------------------------------------

t.test("the mock declares what the engine declares", function()
  local mock, wrong = dofile(t.directory .. "/mock_native.lua"), {}
  local function compare(name, declared)
    local real = {}
    for _, field in ipairs(declarations.by_name[name] and declarations.fields(name) or {}) do
      real[field.name] = field.kinds
    end
    for _, parameter in ipairs(declared.parameters) do
      for _, field in ipairs(parameter.fields or {}) do
        if real[field.name] ~= field.kinds then
          wrong[#wrong + 1] = ("%s: %s is a %s in the mock, %s in the engine"):format(name, field.name, field.kinds,
            tostring(real[field.name]))
        end
      end
    end
  end
  local list = mock.declarations()
  for _, declared in ipairs(list.modules[1].functions) do compare(declared.name, declared) end
  for _, class in ipairs(list.classes) do
    for _, method in ipairs(class.methods) do compare(class.name .. ":" .. method.name, method) end
  end
  t.equal(wrong, {}, "what differs")
end)
