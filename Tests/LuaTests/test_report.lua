local t = require "harness"
local native = require "qlora.native"
local qlora = require "qlora"
local charts = require "qlora.report_charts"
local journal = require "qlora.run_journal"
local json = require "qlora.json"
local png = require "qlora.plot_png"
local records = require "event_file"

local root = os.tmpname()
os.remove(root)
native.mkdir(root)

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read("a")
end

t.test("JSON text reads back as the value it was written from", function()
  local value = { a = { 1, 2.5, -3e-7, true, false }, b = { c = "x\n\"\\/é😀\1" }, d = {}, e = math.maxinteger }
  t.equal(json.decode(json.encode(value)), value)
  t.equal(json.decode ' [ null , "\\u00e9\\ud83d\\ude00\\t\\/" ] ', { [2] = "é😀\t/" })
  t.equal(math.type(json.decode "3"), "integer")
  t.equal(json.decode "{}", {})
  for _, text in ipairs { "", "{", '{"a":', '{"a" 1}', "[1,]", "[1 2]", '"abc', '"\\x"', '"\1"', "nul", "1 2", "{a:1}",
    "-", ("["):rep(200), "tru" } do
    t.raises(function() json.decode(text) end, "json: ", "expected at byte")
  end
end)

t.test("JSON is read as RFC 8259 writes it, and written as UTF-8", function()
  for _, text in ipairs { "01", "-01", "1.", "1.e5", ".5", "1e", "1e+", "+1", "0x10", "1-2", "--1", "\v1", "1\f",
    "[\v1]", "[1\v]", "[1\v,2]", '{\v"a":1}', '{"a"\v:1}', '{"a":1}\u{A0}', "[1.,2]" } do
    t.raises(function() json.decode(text) end, "json: ", "expected at byte")
  end
  for _, text in ipairs { "\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82" } do
    t.raises(function() json.decode('{"' .. text .. '":1}') end, "json: UTF-8 expected at byte 3")
    t.raises(function() json.decode('["a' .. text .. '"]') end, "json: UTF-8 expected at byte 4")
    assert(json.decode(json.encode { "a" .. text .. "é", text })[1]:find "^a\u{FFFD}.*é$")
  end
  for byte = 0, 31 do
    t.raises(function() json.decode('"' .. string.char(byte) .. '"') end, "no control character expected at byte 2")
  end
  t.equal(json.decode '"\127"', "\127")
  t.equal(json.decode " \t\r\n[ \t\r\n0 , -0.5,\t-7\r,\n10e2 , 1E-2,1.25e+1, 0e1 ] \n",
    { 0, -0.5, -7, 1000.0, 0.01, 12.5, 0.0 })
  t.equal(json.decode '{"a":1,"b":2,"a":3}', { a = 3, b = 2 })
end)

local function setup()
  local model = native.mock_model()
  local list = {}
  for i = 1, 13 do list[i] = { text = ("abcdefghijklm"):sub(1, i) } end
  local data = qlora.data.load(list, { format = "completion", tokenizer = model.tokenizer })
  return { model = model, data = data, optimizer = qlora.optim.sgd(model:trainable(), { lr = 0.5 }), batch = 8,
    steps = 6, seed = 1 }
end

local function train(options)
  local all = setup()
  for key, value in pairs(options) do all[key] = value end
  return qlora.train(all)
end

