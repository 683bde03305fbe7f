local t = require "harness"
local native = require "qlora.native"
local qlora = require "qlora"
local fields = require "qlora.data.fields"

local tokenizer = native.byte_tokenizer()

local function load(records, options)
  options = options or {}
  options.tokenizer = options.tokenizer or tokenizer
  return qlora.data.load(records, options)
end

--- The text of a sample with what is trained in brackets.
local function marked(data, i)
  local sample, parts, on = data[i or 1], {}, false
  for k, id in ipairs(sample.ids) do
    local trained = sample.labels[k] ~= -100
    if trained ~= on then parts[#parts + 1] = trained and "[[" or "]]" end
    on, parts[#parts + 1] = trained, tokenizer:decode { id }
  end
  return table.concat(parts) .. (on and "]]" or "")
end

local user, answer = { role = "user", content = "q" }, { role = "assistant", content = "a" }

--- A conversation of these messages as marked text, under a template that shows roles.
local function said(messages, record, options)
  record = record or {}
  record.messages = messages
  options = options or {}
  options.format, options.template = "chat", options.template or "zephyr"
  return marked(load({ record }, options))
end

local function with(message, extra)
  local copy = {}
  for key, value in pairs(message) do copy[key] = value end
  for key, value in pairs(extra) do copy[key] = value end
  return copy
end

t.test("marks of messages are honoured: weight, train, training", function()
  local plain = "<s><|user|>\nq</s>\n<|assistant|>\n"
  for _, mark in ipairs { { weight = 0 }, { train = false }, { training = false }, { train = 0 }, { weight = 0.0 } } do
    t.equal(said { user, with(answer, mark), user, answer },
      plain .. "a</s>\n<|user|>\nq</s>\n<|assistant|>\n[[a</s>]]\n")
  end
  for _, mark in ipairs { { weight = 1 }, { train = true }, { training = true }, { weight = 1, train = true } } do
    t.equal(said({ user, with(answer, mark), user, answer }, nil, { train = "last" }),
      plain .. "[[a</s>]]\n<|user|>\nq</s>\n<|assistant|>\n[[a</s>]]\n")
  end
  t.equal(said { with(user, { train = true }), answer }, "<s><|user|>\n[[q</s>]]\n<|assistant|>\n[[a</s>]]\n")
  t.equal(said { with(user, { weight = 0 }), answer }, plain .. "[[a</s>]]\n")
  for _, wrong in ipairs { { weight = 0.5 }, { weight = 2 }, { train = "false" }, { training = {} }, { weight = "1" },
    { weight = 0 / 0 } } do
    local name = next(wrong)
    t.raises(function() said { user, with(answer, wrong) } end, "record 1: chat: message 2", "'" .. name .. "'",
      "true or false, 1 or 0")
  end
  t.raises(function() said { user, with(answer, { weight = 1, train = false }) } end, "say opposite things")
  t.raises(function() said { with(user, { weight = 1 }), answer } end, "message 1 of the user has weight 1")
end)

t.test("an empty answer is trained only where a mark says so", function()
  local empty = { role = "assistant", content = "" }
  t.equal(said { user, empty, user, answer },
    "<s><|user|>\nq</s>\n<|assistant|>\n</s>\n<|user|>\nq</s>\n<|assistant|>\n[[a</s>]]\n")
  t.equal(said { user, with(empty, { train = true }) }, "<s><|user|>\nq</s>\n<|assistant|>\n[[</s>]]\n")
end)

t.test("a content may be a list of texts, and nothing else", function()
  local function parts(...) return { user, { role = "assistant", content = { ... } } } end
  t.equal(said(parts({ type = "text", text = "a" }, { type = "text", text = "b" })),
    "<s><|user|>\nq</s>\n<|assistant|>\n[[a\nb</s>]]\n")
  t.raises(function() said(parts { type = "image_url", image_url = {} }) end, "message 2: part 1", '"image_url"')
  t.raises(function() said(parts { type = "text" }) end, "message 2: part 1")
  t.raises(function() said(parts { type = "text", text = "a", cache_control = { x = 1 } }) end, "cache_control")
  t.raises(function() said { user, { role = "assistant", content = { [2] = { type = "text", text = "a" } } } } end,
    "null in it")
end)

t.test("every field of a message that no template says is refused by its name, unless it is empty", function()
  assert(#fields.message_refused > 15)
  for _, entry in ipairs(fields.message_refused) do
    local name, why = entry[1], entry[2]
    t.raises(function() said { user, with(answer, { [name] = "x" }) } end, "record 1", "message 2", "'" .. name .. "'",
      why)
    for _, empty in ipairs { "", {} } do said { user, with(answer, { [name] = empty }) } end
    if fields.false_says[name] then
      t.raises(function() said { user, with(answer, { [name] = false }) } end, "message 2", "'" .. name .. "' is false")
    else
      said { user, with(answer, { [name] = false }) }
    end
    said({ user, with(answer, { [name] = "x" }) }, nil, { ignore = { name } })
  end
end)

t.test("every field of a record that would change training is refused by its name, unless it is empty", function()
  for _, entry in ipairs(fields.refused) do
    local name, formats = entry[1], entry[3] or { "oasst1", "hh_rlhf", "completion", "longform" }
    for _, format in ipairs(formats) do
      local record = { messages = { user, answer }, conversations = { user, answer }, text = "t", completion = "c",
        prompt = "p", chosen = "c", output = "o", input = "i" }
      if not format:find "put" and format ~= "longform" then record.input = nil end
      if format == "alpaca" then record.instruction = "i" end
      if format == "chat" or format == "sharegpt" then record.completion, record.prompt = nil, nil end
      if format == "hh_rlhf" or format:find "put" or format == "longform" then record.prompt = nil end
      local options = { format = format, template = "zephyr" }
      load({ record }, options)
      if not (name == "system" and format == "chat") then
        record[name] = name == "history" and { { "a", "b" } } or "x"
        t.raises(function() load({ record }, options) end, "record 1: '" .. name .. "'", entry[2])
        options.ignore = { name }
        load({ record }, options)
      end
    end
  end
end)

t.test("roles are those that templates know", function()
  t.equal(said { { from = "human", value = "q" }, { from = "gpt", value = "a" } },
    "<s><|user|>\nq</s>\n<|assistant|>\n[[a</s>]]\n")
  for _, role in ipairs { "tool", "function_call", "observation", "function", "developer", "Assistant", "" } do
    t.raises(function() said { user, { role = role, content = "x" }, answer } end, "record 1: chat: message 2", "role")
  end
  for slip, meant in pairs { asistant = "assistant", Assistant = "assistant", developer = "system", humna = "human" } do
    t.raises(function() said { user, { role = slip, content = "x" }, answer } end, ('did you mean "%s"?'):format(meant))
  end
  t.raises(function() said { user, { role = "assistant" } } end, "message 2 needs a role and a content")
  t.raises(function() said { user, { role = "assistant", content = 5 } } end, "message 2 needs a role and a content")
  t.raises(function() said { user, with(answer, { from = "human" }) } end, "'role' and 'from'")
  t.raises(function() said { user, "text" } end, 'message 2 is "text"')
  t.raises(function() said {} end, "'messages' is empty")
  t.raises(function() said { [1] = user, [3] = answer } end, "null in it")
  t.raises(function() said(answer) end, "'messages' is")
end)

t.test("system beside a conversation is its first message", function()
  local expected = "<s><|system|>\nS</s>\n<|user|>\nq</s>\n<|assistant|>\n[[a</s>]]\n"
  t.equal(said({ user, answer }, { system = "S" }), expected)
  t.equal(said({ { role = "system", content = "S" }, user, answer }, { system = "S" }), expected)
  t.raises(function() said({ { role = "system", content = "T" }, user, answer }, { system = "S" }) end,
    "another system message")
  local record = { conversations = { { from = "human", value = "q" }, { from = "gpt", value = "a" } }, system = "S" }
  t.equal(marked(load({ record }, { format = "sharegpt", template = "zephyr" })), expected)
end)

t.test("alpaca reads system and history", function()
  local record = { instruction = "I", input = "", output = "O", system = "S", history = { { "Q", "A" } } }
  local first = "<s>S\n\n### Instruction:\nQ\n\n### Response: "
  local last = "\n\n### Instruction:\nI\n\n### Response: [[O</s>]]"
  t.equal(marked(load({ record }, { format = "alpaca" })), first .. "[[A</s>]]" .. last)
  t.equal(marked(load({ record }, { format = "alpaca", train = "last" })), first .. "A</s>" .. last)
  record.history = { { "Q" } }
  t.raises(function() load({ record }, { format = "alpaca" }) end, "'history[1]'")
  record.history = "Q"
  t.raises(function() load({ record }, { format = "alpaca" }) end, "'history' is \"Q\"")
end)

t.test("a marked record is left out, a wrong mark is an error", function()
  local data = load({ { input = "a", output = "b", weight = 0 }, { input = "c", output = "d", weight = 1 } })
  t.equal({ #data, data:stats().untrained, data:stats().records }, { 1, 1, 2 })
  t.raises(function() load { { input = "a", output = "b", weight = 0.3 } } end, "record 1: 'weight' is 0.3")
  t.equal(#load { { input = "a", output = "b", weight = "" } }, 1)
end)

t.test("one wrong record of a thousand is named, or left out and counted", function()
  local function records(bad)
    local list = {}
    for i = 1, 1000 do list[i] = { instruction = "i", input = "", output = "o" } end
    list[700] = bad
    return list
  end
  for _, bad in ipairs { { instruction = "a", input = { "x", "y" }, output = "b" },
    { instruction = "a", input = true, output = "b" }, { instruction = 5, output = "b" },
    { instruction = "a", output = 42 }, { output = "b" }, "text",
    { instruction = "a", output = "b", tools = { 1 } } } do
    t.raises(function() load(records(bad), { format = "alpaca" }) end, "test_records.lua", "data.load: record 700: ")
    local data = load(records(bad), { format = "alpaca", skip_invalid = true })
    t.equal({ #data, data:stats().invalid }, { 999, 1 })
    assert(tostring(data):find("left out 1 of 1000 records: 1 wrong (the first: record 700: ", 1, true))
  end
  for _, without in ipairs { { instruction = "a" }, { instruction = "a", output = "" } } do
    local data = load(records(without), { format = "alpaca" })
    t.equal({ #data, data:stats().incomplete }, { 999, 1 })
    assert(tostring(data):find("left out 1 of 1000 records: 1 without 'output'", 1, true))
  end
  t.raises(function() load({ { messages = { user, user, answer } } }, { format = "chat", template = "llama2" }) end,
    "data.load: record 1: chat template llama2: message 2 must be from the assistant")
end)

t.test("a record of a file is named with its line", function()
  native.records["x.jsonl"] = { { input = "a", output = "b" }, { input = 1, output = "b" } }
  native.record_lines["x.jsonl"] = { 1, 9 }
  local exists = native.exists
  native.exists = function(path) return not path:find "/%.$" end
  t.raises(function() load("x.jsonl") end, "record 2 (x.jsonl:9): 'input' is 1, expected a text")
  native.records["x.jsonl"][2].input = "c"
  local data = load("x.jsonl")
  t.equal(data:where(2), "sample 2 (record 2, x.jsonl:9)")
  for _, part in ipairs { data:split(1, 3) } do
    t.equal(part:where(1), part[1].ids[2] == data[1].ids[2] and "sample 1 (record 1, x.jsonl:1)"
      or "sample 1 (record 2, x.jsonl:9)")
  end
  native.exists = exists
end)

t.test("the format is found from the fields of all records, or asked for", function()
  local quiet = native.options.quiet
  native.options.quiet = false
  local cases = {
    { { instruction = "i", input = "x", output = "o", id = 3, trian = false }, "alpaca", "instruction, output" },
    { { input = "i", output = "o" }, "input_output", "input, output" },
    { { prompt = "p", completion = "c" }, "completion", "prompt, completion" },
    { { instruction = "i", instances = { { output = "o" } } }, "self_instruct", "instances" },
    { { messages = { user, answer }, prompt = "q" }, "chat", "messages" },
    { { conversations = { user, answer } }, "sharegpt", "conversations" },
    -- What is empty tells nothing where another format fits, nor does one record whose instruction is.
    { { messages = { user, answer }, conversations = {} }, "chat", "messages" },
    { { instruction = "i", input = "", output = "o" }, "alpaca", "instruction, output",
      then_ = { instruction = "", input = "x", output = "o" } },
    { { instruction = "", input = "x", output = "o" }, "alpaca", "instruction, output",
      then_ = { instruction = "i", input = "", output = "o" } },
  }
  for _, case in ipairs(cases) do
    local text = t.captured(function() load({ case[1], case.then_ }, { template = "zephyr", skip_invalid = true }) end)
    assert(text:find(("data: format %s, found from the fields %s\n"):format(case[2], case[3]), 1, true), text)
    if case[1].id then assert(text:find("format alpaca does not read id, trian\n", 1, true), text) end
  end
  native.options.quiet = quiet
  t.raises(function() load { { data = { { prompt = "a" } } } } end, "the records may be what 'data' holds")
  t.raises(function() load { { ["prompt;completion"] = "a;b" } } end, "that is one field: a .csv has commas")
  t.raises(function() load { { text = "a" } } end, "no format is named", 'format = "completion"', 'format = "text"')
  t.raises(function() load { { prompt = "p", chosen = "a", rejected = "b" } } end, 'map = { completion = "chosen" }', "pairs")
  t.raises(function() load { { question = "a", response = "b" } } end, "(question, response) tell none")
  t.raises(function() load { { messages = { user }, instruction = "a", output = "b" } } end,
    "record 1 fits chat (messages) or alpaca (instruction, output)")
  t.raises(function() load { { messages = {}, conversations = {} } } end, "record 1 fits chat (messages) or sharegpt")
  t.raises(function() load { { input = "a", output = "b" }, { instruction = "a", output = "b" } } end,
    "record 1 fits input_output (input, output), but record 2 alpaca")
  t.raises(function() load { 5 } end, "record 1 is 5")
  t.equal(#load { { input = "no answer" }, { input = "a", output = "b" } }, 1)
end)

t.test("long samples are left out and counted where that is asked for", function()
  local records = { { input = "a", output = "b" }, { input = "a", output = ("b"):rep(50) } }
  local data = load(records, { max_length = 10, too_long = "leave_out" })
  t.equal({ #data, data:stats().too_long, data:stats().truncated }, { 1, 1, 0 })
  assert(t.captured(function() data:preview(1) end):find("left out 1 of 2 records: 1 longer than the limit\n", 1, true))
  t.raises(function() load(records, { too_long = "leave_out" }) end, "needs a max_length")
  t.raises(function() load(records, { too_long = "drop" }) end, "cut, leave_out")
end)

local function loud() error "loud" end

t.test("an error inside a format function names the record and keeps the traceback", function()
  local records = { { q = "a" }, { q = "b" } }
  local function format(r)
    if r.q == "b" then loud() end
    return { { text = r.q .. "a", train = true } }
  end
  local message = t.raises(function() load(records, { format = format }) end, "data.load: record 2: ", "loud",
    "stack traceback:", "in upvalue 'loud'")
  assert(not message:find("reading.lua", 1, true), message)
  message = t.raises(function() load(records, { format = function(r) return r.x.y end }) end, "record 1: ", "nil value")
  assert(message:find "stack traceback:\n\t[^\n]*test_records.lua:%d+: in ", message)
  t.equal(#load(records, { format = format, skip_invalid = true }), 1)
  local ok, value = pcall(load, records, { format = function() error { exit_code = 3 } end, skip_invalid = true })
  t.equal({ ok, value.exit_code }, { false, 3 }) -- what is no text is no matter of the record
  -- An interrupt raises a table, too; a text of its kind is of the record.
  local function cut_off(r)
    if r.q == "b" then error("the line was interrupted", 0) end
    return format(r)
  end
  t.equal(#load(records, { format = cut_off, skip_invalid = true }), 1)
end)

t.test("what a format function returns is checked and named", function()
  local function given(value) return function() load({ {}, {} }, { format = function() return value end }) end end
  t.raises(given "text", 'gave "text" for record 1')
  t.raises(given { text = "a" }, "gave one span for record 1")
  t.raises(given { { text = 5 } }, "span 1 of record 1 needs a text")
  t.raises(given { { text = "a", train = 1 } }, "span 1 of record 1", "'train'")
  t.raises(given { nil, { text = "a", train = true } }, "for record 1, expected a list of spans")
  t.raises(given { { text = "a" }, train = true }, "for record 1, expected a list of spans")
end)

t.test("a template that is a function gets every field of a message", function()
  local seen
  local function template(messages)
    seen = messages[2].tool_calls
    return { { text = "x", train = true } }
  end
  said({ user, { role = "assistant", tool_calls = { "call" } } }, nil, { template = template })
  t.equal(seen, { "call" })
  t.raises(function() said({ user, with(answer, { tool_calls = { "call" } }) }, nil,
    { template = qlora.chat.templates.chatml }) end, "'tool_calls'") -- one of ours, passed itself
  t.raises(function() said({ user, answer }, nil, { template = function(m) return m.x.y end }) end, "record 1: ")
end)

t.test("half of a surrogate pair is no text", function()
  t.equal(qlora.json.decode '"\\ud83d\\ude00"', "\u{1F600}")
  for _, half in ipairs { '"\\ud83d"', '"\\ud83dx"', '"\\ude00"', '"\\ud83d\\u0041"' } do
    t.raises(function() qlora.json.decode(half) end, "both halves of a surrogate pair expected at byte 2")
  end
end)

t.test("docs/records.md says what the tables say", function()
  local file <close> = assert(io.open(t.directory .. "/../../docs/records.md"))
  local text = file:read "a"
  --- { field = rest of its row } of the last table in a section.
  local function rows(title)
    local section = assert(text:match("\n## " .. title .. "\n(.-)\n## "), title)
    local found = {}
    for names, rest in section:gmatch "\n(| `[^|]*) | ([^\n]*)" do
      for name in names:gsub("%(.-%)", ""):gmatch "`([%w_]+)`" do found[name] = { why = rest, names = names } end
    end
    return found
  end
  local documented = rows "Fields of a record"
  for _, entry in ipairs(fields.refused) do
    local row = documented[entry[1]] or error("no row for " .. entry[1])
    t.equal(row.why, entry[2] .. " |", entry[1])
    local formats = entry[3] and "(in `" .. table.concat(entry[3], "`, `") .. "`)"
    t.equal(row.names:match "%b()", formats, entry[1])
    documented[entry[1]] = nil
  end
  t.equal(documented, {}, "rows of fields that are not refused")
  documented = rows "Fields of a message"
  for _, entry in ipairs(fields.message_refused) do
    t.equal((documented[entry[1]] or {}).why, entry[2] .. " |", entry[1])
    documented[entry[1]] = nil
  end
  for _, name in ipairs(fields.message) do
    assert(documented[name], name)
    documented[name] = nil
  end
  t.equal(documented, {}, "rows of fields that nobody knows")
  for format, variants in pairs(fields.formats) do
    local parts = {}
    for i, variant in ipairs(variants) do
      local list = {}
      for k, field in ipairs(variant) do list[k] = ("`%s` (%s)"):format(field[1], field[2]) end
      parts[i] = table.concat(list, ", ")
    end
    local row = ("| `%s` | %s |"):format(format, table.concat(parts, "; or "))
    assert(text:find(row, 1, true), row)
  end
end)

t.test("an answer beside its question is not trained without it", function()
  local pair = { prompt = "Q", chosen = "A", rejected = "B" }
  t.raises(function() load { pair } end, 'to train what was chosen: format = "completion", map = { completion = "chosen" }')
  t.raises(function() load({ pair }, { format = "hh_rlhf" }) end, "record 1: 'prompt' is \"Q\", which is not read",
    'format = "completion", map = { completion = "chosen" }')
  t.equal(marked(load({ pair }, { format = "completion", map = { completion = "chosen" } })), "<s>Q[[A</s>]]")
  local asked = { question = "Q", chosen = "A", rejected = "B" }
  t.raises(function() load({ asked }, { format = "hh_rlhf" }) end, "record 1: 'question'",
    'map = { prompt = "question", completion = "chosen" }')
  t.raises(function() load { { chosen = "A", rejected = "B" } } end, 'to train what was chosen: format = "hh_rlhf"')
  t.equal(marked(load({ { chosen = "A", rejected = "B" } }, { format = "hh_rlhf" })), "[[<s>A</s>]]")
end)

t.test("lists of messages as prompt, completion and chosen are conversations", function()
  local early = { role = "assistant", content = "early" }
  local record = { prompt = { user, early, user }, completion = { answer } }
  local expected = "<s><|user|>\nq</s>\n<|assistant|>\nearly</s>\n<|user|>\nq</s>\n<|assistant|>\n[[a</s>]]\n"
  t.equal(marked(load({ record }, { template = "zephyr" })), expected)
  t.equal(marked(load({ record }, { template = "zephyr", format = "chat" })), expected)
  local own = native.byte_tokenizer { chat_template = t.chatml, markers = { "<|im_end|>" } }
  t.equal((marked(load({ record }, { tokenizer = own })):gsub("\3", "<|im_end|>")), "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nearly"
    .. "<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[[a<|im_end|>]]\n")
  t.raises(function() load({ record }, { format = "completion" }) end, "'completion' is a list of 1, expected a text",
    'to train a list of messages: format = "chat"')
  for _, case in ipairs {
    { { prompt = { user }, chosen = { answer }, rejected = { answer } },
      'format = "chat", map = { completion = "chosen" }', { format = "chat", map = { completion = "chosen" } } },
    { { chosen = { user, answer }, rejected = { user, answer } },
      'format = "chat", map = { messages = "chosen" }', { format = "chat", map = { messages = "chosen" } } },
    { { prompt = "q", chosen = { user, answer }, rejected = { user, answer } },
      'format = "chat", map = { messages = "chosen" }', { format = "chat", map = { messages = "chosen" } } },
    { { prompt = "q", chosen = { answer }, rejected = { answer } },
      'map = function(r) return { messages = { { role = "user", content = r.prompt }, table.unpack(r.chosen) } } end',
      { map = function(r) return { messages = { { role = "user", content = r.prompt }, table.unpack(r.chosen) } } end } },
  } do
    t.raises(function() load { case[1] } end, "to train what was chosen: " .. case[2])
    t.raises(function() load({ case[1] }, { format = "hh_rlhf" }) end, "record 1: 'chosen' is a list",
      "to train a list of messages: " .. case[2])
    case[3].template = "zephyr"
    t.equal(marked(load({ case[1] }, case[3])), "<s><|user|>\nq</s>\n<|assistant|>\n[[a</s>]]\n")
  end
end)

t.test("a split leaves both parts something", function()
  local function set(count)
    local records = {}
    for i = 1, count do records[i] = { prompt = "p", completion = "c" .. i } end
    return load(records)
  end
  t.raises(function() set(1):split(0.05) end, "there is 1 sample, and each part needs one")
  for _, at in ipairs { 0.01, 0.5, 0.99, 1 } do
    local first, second = set(2):split(at)
    t.equal({ #first, #second }, { 1, 1 }, at)
  end
end)

t.test("a judgement of KTO is refused where an answer is trained, and the remedy works", function()
  local good, bad = { prompt = "p", completion = "c", label = true }, { prompt = "q", completion = "d", label = false }
  for _, record in ipairs { good, bad, { messages = { user, answer }, label = false } } do
    t.raises(function() load({ record }, { template = "zephyr" }) end, "'label' is " .. tostring(record.label),
      "no training on single judgements")
  end
  local data = load({ good, bad }, { map = function(r) if r.label then return r end end, ignore = { "label" } })
  t.equal(#data, 1)
  t.equal(#load({ { prompt = "p", completion = "c", label = 1 } }, {}), 1) -- a class of a data set
  t.equal(#load({ { text = "p", label = true } }, { format = "text" }), 1)
  local ok, message = pcall(require "qlora.data.pairs".refuse_label, false, true)
  assert(not ok and message:find('r.label:lower() == "true"', 1, true), message)
end)
