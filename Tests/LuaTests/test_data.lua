local t = require "harness"
local native = require "qlora.native"
local qlora = require "qlora"
local batching = require "qlora.data.batching"
local random = require "qlora.data.random"
local samples = require "qlora.data.samples"

local tokenizer = native.byte_tokenizer()

local function load(records, options)
  options.tokenizer = options.tokenizer or tokenizer
  return qlora.data.load(records, options)
end

local function trained_text(sample, own)
  local ids = {}
  for i, label in ipairs(sample.labels) do if label ~= -100 then ids[#ids + 1] = sample.ids[i] end end
  return (own or tokenizer):decode(ids)
end

local one = {
  alpaca = { instruction = "Add.", input = "1 2", output = "3" },
  oasst1 = { text = "### Human: Hi### Assistant: Hello" },
  completion = { prompt = "a", completion = "b" },
  self_instruct = { instruction = "Do", instances = { { input = "", output = "done" } } },
  hh_rlhf = { chosen = "good", rejected = "bad" },
  longform = { input = "in", output = "out" },
  chip2 = { text = "<human>: q\n<bot>: r" },
  input_output = { input = "in", output = "out" },
}
local expected = {
  alpaca = { "3</s>", 12 }, oasst1 = { "### Human: Hi### Assistant: Hello</s>" }, completion = { "b</s>" },
  self_instruct = { "done</s>" },
  hh_rlhf = { "good</s>" }, longform = { "out</s>" }, chip2 = { "r</s>" }, input_output = { "out</s>" },
}

t.test("formats train the answer and its end", function()
  for format, record in pairs(one) do
    local data = load({ record }, { format = format })
    local text = trained_text(data[1])
    t.equal((text:gsub("^<s>", "")), expected[format][1], format)
    t.equal(data[1].ids[1], tokenizer.bos, format .. " starts with BOS")
  end
end)

t.test("alpaca's prompt is qlora.py's, with and without input", function()
  local data = load({ one.alpaca, { instruction = "Go", input = "", output = "x" } }, { format = "alpaca" })
  local head, tail = "<s>Below is an instruction that describes a task",
    " Write a response that appropriately completes the request."
  t.equal(tokenizer:decode(data[1].ids), head .. ", paired with an input that provides further context." .. tail
    .. "\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response: 3</s>")
  t.equal(tokenizer:decode(data[2].ids), head .. "." .. tail .. "\n\n### Instruction:\nGo\n\n### Response: x</s>")
end)

t.test("chats train assistant turns through the tokenizer's template", function()
  local record = { messages = { { role = "user", content = "q" }, { role = "assistant", content = "r" } } }
  local chatml = native.byte_tokenizer { chat_template = t.chatml, markers = { "<|im_start|>", "<|im_end|>" } }
  t.equal(trained_text(load({ record }, { format = "chat", tokenizer = chatml })[1], chatml), "r<|im_end|>")
  t.equal(trained_text(load({ record }, { format = "chat", template = "zephyr" })[1]), "r</s>")
  t.raises(function() load({ record }, { format = "chat" }) end, "template =")
  t.equal(trained_text(load({ { conversations = { { from = "human", value = "q" }, { from = "gpt", value = "r" } } } },
    { format = "sharegpt", template = "llama2" })[1]), " r </s>")
end)

t.test("a function of the recipe is a format", function()
  local data = load({ { q = "2+2", a = "4" } }, { format = function(r)
    return { { text = r.q .. "=" }, { text = r.a, train = true } }
  end })
  t.equal(trained_text(data[1]), "4</s>")
  t.raises(function() load({ {} }, { format = function() return { { txt = "" } } end })
    end, "span 1 of record 1 needs a text")
end)

t.test("truncation is qlora.py's and is counted", function()
  local data = load({ { input = "abcdef", output = "uvwxyz" } }, { source_max_length = 3, target_max_length = 4 })
  t.equal(tokenizer:decode(data[1].ids), "<s>abuvwx") -- a long target loses its EOS
  t.equal(data:stats().truncated, 1)
  local whole = load({ { text = "abc" } }, { format = "completion" }):stats()
  t.equal({ whole.tokens, whole.trained }, { 5, 4 }) -- nothing predicts the first token
  t.equal(trained_text(load({ { input = "ab", output = "c" } }, { train_on_source = true })[1]), "<s>abc</s>")
end)

t.test("samples without a trained token are counted, none at all is an error", function()
  local data = load({ { input = "abcdef", output = "x" }, { input = "a", output = "x" }, { input = "no answer" } },
    { max_length = 4 })
  t.equal({ #data, data:stats().untrained, data:stats().incomplete }, { 1, 1, 1 })
  assert(tostring(data):find("left out 2 of 3 records: 1 without 'output', 1 without any trained token", 1, true))
  t.raises(function() load({ { input = "abcdef", output = "x" } }, { max_length = 4 })
    end, "nothing to train on", "max_length = 4 cuts the answers off", "9 tokens")
  t.raises(function() load({ { question = "x" } }, { format = "alpaca" }) end, "record 1", "needs 'instruction'",
    "the record has question")
  t.raises(function() load({ { instruction = "x" } }, { format = "alpaca" }) end, "nothing to train on",
    "left out 1 of 1 records: 1 without 'output'", "the first has instruction")
  t.raises(function() load({ { prompt = "x", completion = "y" } }, { format = "alpaca" }) end,
    "fits format completion or self_instruct")
  t.raises(function() load({ 1 }, { format = function() return { text = "x", train = true } end }) end,
    "gave one span for record 1", "train = true")
  t.raises(function() load({}, {}) end, "there are no records")
  t.raises(function() load("nowhere.jsonl", { format = "alpaca" }) end, "there is no file nowhere.jsonl")
  t.raises(function() return data[0] end, "samples are counted from 1")
  t.raises(function() return data:lenght(1) end, "data has no 'lenght'", '"length"')
  t.raises(function() load({}, { format = "alpacca" }) end, '"alpaca"')
end)

t.test("text is one stream in windows", function()
  local data = load({ { text = "abcde" }, { text = "fgh" } }, { format = "text", max_length = 4 })
  local parts = {}
  for i = 1, #data do parts[i] = tokenizer:decode(data[i].ids) end
  t.equal(parts, { "<s>abc", "de</s><s>", "fgh</s>" })
  t.equal(data[1].labels, data[1].ids)
  -- With a stride a window repeats tokens of the one before, which are not trained again.
  data = load({ { text = "abcde" }, { text = "fgh" } }, { format = "text", max_length = 5, stride = 3 })
  parts = {}
  for i = 1, #data do parts[i] = tokenizer:decode(data[i].ids) end
  t.equal(parts, { "<s>abcd", "cde</s><s>", "</s><s>fgh", "gh</s>" })
  t.equal(data[2].labels, { -100, -100, table.unpack(data[2].ids, 3) })
  t.equal(data:stats().trained, #data[1].ids - 1 + 3 + 3 + 1)
  t.raises(function() load({ { text = "a" } }, { format = "text", max_length = 4, stride = 5 }) end,
    "a stride of 5 leaves out tokens between windows of 4")
  t.raises(function() load({ { input = "a", output = "b" } }, { stride = 5 }) end, "input_output has not")
end)

t.test("split is a partition and depends on the seed only", function()
  local records = {}
  for i = 1, 20 do records[i] = { text = ("%02d"):format(i) } end
  local data = load(records, { format = "completion" })
  local a, b = data:split(0.25, 7)
  t.equal({ #a, #b }, { 15, 5 })
  local seen = {}
  for _, part in ipairs { a, b } do for i = 1, #part do seen[tokenizer:decode(part[i].ids)] = true end end
  for i = 1, 20 do assert(seen[("<s>%02d</s>"):format(i)]) end
  local _, again = data:split(5, 7)
  t.equal(again[1].ids, b[1].ids)
  t.equal(#select(2, data:split(5.0, 7)), 5)
  t.raises(function() data:split(20) end, "below 20")
  for _, at in ipairs { 1.7, 2.5, 0, 0 / 0 } do
    t.raises(function() data:split(at) end, "a fraction below 1 or a whole number of samples below 20, got")
  end
end)

t.test("preview marks what is trained", function()
  local data = load({ { input = "in", output = "out" } }, {})
  t.equal(t.captured(function() data:preview(1) end), "sample 1: 7 tokens, 4 trained\n<s>in[[out</s>]]\n")
  native.terminal = true
  local text = t.captured(function() data:preview(1) end)
  native.terminal = nil
  assert(text:find("\27[32mout</s>\27[0m", 1, true), text)
end)

t.test("permutations: every index once, different per epoch, fixed for ever", function()
  local p = random.permutation(1000, 0, 0)
  local sorted = table.move(p, 1, #p, 1, {})
  table.sort(sorted)
  for i = 1, 1000 do assert(sorted[i] == i) end
  t.equal(random.permutation(8, 42, 0), random.permutation(8, 42, 0))
  assert(table.concat(random.permutation(50, 42, 0)) ~= table.concat(random.permutation(50, 42, 1)))
  -- Recorded once: a change would silently break resuming runs made by earlier versions.
  t.equal(random.permutation(8, 0, 0), { 2, 3, 8, 5, 4, 1, 6, 7 })
  t.equal(random.mix(1), 0x5692161d100b05e5) -- SplitMix64's finaliser, known value
end)

t.test("each epoch has an order of its own", function()
  local lengths = {}
  for i = 1, 50 do lengths[i] = i end
  local function order(epoch, seed) return table.concat(batching.epoch_order(lengths, epoch, { seed = seed }), " ") end
  assert(order(0, 1) ~= order(1, 1) and order(0, 1) ~= order(0, 2))
  t.equal(order(1, 1), order(1, 1))
end)

t.test("the end of a sample is marked once", function()
  local spans = { { text = "a", train = true }, { text = "b" }, { text = "c", train = true } }
  local sample = samples.from_spans(spans, { tokenizer = tokenizer, eos = 999 })
  t.equal(sample.ids[#sample.ids], 999)
  local count = 0
  for _, id in ipairs(sample.ids) do count = count + (id == 999 and 1 or 0) end
  t.equal(count, 1)
end)

t.test("grouping sorts mega-batches and puts the longest first", function()
  local lengths = {}
  for i = 1, 64 do lengths[i] = (i * 37) % 64 + 1 end
  local order
  for seed = 1, 5 do -- in most of them the longest sample is not in the first mega-batch
    order = batching.epoch_order(lengths, 0, { seed = seed, batch = 4, group_by_length = true })
    t.equal(lengths[order[1]], 64)
  end
  local seen = {}
  for _, i in ipairs(order) do assert(not seen[i]); seen[i] = true end
  for from = 17, 64, 16 do -- size 64 // 16 = 4 batches of 4
    local inversions = 0
    for i = from, from + 14 do if lengths[order[i]] < lengths[order[i + 1]] then inversions = inversions + 1 end end
    assert(inversions <= 1, "mega-batch is not sorted") -- one place may hold the sample swapped with the longest
  end
end)

local function numbers_of(data, o)
  local list = {}
  for _, _, numbers in data:steps(o) do list[#list + 1] = table.concat(numbers, ",") end
  return list
end

t.test("steps resume exactly, cross epochs and see each sample once per epoch", function()
  local records = {}
  for i = 1, 10 do records[i] = { text = ("x"):rep(i) } end
  local data = load(records, { format = "completion" })
  for _, grouped in ipairs { false, true } do
    local o = { steps = 12, batch = 4, micro_batch = 2, seed = 5, group_by_length = grouped }
    local all = numbers_of(data, o)
    o.start = 7
    local rest = numbers_of(data, o)
    t.equal(rest, table.move(all, 7, 12, 1, {}))
    local counts = {}
    for number in table.concat(all, ",", 1, 5):gmatch("%d+") do counts[number] = (counts[number] or 0) + 1 end
    for i = 1, 10 do t.equal(counts[tostring(i)], 2) end
  end
end)

t.test("micro-batches share the step's trained targets", function()
  local data = load({ { input = "abc", output = "x" }, { input = "a", output = "xyz" },
    { input = "", output = "x" } }, {})
  for _, batches in data:steps { steps = 1, batch = 3, micro_batch = 2, seed = 0 } do
    t.equal({ #batches, batches[1].rows, batches[2].rows }, { 2, 2, 1 })
    t.equal(batches[1].trained + batches[2].trained, 2 + 4 + 2) -- each answer, its EOS
    t.equal({ batches[1].options.denominator, batches[2].options.denominator }, { 8, 8 })
    t.equal({ batches[1].options.micro, batches[2].options.micro, batches[2].options.step }, { 1, 2, 1 })
  end
  t.raises(function() data:steps { steps = 1, batchsize = 2 } end, "unknown option 'batchsize'")
  t.raises(function() data:steps { batch = 2 } end, "'steps' is missing")
end)

t.test("a tokenizer without EOS is told", function()
  local endless = native.byte_tokenizer()
  endless.eos = nil
  local function said(o)
    o.tokenizer = endless
    native.options.quiet = false
    local text = t.captured(function() qlora.data.from_records({ { input = "a", output = "b" } }, o) end)
    native.options.quiet = true
    return text:find("no sample ends with EOS", 1, true) ~= nil
  end
  assert(said {} and not said { eos = false } and not said { quiet = true })
  t.raises(function() said { eos = true } end, "eos = true, but the tokenizer has no EOS token")
  native.options.quiet = true
end)

--- Loads a file with this text; `found` is what the engine's reader gives for it, or the text of its error.
local function load_file(name, text, found)
  local dir = os.tmpname()
  os.remove(dir)
  native.mkdir(dir)
  local path, read = dir .. "/" .. name, native.read_records
  local file <close> = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  native.read_records = function(given)
    t.equal(given, path)
    if type(found) == "string" then error(given .. ": " .. found, 0) end
    return found
  end
  local ok, result = pcall(qlora.data.load, path, { tokenizer = tokenizer, quiet = true })
  native.read_records = read
  native.remove_tree(dir)
  return ok and result or error(result, 0)
end

t.test("a file that its ending says wrongly is told from what it looks like", function()
  local unread = "line 1 (byte 1): unexpected end of text"
  for _, name in ipairs { "a.jsonl", "a.NDJSON" } do
    for _, text in ipairs { '[\n{"input": "a"}\n]\n', "\xEF\xBB\xBF [{}]", '[{"input": "a"},\n {"input": "b"}]' } do
      t.raises(function() load_file(name, text, unread) end, unread .. "; it looks like a JSON array", "ends in .json")
    end
    for _, text in ipairs { '{\n  "input": "a"\n}\n', '{ "messages": [\n    {}\n] }\n', '{"a": 1,\n"b": 2}' } do
      t.raises(function() load_file(name, text, unread) end, unread .. "; it looks like JSON over several lines",
        "in a file that ends in .json")
    end
    for _, text in ipairs { '{"input": "a"', '{"input": "a",\n{"input": "b"}\n', '{"a": 1}\n{"a"\n', "a\n[" } do
      assert(t.raises(function() load_file(name, text, unread) end, unread):sub(-#unread) == unread, text)
    end
  end
  assert(t.raises(function() load_file("a.json", "[", unread) end):sub(-#unread) == unread)
  local row = { input = "a", output = "b" }
  t.raises(function() load_file("a.csv", "input,output\ra,b\r", {}) end, "a.csv: its lines end in CR alone")
  local wrong = { input = "a", ["output\ra"] = "b" }
  t.raises(function() load_file("a.tsv", "input\toutput\ra\tb\r\n", { wrong }) end, "its lines end in CR alone")
  t.raises(function() load_file("a.csv", "input,output\r\n", {}) end, "a.csv: there are no records")
  t.equal(#load_file("a.csv", "input,output\r\na,b\r\n", { row }), 1)
  t.raises(function() load_file("noext", "{}", { row }) end, "noext has a name without an ending",
    ".ndjson, .csv, .tsv or .txt")
  t.equal(#load_file("a.ndjson", "{}", { row }), 1)
end)

t.test("a folder names the files that the engine reads, .ndjson too", function()
  local dir = os.tmpname()
  os.remove(dir)
  native.mkdir(dir)
  for _, name in ipairs { "a.txt", "b.ndjson", "c.md", "json" } do assert(io.open(dir .. "/" .. name, "w")):close() end
  t.raises(function() qlora.data.load(dir, { tokenizer = tokenizer }) end, "is a folder; name a file in it: ",
    dir .. "/b.ndjson")
  for _, name in ipairs { "a.txt", "b.ndjson" } do os.remove(dir .. "/" .. name) end
  t.raises(function() qlora.data.load(dir, { tokenizer = tokenizer }) end,
    "is a folder; name a file of records (.json, ")
  native.remove_tree(dir)
end)

t.test("a field without a name and a misspelt one are named", function()
  local good = { prompt = "a", completion = "b" }
  native.options.quiet = false
  local said = t.captured(function() load({ { prompt = "a", completion = "b", [""] = "c" } }, {}) end)
  native.options.quiet = true
  assert(said:find("format completion does not read a field without a name\n", 1, true), said)
  local function left_out(record) return tostring(load({ good, record, record }, {})):match "left out (.*)$" end
  t.equal(left_out { prompt = "a", complation = "b" },
    "2 of 3 records: 2 without 'completion' (record 2 has 'complation')")
  for _, record in ipairs { { prompt = "a" }, { prompt = "a", completion = "", complation = "b" },
    { prompt = "a", source = "b" } } do
    t.equal(left_out(record), "2 of 3 records: 2 without 'completion'")
  end
end)