t.test("every record of an event file carries its checksums", function()
  train { dir = root .. "/events" }
  local name
  for _, candidate in ipairs(native.list_dir(root .. "/events")) do name = candidate:match "^events.*" or name end
  local text = read(root .. "/events/" .. name)
  local list, left = records(text)
  t.equal({ #list, left }, { 9, 0 }) -- version, settings, six steps and the end
  assert(list[1]:find("brain.Event:2", 1, true))
  for step = 1, 6 do
    assert(list[step + 2]:find("\16" .. string.char(step) .. "\42", 1, true), "step " .. step)
    for _, tag in ipairs { "train/loss", "train/learning_rate", "train/grad_norm", "train/memory" } do
      assert(list[step + 2]:find("\10" .. string.char(#tag) .. tag, 1, true), tag)
    end
  end
  for cut = 0, #text, 13 do records(text:sub(1, cut)) end -- cut anywhere, what stands before is whole
end)

t.test("a second session has an event file of its own, which takes back the steps it repeats", function()
  local dir = root .. "/sessions"
  train { dir = dir, save_every = 2, on_step = function(s) return s.step < 5 end }
  native.options.resume = true
  train { dir = dir }
  native.options.resume = nil
  local files = {}
  for _, name in ipairs(native.list_dir(dir)) do
    if name:find "^events" then files[#files + 1] = records(read(dir .. "/" .. name)) end
  end
  table.sort(files, function(a, b) return #a > #b end)
  t.equal({ #files, #files[1], #files[2] }, { 2, 8, 5 })
  -- step 6 with session_log { status: START }
  assert(files[2][2]:find("\16\6" .. "\58\2\8\1", 1, true))
  t.equal(#journal.read(dir).steps, 6)
end)

t.test("a run that was cut off reads as far as it came", function()
  local dir = root .. "/cut"
  train { dir = dir, save_every = 3 }
  local whole = read(dir .. "/journal.jsonl")
  for cut = 0, #whole, 7 do
    write(dir .. "/journal.jsonl", whole:sub(1, cut))
    local record = journal.read(dir)
    local complete = select(2, whole:sub(1, cut):gsub("\n", ""))
    assert(#record.steps == complete or #record.steps == complete + 1, cut)
    assert(record.broken <= 1)
    if cut % 70 == 0 then qlora.report(dir) end
  end
  -- The next session starts on a line of its own.
  write(dir .. "/journal.jsonl", whole:sub(1, #whole - 20))
  native.options.resume = dir
  train { dir = dir, steps = 7 }
  native.options.resume = nil
  local record = journal.read(dir)
  t.equal({ record.broken, record.resumed, #record.steps, record.finished }, { 1, { 6 }, 6, true })
end)

t.test("steps that a resumed run repeats count once", function()
  local dir = root .. "/repeated"
  native.mkdir(dir)
  write(dir .. "/params.json", '{"params":{"rank":4},"settings":{"rank":9,"batch":2}}')
  write(dir .. "/journal.jsonl", table.concat({
    '{"step":1,"loss":3,"tokens":10,"seconds":1}', '{"step":2,"loss":2,"tokens":10,"seconds":3,"accuracy":0.5}',
    '{"step":2,"eval_loss":2.5,"perplexity":12}', '{"step":3,"loss":9,"tokens":10,"seconds":4}',
    '{"step":3,"accuracy":7}',
    '{"resumed_from":"checkpoint-000002","at":2}', '{"step":3,"loss":1,"tokens":10,"seconds":2,"memory":64}',
    "", "not json", '{"step":4.5,"loss":1}',
  }, "\n"))
  local record = journal.read(dir)
  t.equal({ #record.steps, record.steps[3].loss, record.broken, record.finished }, { 3, 1, 1, false })
  t.equal(record.extra, { accuracy = { { 2, 0.5 } } })
  local row = journal.row(record)
  t.equal({ row.step, row.first_loss, row.loss, row.eval_loss, row.tokens, row.seconds, row.peak_memory, row.status },
    { 3, 3, 1, 2.5, 30, 5.0, 64, "unfinished" })
  t.equal({ row.rank, row.batch }, { 4, 2 }) -- the recipe's own word comes first
  t.raises(function() journal.read(root) end, "is no run directory")
  t.raises(function() qlora.report(root .. "/nothing") end, "test_report.lua:", "is no run directory")
end)

t.test("a damaged file is named with the field that is wrong, by all that read it", function()
  local dir = root .. "/damaged"
  native.mkdir(dir)
  local path = dir .. "/params.json"
  for content, message in pairs {
    ['{"a":'] = "json: a value expected at byte 6", [""] = "json: a value expected at byte 1",
    ["5"] = "an object expected, got 5", ["null"] = "an object expected, got null",
    ["[1]"] = "an object expected, got a list", ['{"set":5}'] = "set must be a table of strings, got 5",
    ['{"set":["a"]}'] = "set: an object expected, got a list", ['{"set":{"a":5}}'] = "set: a must be a string, got 5",
    ['{"recipe":5}'] = "recipe must be a string, got 5",
    ['{"arguments":5}'] = "arguments must be a list of strings, got 5",
    ['{"arguments":{"a":"b"}}'] = "arguments must be a list of strings, got a table",
    ['{"arguments":["a",null,"b"]}'] = "arguments must be a list of strings, got a list with a null",
    ['{"arguments":["a",true]}'] = "arguments: 2 must be a string, got true",
    ['{"seed":"x"}'] = "seed must be a whole number, got a string",
    ['{"seed":1.5}'] = "seed must be a whole number, got 1.5",
    ['{"settings":5}'] = "settings must be a table, got 5", ['{"started":5}'] = "started must be a string, got 5",
  } do
    write(path, content)
    for what, reads in pairs {
      ["--resume"] = function() require("qlora.run_recall").apply(dir) end,
      ["a run that goes on"] = function() require("qlora.run_params").describe(dir, nil, true) end,
      report = function() journal.read(dir) end,
    } do
      local ok, raised = pcall(reads)
      t.equal({ ok, raised }, { false, path .. ": " .. message }, what .. " of " .. content)
    end
  end
  write(path, "{}")
  write(dir .. "/summary.json", '{"steps":"x"}')
  t.raises(function() journal.read(dir) end, dir .. "/summary.json: steps must be a number, got a string")
  t.raises(function() require("qlora.run_recall").apply(root) end, root .. " is no run directory")
  path = dir .. "/adapter_config.json"
  for content, message in pairs {
    ["5"] = ": an object expected, got 5", ['{"a":'] = ": json: a value expected at byte 6",
    ['{"base_model_name_or_path":5}'] = ": base_model_name_or_path must be a string, got 5",
    ['{"model":["x"]}'] = ": model must be a string, got a list", ["{}"] = " names no base model",
  } do
    write(path, content)
    local ok, raised = pcall(require("qlora.talk").open, dir, {})
    t.equal({ ok, raised }, { false, path .. message }, content)
  end
end)

--- Text of a page that must hold nothing from elsewhere and nothing that runs.
local function self_contained(html)
  for _, word in ipairs { "<script", "<link", "<img", "<iframe", "http:", "https:", "url(", "@import",
    "javascript:" } do
    assert(not html:find(word, 1, true), "the page holds " .. word)
  end
  -- Every element is closed.
  local open = {}
  for slash, name, rest in html:gsub("<!doctype html>", ""):gmatch "<(/?)(%w+)([^>]*)>" do
    if slash == "/" then t.equal(table.remove(open), name, "closing tag")
    elseif not (rest:find "/$" or name == "meta") then open[#open + 1] = name end
  end
  t.equal(open, {})
end

t.test("the report is one file with every part, and what a user writes stays text", function()
  qlora.params { note = "<b>&\"bold\"</b>", rank = 4 }
  local dir = root .. "/whole"
  local all = setup()
  all.dir, all.eval_data, all.eval_every, all.steps = dir, all.data, 3, 30
  all.samples = { "<i>prompt</i>", every = 10 }
  qlora.train(all)
  qlora.params {}
  local html = read(dir .. "/report.html")
  self_contained(html)
  for _, part in ipairs { "Loss", "Learning rate", "Gradient norm", "Tokens per second", "Memory (MiB)",
    "Adapter norms", "layer 0", "Samples during training", "step 30", "Parameters", "prefers-color-scheme: dark",
    "&lt;b&gt;&amp;&quot;bold&quot;&lt;/b&gt;", "&lt;i&gt;prompt&lt;/i&gt;", "(13 bytes)", "moving average",
    "evaluation" } do
    assert(html:find(part, 1, true), "the report lacks " .. part)
  end
  assert(not html:find "has not finished")
  native.remove_tree(dir .. "/summary.json")
  qlora.report(dir)
  assert(read(dir .. "/report.html"):find "has not finished")
end)

t.test("samples are checked where they are given", function()
  t.raises(function() train { samples = { evry = 3, "x" } } end, "samples", '"every"')
  t.raises(function() train { samples = { every = 3 } } end, "holds no prompt")
  t.raises(function() train { samples = { 7 } } end, "samples[1] must be a text")
end)

t.test("charts survive what runs bring forth", function()
  for _, points in ipairs { {}, { { 1, 0 / 0 } }, { { 1, 2 } }, { { 1, 1e300 }, { 2, -1e300 } },
    { { 1, 0.0 }, { 2, 0.0 } }, { { 5, 1e-9 }, { 6, 1e9 } }, { { 1, math.huge }, { 2, 1 }, { 3, 2 } } } do
    local svg = charts.lines { { name = "x<y", points = points } }
    assert(not svg:find "nan" and not svg:find "inf", svg)
    self_contained(svg)
  end
  local many = {}
  for i = 1, 5000 do many[i] = { i, i == 3333 and 50 or 1 } end
  local thin = charts.thinned(many, 400)
  assert(#thin <= 400)
  local spike = 0
  for _, point in ipairs(thin) do spike = math.max(spike, point[2]) end
  t.equal(spike, 50)
  local svg, high = charts.heatmap({ { 1, nil, 3 }, { 0 / 0, 2 } }, { "a", "b" }, { "x", "y", "z" })
  t.equal({ high, select(2, svg:gsub("<rect", "")) }, { 3, 4 })
  local grown = charts.smoothed({ { 1, 4 }, { 2, 4 }, { 3, 4 } }, 0.9)
  t.close(grown[1][2], 4, 1e-12)
  t.close(grown[3][2], 4, 1e-12)
end)

t.test("PNG files have the checksums and the pixels", function()
  t.equal({ png.crc32 "123456789", png.adler32 "Wikipedia" }, { 0xcbf43926, 0x11e60398 })
  local text = png.encode({ "\0\1", "\2\0" }, { { 1, 2, 3 }, { 4, 5, 6 }, { 255, 255, 255 } }, 2)
  t.equal(text:sub(1, 8), "\x89PNG\r\n\x1a\n")
  local at, chunks = 9, {}
  while at <= #text do
    local length = string.unpack(">I4", text, at)
    local kind, data = text:sub(at + 4, at + 7), text:sub(at + 8, at + 7 + length)
    t.equal(string.unpack(">I4", text, at + 8 + length), png.crc32(kind .. data))
    chunks[#chunks + 1], chunks[kind] = kind, data
    at = at + 12 + length
  end
  t.equal(table.concat(chunks, " "), "IHDR PLTE IDAT IEND")
  t.equal({ string.unpack(">I4I4BB", chunks.IHDR) }, { 4, 4, 8, 3, 11 })
  local pixels = "\0\0\0\1\1" .. "\0\0\0\1\1" .. "\0\2\2\0\0" .. "\0\2\2\0\0"
  t.equal(chunks.IDAT, "\x78\x01" .. "\1" .. string.pack("<I2I2", 20, 20 ~ 0xffff) .. pixels .. string.pack(">I4",
    png.adler32(pixels)))
end)

t.test("several curves keep apart without colour", function()
  local text = qlora.plot.curves({ { name = "up", points = { { 1, 1 }, { 2, 2 } } },
    { name = "down", points = { { 1, 2 }, { 2, 1 } } } }, { width = 10, height = 4, title = "loss" })
  for _, line in ipairs { "^loss\n", "2 ┤bbb    aaa\n", "┤  bbbaaa\n", "┤  aaabbb\n", "1 ┤aaa    bbb\n", "a up\n",
    "b down" } do
    assert(text:find(line), text)
  end
  local wide = { name = "wide", points = { { 1, 1e-3 }, { 2, 1e3 } } }
  assert(qlora.plot.curves({ wide }, { title = "loss" }):find "logarithmic")
  assert(qlora.plot.curves({}, { title = "none" }):find "nothing to plot")
end)

native.remove_tree(root)

t.test("qlora-run show tells what the run used, not what its recipe left to be found", function()
  local dir = root .. "/shown"
  native.mkdir(dir)
  write(dir .. "/params.json", [[{"params":{"max_length":1024,"format":"","template":"","epochs":1.0,"steps":0},
    "settings":{"max_length":256,"format":"alpaca","steps":3},"recipe":"a.lua"}]])
  write(dir .. "/journal.jsonl", '{"step":1,"loss":3,"tokens":10,"seconds":1,"memory":2048}')
  local text = t.captured(function() require("qlora.commands.show").run({}, { dir }) end)
  text = text:gsub(" +", " "):match "^(.-\n)shown "
  t.equal(text, dir .. [[

 recipe a.lua
 status unfinished
 step 1
 first_loss 3
 loss 3
 tokens 10
 seconds 1
 tokens_per_second 10
 peak_memory 2.00 KiB
settings
 format alpaca
 max_length 256
 steps 3
parameters
 epochs 1
 template ""
]])
end)
