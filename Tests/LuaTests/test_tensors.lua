--- Needs the engine: see run_engine.lua.
local t = require "harness"
local qlora = require "qlora"

local function trained(values)
  local x = qlora.tensor(values)
  x.requires_grad = true
  return x
end

t.test("topk passes gradients to the chosen places, and NaN is largest", function()
  local x = trained { { 3, 1, 2 }, { 0, 5, 4 } }
  local values, places = x:topk(2)
  t.equal({ values:totable(), places:totable() }, { { { 3.0, 2.0 }, { 5.0, 4.0 } }, { { 1, 3 }, { 2, 3 } } })
  values:backward(qlora.tensor { { 10, 20 }, { 30, 40 } })
  t.equal(x.grad:totable(), { { 10.0, 0.0, 20.0 }, { 0.0, 30.0, 40.0 } })
  local _, first = qlora.tensor({ 7, 0 / 0, math.huge }):topk(3)
  t.equal(first:totable(), { 2, 3, 1 })
end)

t.test("a number has no dimensions, and neither has what is computed of it", function()
  local x = trained { 3, 1 }
  local y = -x[1] * 2 + x[2] ^ 2 - 1
  t.equal({ y:item(), y:shape() }, { -6.0, {} })
  y:backward()
  t.equal(x.grad:totable(), { -2.0, 2.0 })
  local z = qlora.tensor { 3, 1 }
  z[1]:add_(2)
  t.equal({ z:totable(), (1 - z):shape(), z[1]:gelu("none"):shape() }, { { 5.0, 1.0 }, { 2 }, {} })
end)

t.test("integers are reduced exactly", function()
  local x = qlora.tensor({ 16777216, 16777217, 1 }, { dtype = "i64" })
  t.equal({ x:max():item(), x:min():item(), x:sum():item(), x:argmax():item() }, { 16777217, 1, 33554434, 2 })
  t.equal(x:narrow(1, 3, 1):mean():item(), 1.0)
end)

t.test("a list of numbers has no named keys and no holes", function()
  t.raises(function() qlora.tensor { 1, 2, x = 3 } end, "no keys but 1 to 2")
  t.raises(function() qlora.tensor { { 1, dtype = "i64" }, { 2 } } end, "no keys but 1 to 1")
  t.raises(function() qlora.tensor { [1] = 1, [3] = 3 } end, "tensor: ")
  t.raises(function() qlora.tensor { 1, nil, 3 } end, "tensor: ")
  t.equal(qlora.tensor({}):shape(), { 0 })
end)

t.test("backward refuses what a change in place has overwritten", function()
  local changes = {
    function(x) x:mul_(10) end, function(x) x:fill_(0) end, function(x) x:copy_(qlora.ones(3)) end,
    function(x) x[2] = 5 end, function(x) x:detach():add_(1) end, function(x) x:detach():view(3, 1)[1]:sub_(1) end,
    function(x)
      x:sum():backward()
      qlora.optim.sgd({ x }, { lr = 0.1 }):step()
    end,
  }
  for _, change in ipairs(changes) do
    local x = trained { 1, 2, 3 }
    local loss = (x * x):sum()
    change(x)
    t.raises(function() loss:backward() end, "the gradient of multiply is computed from was changed in place",
      "use the form without _")
    local again = (x * x):sum()
    x.grad = nil
    again:backward()
    t.equal(x.grad:totable(), (x:detach() * 2):totable())
  end
  local x = trained { 1, 2, 3 }
  local loss = (x + 1):sum()
  x:mul_(10)
  loss:backward()
  t.equal(x.grad:totable(), { 1.0, 1.0, 1.0 })
end)

local function tiny() return qlora.load(qlora.resource "models/tiny", { compute = "f32" }) end

t.test("an adapter with elements that are no numbers is not saved", function()
  local model, dir = tiny(), os.tmpname() .. ".d"
  model:add_lora { select = "all-linear", rank = 2, quiet = true }
  local b = model:trainable()[2]
  b:fill_(0 / 0)
  for _, place in ipairs { dir, dir .. ".gguf" } do
    t.raises(function() model:save_adapter(place) end, "elements that are no finite numbers, so it is not saved")
    t.equal(qlora.native.exists(place), false)
  end
  b:fill_(0)
  model:save_adapter(dir)
  qlora.native.remove_tree(dir)
end)

t.test("a label outside the vocabulary is named, whether or not others are trained", function()
  local model = tiny()
  for _, labels in ipairs { { -100, -100, -1 }, { -100, 6, -1 } } do
    local batch = qlora.native.batch { { ids = { 5, 6, 7 }, labels = labels } }
    t.raises(function() model:loss(batch) end, "token id -1")
  end
end)
