--- What a person sees of a run: its report on a narrow screen, what it says of the run's settings, numbers as text.
local t = require "harness"
local native = require "qlora.native"
local qlora = require "qlora"
local charts = require "qlora.report_charts"
local format = require "qlora.format"
local json = require "qlora.json"

local root = os.tmpname()
os.remove(root)
native.mkdir(root)

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read("a")
end

--- A short run of the mock with adapters and held-out data; returns its settings and its report.
local function train(name)
  local model, list = native.mock_model(), {}
  for i = 1, 13 do list[i] = { text = ("abcdefghijklm"):sub(1, i) } end
  local data = qlora.data.load(list, { format = "completion", tokenizer = model.tokenizer, max_length = 9 })
  local training, held_out = data:split(3)
  model:add_lora { select = { "q_proj" }, rank = 4, alpha = 8, dropout = 0.25 }
  local dir = root .. "/" .. name
  qlora.train { model = model, data = training, eval_data = held_out, steps = 3, batch = 4, dir = dir,
    optimizer = qlora.optim.adamw(model:trainable(), { lr = 0.1, bits = 8, weight_decay = 0.5 }) }
  return json.decode(read(dir .. "/params.json")), read(dir .. "/report.html")
end

t.test("what decides a run stands in params.json and in the report", function()
  native.options.script, native.options.seed = root .. "/it's mine.lua", 7
  native.options.set = { rank = "4", note = "a b" }
  local given = arg
  _G.arg = { "it is", "7" }
  local described, html = train "settings"
  native.options.script, native.options.seed, native.options.set = nil, nil, nil
  _G.arg = given
  local s = described.settings
  t.equal({ s.adapters, s.rank, s.alpha, s.dropout, s.method }, { 4, 4, 8, 0.25, "lora" })
  t.equal({ s.optimizer, s.bits, s.weight_decay, s.lr, s.schedule }, { "adamw", 8, 0.5, 0.1, "constant()" })
  t.equal({ s.data, s.format, s.max_length, s.samples, s.eval_samples, s.longest_sample },
    { "records of the recipe", "completion", 9, 10, 3, 9 })
  t.equal({ s.kernels, s.threads, s.processor }, { "mock", 1, "a mock of a processor" })
  -- 259 numbers of the mock beside 35 modules of 64 each
  t.equal({ s.trained, s.trained_percent }, { 259, 10.4 })
  t.equal(described.command,
    ("qlora-run --set 'note=a b' --set rank=4 --seed 7 '%s/it'\\''s mine.lua' 'it is' 7"):format(root))
  for _, part in ipairs { "dropout</td><td>0.25", "a mock of a processor", "trained_percent</td><td>10.4",
    "--seed 7" } do
    assert(html:find(part, 1, true), "the report lacks " .. part)
  end
end)

