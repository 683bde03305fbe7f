local t = require "harness"
local native = require "qlora.native"
local qlora = require "qlora"
local strict = require "qlora.strict"
local suggest = require "qlora.suggest"
local json = require "qlora.json"

t.test("suggest finds transpositions and shared beginnings", function()
  t.equal(suggest.nearest("bacth", { "match", "batch" }, 2), { "batch", "match" })
  t.equal({ suggest.meant { "rank", "alpha" }, suggest.meant "lr" }, { ' (did you mean "rank", "alpha"?)',
    ' (did you mean "lr"?)' })
  t.equal({ suggest.meant(nil), suggest.meant {} }, {})
  t.equal(suggest.nearest("learning_rat", { "lr", "learning_rate", "seed" }), { "learning_rate" })
  t.equal(suggest.nearest("zzzzzz", { "rank", "alpha" }), {})
end)

t.test("words of other programs are answered with what to write", function()
  t.raises(function() qlora.load("m", { load_in_4bit = true }) end, 'here it is called "quant": write quant = "nf4"')
  t.raises(function() qlora.train { learning_rate = 1 } end, "write lr = 2e-4 of the optimizer")
  t.raises(function() qlora.load("m", { trust_remote_code = true }) end, "leave it out: no code of a model")
  t.raises(function() return qlora.optim.paged_adamw_8bit end, "bits = 8, paged = true")
end)

t.test("unknown option names the nearest and the caller's line", function()
  local line = debug.getinfo(1, "l").currentline + 1
  local message = t.raises(function() qlora.data.load("x", { tokeniser = 1 })
    end, "unknown option 'tokeniser'", '"tokenizer"')
  t.equal(message:match("test_options.lua:(%d+):"), tostring(line))
end)

t.test("an option of another function is named with it", function()
  t.raises(function() qlora.load("m", { checkpointing = true }) end,
    "'checkpointing'; it is an option of model:plan, qlora.train; valid: ")
  t.raises(function() qlora.train { rank = 8 } end, "'rank'; it is an option of model:add_lora, model:add_vera, qlora.select.by_score; valid: ")
  t.raises(function() qlora.load("m", { lr = 1 }) end, "model:add_ia3, model:add_lora, model:add_vera, …;")
  t.raises(function() qlora.optim.sgd({ 1 }, { lr = 1, betas = {} }) end,
    "an option of qlora.optim.adamw, qlora.optim.lion; valid: ")
  t.raises(function() qlora.train { temperature = 1 } end, "an option of model:generate; valid: ")
  -- the same thing under another name here is nearer
  t.raises(function() qlora.load("m", { dtype = "f32" }) end, 'here it is called "compute"')
end)

t.test("option types are checked and worded", function()
  local schema = { rank = { "count", "the rank" }, lr = { "positive", "the rate", required = true },
    select = { "any", "a selection", required = true }, share = { "number", "a share", at_least = 0, below = 1 },
    way = { "string", "one of two", choices = { "up", "down" }, default = "up" } }
  t.raises(function() strict.options("f", { rank = 1.5, lr = 1, select = 1 }, schema)
    end, "'rank' must be a whole number of at least 1", "1.5")
  t.raises(function() strict.options("f", { rank = 0, lr = 1, select = 1 }, schema) end, "got 0")
  t.raises(function() strict.options("f", { rank = 4, select = 1 }, schema) end, "'lr' is missing")
  t.raises(function() strict.options("f", { lr = 0 / 0, select = 1 }, schema) end, "'lr' must be a number above 0")
  t.raises(function() strict.options("f", "x", schema) end, "expected a table of options")
  t.raises(function() strict.options("f", { lr = 1, select = 1, share = 1 }, schema)
    end, "'share' must be at least 0 and below 1, got 1")
  t.raises(function() strict.options("f", { lr = 1, select = 1, way = "doun" }, schema) end, 'did you mean "down"?')
  local o = strict.options("f", { rank = 4.0, lr = 1e-4, select = false }, schema)
  t.equal({ o.rank, o.way, o.select }, { 4.0, "up", false })
end)

t.test("misspelt library name is an error", function()
  t.raises(function() return qlora.shedule end, "qlora has no 'shedule'", '"schedule"')
  t.raises(function() qlora.load("m", { quant = "nf5" }) end, 'no choice "nf5"', "nf4")
  t.raises(function() qlora.load("m", { double_quant = true }) end, "quant")
  t.raises(function() qlora.optim.adamw({}, { lr = 1 }) end, "nothing to train")
  t.raises(function() qlora.optim.adamw({ 1 }, { lr = 1, budget = "1MiB" }) end, "set paged = true too")
  t.raises(function() qlora.optim.lion({ 1 }, { lr = 1, eps = 1e-8 }) end, "unknown option 'eps'; it is an option of qlora.optim.adamw")
end)

