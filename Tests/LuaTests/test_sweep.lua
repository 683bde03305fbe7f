local t = require "harness"
local native = require "qlora.native"
local qlora = require "qlora"

--- A sweep that counts the bases it loads and what its variants found attached.
local function sweep(options, base_reads_quant)
  local loads, found, quiet = 0, {}, {}
  function options.base(v)
    loads = loads + 1
    local model = native.mock_model()
    model.made_for = base_reads_quant and v.quant
    return model
  end
  local run = options.run
  options.run = function(v, model)
    found[#found + 1], quiet[#quiet + 1] = #model.attached, native.options.quiet
    model:add_lora { select = "all-linear", rank = v.rank or 1 }
    return run and run(v, model) or { loss = 1.0 / (v.rank or 1) }
  end
  local rows
  local text = t.captured(function() rows = qlora.sweep(options) end)
  return { rows = rows, loads = loads, found = found, quiet = quiet, text = text }
end

t.test("what a sweep is to show must be a setting or a measure", function()
  t.raises(function() sweep { variants = { rank = { 1, 2 } }, lowest = "los" } end, 'lowest names "los"', "it has", "loss")
  t.raises(function() sweep { variants = { rank = { 1, 2 } }, columns = { "rnk" } } end, 'columns names "rnk"', "rank")
end)

t.test("a sweep loads one base and takes the adapters of each variant off again", function()
  local s = sweep { variants = { { rank = 1 }, { rank = 4 }, { rank = 2 } } }
  t.equal({ s.loads, s.found, #s.rows }, { 1, { 0, 0, 0 }, 3 })
  t.equal({ s.rows[2].rank, s.rows[2].loss }, { 4, 0.25 })
end)

t.test("a base is loaded again when a setting that it read changes", function()
  local s = sweep({ variants = { { quant = false }, { quant = false, rank = 2 }, { quant = "nf4" }, { rank = 3 } } },
    true)
  t.equal({ s.loads, s.found }, { 3, { 0, 0, 0, 0 } })
end)

t.test("lists of values give every combination", function()
  local s = sweep({ variants = { rank = { 1, 2 }, quant = { "nf4", "fp4", "int4" } } }, true)
  local pairs_ = {}
  for i, row in ipairs(s.rows) do pairs_[i] = row.quant .. row.rank end
  t.equal(pairs_, { "nf41", "nf42", "fp41", "fp42", "int41", "int42" })
  t.equal(s.loads, 3)
end)

t.test("the table is aligned and marks the lowest", function()
  native.options.quiet = nil
  local s = sweep { variants = { { rank = 1, name = "a" }, { rank = 16, name = "long name" } }, lowest = "loss",
    columns = { "name", "rank", "loss" } }
  t.equal({ native.options.quiet, s.quiet }, { nil, { true, true } })
  native.options.quiet = true
  t.equal(tostring(s.rows), "  name       rank    loss\n  a             1       1\n"
    .. "  long name    16  0.0625  <- lowest loss")
  assert(s.text:find("variant 2 of 2 done", 1, true), s.text)
end)

t.test("rows go to sweep.jsonl one by one, the table to sweep.txt", function()
  local dir = os.tmpname()
  os.remove(dir)
  local rows_before_second
  local s = sweep { variants = { { rank = 1, pick = qlora.select.mlp() }, { rank = 2 } }, dir = dir, run = function(v)
    if v.rank == 2 then
      local file = io.open(dir .. "/sweep.jsonl")
      rows_before_second = file:read("a")
      file:close()
    end
    return { loss = v.rank }
  end }
  assert(rows_before_second:find('^{"loss":1,"pick":"mlp","rank":1,"seconds":[%d.]+}\n$'), rows_before_second)
  t.equal(io.open(dir .. "/sweep.txt"):read("a"), tostring(s.rows) .. "\n")
  os.execute("rm -r " .. dir)
end)

t.test("slips of a sweep are errors", function()
  local function fails(options, ...) t.raises(function() sweep(options) end, ...) end
  fails({ variants = {} }, "there are no variants")
  fails({ variants = { 4, 8 } }, "variant 1 must be a table of settings, got 4")
  fails({ variants = { rank = 4 } }, "variants.rank must be a list of values, got 4")
  fails({ variants = { { rank = 1 } }, run = function(v) return { loss = v.rnak } end }, "no variant has 'rnak'")
  fails({ variants = { { rank = 1 } }, run = function() return 1.0 end }, "run must return a table of measures")
  fails({ variants = { { rank = 1 } }, run = function() return { rank = 2 } end }, "'rank', which is a setting")
  fails({ variants = { { rank = 1 } }, run = function() error "boom" end }, "boom")
  t.raises(function() qlora.sweep { variants = { { a = 1 } } } end, "'base' is missing", "qlora.load")
  t.equal(native.options.quiet, true) -- restored after an error
end)

t.test("ranks by score keep their mean, their limits and one scaling", function()
  local model, scores = native.mock_model { layers = 2 }, {}
  for module in model:modules() do
    if module.role == "q_proj" then scores[module.name] = module.layer == 0 and 1.0 or 3.0 end
  end
  local report = model:add_lora { select = qlora.select.by_score(scores, { rank = 8 }) }
  t.equal({ report.list[1].rank, report.list[2].rank, report.list[2].alpha, #report.list }, { 4, 12, 24.0, 2 })
  report = model:add_lora { select = qlora.select.by_score(scores, { rank = 8, min = 6, max = 10, scaling = 1 }) }
  t.equal({ report.list[1].rank, report.list[2].rank, report.list[2].alpha }, { 6, 10, 10 })
  t.raises(function() qlora.select.by_score({ a = 0 / 0 }, { rank = 8 }) end, "score of a is")
  t.raises(function() qlora.select.by_score({ a = 0, b = 0 }, { rank = 8 }) end, "all 2 scores are 0")
  t.raises(function() qlora.select.by_score(scores, {}) end, "'rank' is missing", "mean rank")
end)