t.test("a quantized model names its types", function()
  local weights = require "qlora.run_settings"
  local model, data = native.mock_model(), qlora.data.from_records({ { text = "ab" } },
    { format = "completion", tokenizer = native.byte_tokenizer() })
  local o = { model = model, data = data, optimizer = { lr = 1 }, sum = { parts = 1 }, ranks = { size = 1 },
    schedule = qlora.schedule.constant() }
  for _, module in ipairs(model.list) do
    if module.kind == "linear" then module.quant = module.name ~= "lm_head" and "nf4" or nil; module.dtype = "bf16" end
  end
  t.equal(weights(o).weights, "28 in nf4, 1 in bf16")
  model.list[#model.list].quant = "nf4"
  t.equal(weights(o).weights, "nf4")
end)

t.test("the main chart has a drawing for narrow screens, and one of the two is shown", function()
  local _, html = train "narrow"
  local broad, slim = html:match '<div class="broad">(.-)</div>', html:match '<div class="slim">(.-)</div>'
  t.equal({ broad:match 'viewBox="([^"]*)"', slim:match 'viewBox="([^"]*)"' }, { "0 0 1000 300", "0 0 480 280" })
  assert(html:find(".slim { display:none }", 1, true))
  assert(html:find("@media (max-width: 600px) { .broad { display:none } .slim { display:block }", 1, true))
  -- On 400 pixels a drawing is about 376 wide: letters of 14 units are 11 pixels high.
  assert(html:find("svg text { font-size:14px }", 1, true))
  assert(html:find("minmax(min(380px,100%),1fr)", 1, true), "small charts stay within a narrow screen")
end)

t.test("axes have names, and a logarithmic one says so", function()
  local function svg(...) return (charts.lines({ { name = "loss", points = { { 1, 100 }, ... } } })) end
  local wide, narrow = svg({ 2, 1 }), svg({ 2, 50 })
  assert(wide:find(">logarithmic</text>", 1, true) and wide:find('aria-label="loss, logarithmic axis"', 1, true), wide)
  assert(not narrow:find "logarithmic", narrow)
  assert(narrow:find ">step</text>", narrow)
end)

t.test("counts have separators", function()
  local list = {}
  for i, value in ipairs { 0, 999, 1000, 123456, 1234567, -1000, 1e15, 2.6 } do list[i] = format.thousands(value) end
  t.equal(list, { "0", "999", "1,000", "123,456", "1,234,567", "-1,000", "1,000,000,000,000,000", "3" })
end)

--- What qlora.eval.compare gives.
local function comparison(kl, agreement, perplexity)
  return { kl = kl, agreement = agreement, perplexity = { 3.0, perplexity }, tokens = 77, kls = {} }
end

t.test("comparisons with the trained model are bars in its report", function()
  train "compared"
  local dir = root .. "/compared"
  local forms = { base = comparison(2.0, 0.25, 12.0), ["<merged>"] = comparison(0.5, 0.975, 3.25) }
  t.equal(qlora.report.comparison(dir, forms), dir .. "/report.html")
  local html = read(dir .. "/report.html")
  local kl, differing, perplexity = html:match "<h3>KL per token %(nats%)</h3>(.-)</section>",
    html:match "<h3>Positions with another likeliest token</h3>(.-)</section>",
    html:match "<h3>Perplexity</h3>(.-)</section>"
  -- The farthest is the longest bar and stands first; a quarter of its KL is a quarter of its length.
  t.equal({ kl:match 'width="([%d.]+)" height.-width="([%d.]+)" height' }, { "314.0", "78.5" })
  assert(kl:find ">base<.*>2<.*>&lt;merged&gt;<.*>0.5<", kl)
  assert(differing:find ">75 %%<.*>2.5 %%<", differing)
  assert(perplexity:find ">trained<.*>3.0000<.*>base<.*>12.0000<.*>3.2500<", perplexity)
  assert(html:find "on 77 positions of held%-out text")
  qlora.report(dir) -- drawn anew, it keeps them
  assert(read(dir .. "/report.html"):find "KL per token")
end)

t.test("what qlora.merge measured is a comparison too", function()
  train "merged"
  local dir = root .. "/merged"
  qlora.report.comparison(dir, { perplexity = 3.0, base = comparison(2.0, 0.5, 9.0), rows = {
    { target = "original", problem = "no original" },
    { target = "requantized", kl = 1.0, agreement = 0.75, perplexity = 4.0, tokens = 77 } } })
  local html = read(dir .. "/report.html")
  assert(html:find ">base<" and html:find ">merged, requantized<" and not html:find "merged, original")
end)

t.test("what is no comparison is refused where it is given", function()
  train "refused"
  local dir = root .. "/refused"
  t.raises(function() qlora.report.comparison(dir, {}) end, "test_looks.lua:", "expected comparisons by name")
  t.raises(function() qlora.report.comparison(dir, { base = 3 }) end, "base is 3,",
    "expected what qlora.eval.compare gives")
  for _, wrong in ipairs { { kl = 0 / 0, agreement = 1, perplexity = { 1, 2 } }, { kl = 1, perplexity = { 1, 2 } },
    { kl = 1, agreement = 0 / 0, perplexity = { 1, 2 } }, { kl = 1, agreement = 1, perplexity = {} },
    { kl = 1, agreement = 1, perplexity = { 1 / 0, 1 } } } do
    t.raises(function() qlora.report.comparison(dir, { base = wrong }) end, "base is a table")
  end
  qlora.report(dir) -- nothing of them was kept
  t.raises(function() qlora.report.comparison(root .. "/nowhere", { base = comparison(1, 1, 1) }) end,
    "no run directory")
  native.write_file(dir .. "/comparisons.json", '[{"name":"base","kl":1}]')
  t.raises(function() qlora.report(dir) end, "comparisons.json: entry 1 has no name and agreement")
end)

t.test("a loop by hand ends without a result, in a directory that ends with a slash", function()
  local run = qlora.run { dir = root .. "/hand/" }
  run:log { step = 1, loss = 1, samples = { { prompt = "p" } } }
  -- What no report could read is not written.
  t.raises(function() run:log { step = 2, samples = 16 } end, "samples must be a list, got 16")
  t.raises(function() run:log { step = 2, samples = { "x" } } end, "samples: an object expected, got a string")
  run:finish {}
  assert(read(root .. "/hand/report.html"):find("<html", 1, true))
end)

native.remove_tree(root)