t.test("params take --set with the default's type", function()
  native.options.set = { rank = "8", lr = "3e-4", dropout = "0", name = "12", paged = "off", only = "1,2" }
  local p = qlora.params { rank = 64, lr = 1e-4, dropout = 0.05, name = "x", paged = true, only = { 0 }, left = 5 }
  native.options.set = nil
  t.equal({ p.rank, p.lr, p.dropout, p.name, p.paged, p.only, p.left }, { 8, 3e-4, 0.0, "12", false, { 1, 2 }, 5 })
  t.equal(math.type(p.dropout), "float")
  t.raises(function() return p.rnak end, "no parameter 'rnak'", '"rank"')
  t.raises(function() p.rnak = 1 end, "no parameter 'rnak'")
end)

t.test("params refuse unknown names and wrong values of --set", function()
  for text, parts in pairs { stesp = { "--set stesp", '"steps"' } } do
    native.options.set = { [text] = "1" }
    t.raises(function() qlora.params { steps = 10 } end, table.unpack(parts))
  end
  native.options.set = { steps = "1.5" }
  t.raises(function() qlora.params { steps = 10 } end, "whole number")
  native.options.set = { steps = "many" }
  t.raises(function() qlora.params { steps = 10 } end, "expected a number")
  native.options.set = nil
end)

t.test("an override that nothing reads is an error at the end", function()
  local params = require "qlora.params"
  native.options.set = { rank = "8", steps = "3" }
  local p = qlora.params { rank = 64, steps = 10 }
  t.raises(params.check_overrides, "test_options.lua:", "--set rank changed nothing", "never reads p.rank")
  t.equal(p.rank, 8)
  t.raises(params.check_overrides, "--set steps changed nothing")
  t.equal(p.steps, 3)
  params.check_overrides()
  qlora.params { rank = 64, steps = 10 }
  native.options.plan = true -- what comes after the first step is not run
  local stderr, said = io.stderr, ""
  rawset(io, "stderr", { write = function(_, text) said = said .. text end })
  local ok, message = pcall(params.check_overrides)
  rawset(io, "stderr", stderr)
  native.options.plan = nil
  assert(ok, message)
  assert(said:find "read p.rank, so %-%-set rank" and said:find "read p.steps, so %-%-set steps", said)
  p = qlora.params { rank = 64, steps = 10 }
  local count = 0
  for _ in pairs(p) do count = count + 1 end -- going through all of them reads all of them
  t.equal(count, 2)
  params.check_overrides()
  native.options.set = nil
end)

t.test("words of other programs lead to the word here", function()
  t.raises(function() native.mock_model():add_lora { target_modules = {} } end, 'here it is called "select"')
  t.raises(function() qlora.load("m", { load_in_4bit = true }) end, 'here it is called "quant"')
  t.raises(function() qlora.train { learning_rate = 1 } end, "unknown option 'learning_rate'")
  t.raises(function() qlora.data.load("x", { "alpaca" }) end, '"alpaca" stands in the options without a name')
  t.raises(function() return qlora.select.atention end, "qlora.select has no 'atention'", '"attention"')
  t.raises(function() return qlora.optim.adam end, '"adamw"')
end)

t.test("schedules", function()
  local s = qlora.schedule
  t.equal(s.constant()(77), 1.0)
  t.close(s.linear(10)(1), 1.0, 0); t.close(s.linear(10)(6), 0.5, 1e-15); t.close(s.linear(10)(99), 0.0, 0)
  t.close(s.cosine(10)(6), 0.5, 1e-15); t.close(s.cosine(10, { floor = 0.1 })(11), 0.1, 1e-15)
  local w = s.warmup(4, s.linear(10))
  t.equal({ w(1), w(4), w(5) }, { 0.25, 1.0, 1.0 })
  t.raises(function() s.cosine(0) end, "whole number of at least 1")
end)

t.test("json is sorted, escaped and reads back", function()
  t.equal(json.encode { b = 1, a = { 0.1, true, "x\n\"\1" }, c = {} }, '{"a":[0.1,true,"x\\n\\"\\u0001"],"b":1,"c":[]}')
  t.equal(json.encode(0 / 0), "null")
  t.equal(tonumber(json.encode(1 / 3)), 1 / 3)
  local loop = {}
  loop.x = loop
  t.raises(function() json.encode(loop) end, "contains itself")
end)

t.test("json refuses what no double and no stack holds", function()
  for _, text in ipairs { "1e999", "-1e999", "[1, 1e400]", ("9"):rep(400) } do
    t.raises(function() json.decode(text) end, "a number that a double holds")
  end
  t.equal({ json.decode "1e308", json.decode "1e-999", json.decode "9223372036854775808" }, { 1e308, 0.0, 2.0 ^ 63 })
  local function nested(count) return ("["):rep(count) .. ("]"):rep(count) end
  t.equal(type(json.decode(nested(513))), "table")
  t.raises(function() json.decode(nested(514)) end, "at most 512 levels")
  t.raises(function() json.decode(("["):rep(1000000)) end, "at most 512 levels")
  t.equal({ json.decode "\u{FEFF}[1]", json.decode "[1, null]" }, { { 1 }, { 1 } })
end)
