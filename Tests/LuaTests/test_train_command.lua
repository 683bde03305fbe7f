local t = require "harness"
local native = require "qlora.native"

local root = os.tmpname()
os.remove(root)
native.mkdir(root)
local out = root .. "/tuned"
local run = "runs/" .. out:match "[^/]+$"
local command = require "qlora.commands.train"

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  return path
end

local function read(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

local one, two = write(root .. "/one.jsonl", "{}"), write(root .. "/two.jsonl", "{}")
local function make(data) return command.run { model = "tiny", data = data, out = out } end

--- What a recipe hands to qlora.load, or the error before that.
local function loaded(recipe, set)
  local given
  local stub = { params = function(p)
    for key, value in pairs(set) do p[key] = value end
    return p
  end, load = function(_, options)
    given = options
    error("enough", 0)
  end }
  local env = setmetatable({ require = function() return stub end }, { __index = _G })
  local ok, message = pcall(assert(load(read(recipe), "=recipe", "t", env)))
  return given, ok or message
end

t.test("the recipe of qlora-run train takes every form of the base", function()
  local recipe = make(one)
  t.equal(loaded(recipe, {}), { quant = "nf4", double_quant = true })
  for _, none in ipairs { "none", "false" } do t.equal(loaded(recipe, { quant = none }), { quant = false }) end
  t.equal(loaded(recipe, { quant = "keep" }), { quant = "keep" })
end)

t.test("the recipe of qlora-run train refuses no epochs at all", function()
  local recipe = make(one)
  for _, set in ipairs { { epochs = 0.0 }, { epochs = -1.0 }, { steps = -1 } } do
    local given, message = loaded(recipe, set)
    t.equal({ given, (tostring(message):match "more than 0") }, { nil, "more than 0" })
  end
  assert(loaded(recipe, { epochs = 0.0, steps = 3 }))
end)

t.test("the recipe of qlora-run train holds out a share or a number of samples, and nothing else", function()
  local recipe = make(one)
  for _, held_out in ipairs { -1, -0.05, 1.5, 20.25 } do
    local given, message = loaded(recipe, { held_out = held_out })
    t.equal({ given, (message:match "held_out.*") }, { nil, "held_out is a share below 1, or a whole number" })
  end
  for _, held_out in ipairs { 0.0, 0.05, 0.99, 1.0, 20.0 } do assert(loaded(recipe, { held_out = held_out })) end
end)

t.test("qlora-run train refuses an --out without a name before it writes", function()
  local function to(name) return command.run { model = "tiny", data = one, out = name } end
  for _, name in ipairs { "", "/", "//", ".", "..", "./", "../", root .. "/.", root .. "/..", root .. "/new/./" } do
    t.raises(function() to(name) end, "train: --out ", "names no folder of its own; give one such as out/finetune")
  end
  t.equal({ native.exists(root .. "/new"), native.exists "..lua", native.exists ".lua" }, { false, false, false })
  t.equal(to(root .. "/slashes//"), root .. "/slashes.lua")
  local text = read(root .. "/slashes.lua")
  assert(text:find('dir = "runs/" .. "slashes"', 1, true))
  -- Nor is a recipe of its own one whose `out` somebody has edited.
  for _, edited in ipairs { '""', '"/"', ("%q"):format(root .. "/slashes/") } do
    write(root .. "/slashes.lua", (text:gsub('out = "[^"]*"', "out = " .. edited)))
    t.raises(function() to(root .. "/slashes") end, "says something else")
  end
end)

t.test("a recipe that nothing was trained with is written anew for other data", function()
  make(one)
  t.equal(make(two), out .. ".lua")
  assert(read(out .. ".lua"):find(("data = %q"):format(two), 1, true))
  -- Not one that somebody edited.
  write(out .. ".lua", (read(out .. ".lua"):gsub("rank = 16", "rank = 8")))
  t.raises(function() make(one) end, "says something else")
  os.remove(out .. ".lua")
  -- Nor one whose run has come to a checkpoint, or whose adapter is there.
  make(one)
  native.mkdir(run .. "/checkpoint-000001")
  t.raises(function() make(two) end, "says something else")
  native.remove_tree(run)
  native.mkdir(run)
  make(two)
  native.mkdir(out)
  t.raises(function() make(one) end, "says something else")
  native.remove_tree(run)
end)
