local t = require "harness"
local lockstep = require "qlora.lockstep"

--- A base whose passes count.
local function shared()
  local model = { passes = {}, present = 0 }
  function model:enter_variant(number) self.present = number end
  function model:drop_variant() end
  function model:leave_variants() self.present = 0 end
  function model:trainable() return { self } end
  local function result(self, numbers)
    self.passes[#self.passes + 1] = table.concat(numbers, " ")
    return {
      backward = function() end, item = function() return 0.5 end,
      sum = function(one) return one end,
      totable = function()
        local values = {}
        for i in ipairs(numbers) do values[i] = 0.5 end
        return values
      end,
    }
  end
  function model:loss() return result(self, { self.present }) end
  function model:losses(parts)
    local numbers = {}
    for i, part in ipairs(parts) do numbers[i] = part.variant end
    return result(self, numbers)
  end
  return model
end

--- Runs variants of so many passes each; the errors by number, false for none.
local function run(model, counts)
  local bodies, ends = {}, {}
  for i, count in ipairs(counts) do
    bodies[i] = function() for _ = 1, count do lockstep.loss(model, {}) end end
  end
  lockstep.run(model, bodies, function(number, ok, answer) ends[number] = not ok and answer end)
  return ends
end

t.test("variants of different lengths share the passes that they have in common", function()
  local model = shared()
  t.equal(run(model, { 1, 3, 2 }), { false, false, false })
  t.equal(model.passes, { "1 2 3", "2 3", "2" })
end)

t.test("a variant in which nothing is trained any more ends with an error, and the others go on", function()
  local model = shared()
  function model:trainable() return self.present == 2 and #self.passes > 0 and {} or { self } end
  local ends = run(model, { 2, 2, 2 })
  t.equal({ ends[1], ends[3], model.passes }, { false, false, { "1 2 3", "1 3" } })
  t.equal(ends[2]:find("nothing is trained any more", 1, true) ~= nil, true)
end)
