--- The text of functions of a recipe with all that they use: what an adapter in Lua is saved as.
local t = require "harness"
local qlora = require "qlora"
local source = require "qlora.scripted_source"

local function constant() return {} end

--- The chunk of a definition whose forward is `f`, and what running it gives.
local function chunk(f)
  local text = source.of("test", { parameters = constant, forward = f })
  return text, assert(load(text, "=saved", "t"))()
end

t.test("a function comes back with the values that it uses", function()
  local number, text, flag, nothing = 0.1, 'two "words"\nand a line', true, nil
  local list = { 1, 2, { deep = "x" } }
  local root = math.sqrt
  local function helper(x) return root(x) + number end
  local saved, definition = chunk(function(x)
    return helper(x), text, flag, nothing, list[3].deep, qlora.format ~= nil
  end)
  t.equal(table.pack(definition.forward(4)), table.pack(2.1, text, true, nil, "x", true))
  assert(saved:find('local root = (require "math").sqrt', 1, true), saved)
  assert(saved:find('local qlora = require "qlora"', 1, true), saved)
  -- What was saved is saved as itself.
  t.equal(source.of("test", assert(load(saved, saved, "t"))()), saved)
end)

t.test("functions are found among others of their lines", function()
  local _, first = chunk(function(x) return (function(y) return y + 1 end)(x) end)
  t.equal(first.forward(1), 2)
  local pair = { other = function() return "end" end, mine = function(x, y) return x * y end }
  local _, second = chunk(pair.mine)
  t.equal(second.forward(2, 3), 6)
  local library = {}
  function library.forward(x, _, p) -- function (…) in a comment ends nothing
    if p then return "function" end
    return x
  end
  local _, third = chunk(library.forward)
  t.equal(third.forward(7), 7)
  local _, fourth = chunk(load "return function(x) return x - 1 end"())
  t.equal(fourth.forward(1), 0)
end)

t.test("other values make another text", function()
  local function scaled(scale) return function(x) return x * scale end end
  assert(chunk(scaled(1)) ~= chunk(scaled(2)))
  t.equal((chunk(scaled(1))), (chunk(scaled(1))))
end)

t.test("what cannot be saved is named", function()
  local function refused(f, words)
    local ok, why = pcall(chunk, f)
    assert(not ok and why:find(words, 1, true), tostring(why))
  end
  local tensor, object = qlora.ones(2), setmetatable({}, {})
  local recursive
  recursive = function(x) return recursive(x) end
  local pair = { function(x) return x + x end, function(x) return x * x end }
  local class = {}
  function class:forward(x) return self, x end
  refused(function() return tensor end, "forward uses the local variable tensor, a Tensor")
  refused(function() return object end, "local variable object")
  refused(recursive, "calls itself")
  refused(pair[1], "lines of its own")
  refused(class.forward, "without a colon")
  refused(load("return function() end", "=typed")(), "not read from a file")
  refused(math.sin, "native function")
  local inner
  do
    local value = 1
    inner = function() return value end
  end
  local value = 2
  refused(function() return value + inner() end, "another of that name")
end)
