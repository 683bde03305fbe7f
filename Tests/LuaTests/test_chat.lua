local t = require "harness"
local qlora = require "qlora"
local native = require "qlora.native"
local chat = qlora.chat
local chat_model = require "qlora.chat_model"

local golden = dofile(t.directory .. "/golden/chat.lua")

t.test("templates equal the models' Jinja output", function()
  assert(#golden > 30)
  for _, case in ipairs(golden) do
    local name = case.template:match("^(%w+)")
    local text = chat.apply(name, case.messages, {
      bos_token = "<s>", eos_token = "</s>", add_generation_prompt = case.generate,
      default_system = case.template == "chatml_default"
        and "You are a helpful AI assistant named SmolLM, trained by Hugging Face" or nil,
    })
    t.equal(text, case.text, case.template .. (case.generate and " with generation prompt" or ""))
  end
end)

local conversation = {
  { role = "user", content = "one" }, { role = "assistant", content = "two" },
  { from = "human", value = "three" }, { from = "gpt", value = "four" },
}

t.test("assistant text and its end marker are trained, nothing else", function()
  local spans = chat.spans("chatml", conversation)
  t.equal(#spans, 5)
  t.equal(spans[2], { text = "two<|im_end|>", train = true })
  t.equal(spans[3], { text = "\n<|im_start|>user\nthree<|im_end|>\n<|im_start|>assistant\n", train = false })
  for _, name in ipairs { "llama2", "llama3", "mistral", "zephyr", "alpaca" } do
    local trained = {}
    for _, span in ipairs(chat.spans(name, conversation)) do
      if span.train then trained[#trained + 1] = span.text:match("%a+") end
    end
    t.equal(trained, { "two", "four" }, name)
  end
  t.equal(#chat.spans("chatml", conversation, { train = "last" }), 3)
end)

t.test("tokenizer:apply_chat uses the model's template", function()
  local tokenizer = native.byte_tokenizer { chat_template = t.chatml }
  t.equal(tokenizer:apply_chat({ conversation[1] }, { add_generation_prompt = true }),
    "<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n")
  t.raises(function() native.byte_tokenizer():apply_chat(conversation) end, "template =", "zephyr")
  t.raises(function() chat.apply("chatlm", conversation) end, '"chatml"')
  t.raises(function() chat.apply("llama2", { conversation[2] }) end, "message 1 must be from the user")
  t.raises(function() chat.apply("chatml", { { role = "user" } }) end, "message 1 needs a role and a content")
end)

local turns = {
  { { role = "system", content = "It's\n\\so. BOS" }, { role = "user", content = " one " },
    { role = "assistant", content = "two " } },
  { { role = "user", content = "one" }, { role = "assistant", content = "two" }, { role = "user", content = "" },
    { role = "assistant", content = "four" } },
}

t.test("a template by name has a Jinja source that makes the ids of training", function()
  local count = 0
  for name in pairs(chat.templates) do
    for _, lacks in ipairs { {}, { "adds_bos" }, { "adds_bos", "bos_token", "eos_token" } } do
      local tokenizer = native.byte_tokenizer { markers = { "<|im_start|>", "<|im_end|>", "<|eot_id|>" } }
      for _, key in ipairs(lacks) do tokenizer[key] = nil end
      for i, messages in ipairs(turns) do
        for _, system in ipairs(name == "mistral" and {} or { false, "Don't\n\\ BOS" }) do
          local function ids(template, list, generate)
            return tokenizer:apply_chat(list, { template = template, tokenize = true, add_generation_prompt = generate,
              default_system = type(template) == "string" and system or nil })
          end
          local data = qlora.data.from_records({ { messages = messages }, { messages = messages } },
            { tokenizer = tokenizer, format = "chat", quiet = true, template = name, default_system = system or nil })
          local own = chat_model.from(tokenizer, data:split(1).chat_template)
          t.equal(ids(own, messages), data[1].ids, name .. " " .. i)
          local asked = table.move(messages, 1, #messages - 1, 1, {})
          t.equal(ids(own, asked, true), ids(name, asked, true), name .. " " .. i .. ", asked")
          count = count + 1
        end
      end
    end
  end
  t.equal(count, 5 * 3 * 2 * 2)
end)

t.test("a template may be a file, and one that is no template is refused", function()
  local tokenizer = native.byte_tokenizer { chat_template = t.chatml, markers = { "<|im_start|>", "<|im_end|>" } }
  local path = os.tmpname()
  local file = assert(io.open(path, "wb"))
  file:write "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
  file:close()
  local o = { tokenizer = tokenizer, format = "chat", quiet = true, template = path }
  local data = qlora.data.from_records({ { messages = turns[2] } }, o)
  t.equal(tokenizer:decode(data[1].ids), "user: one</s>assistant: two</s>user: </s>assistant: four</s>")
  t.equal(tokenizer:apply_chat({ turns[2][1] }, { template = path }), "user: one</s>")
  assert(data.chat_template:find "for m in messages")
  t.equal(qlora.data.from_records({ { messages = turns[2] } }, { tokenizer = tokenizer, format = "chat",
    quiet = true }).chat_template, t.chatml)
  o.default_system = "Be kind."
  data = qlora.data.from_records({ { messages = turns[2] } }, o)
  t.equal(tokenizer:apply_chat({ turns[2][1] }, { template = chat_model.from(tokenizer, data.chat_template) }),
    "system: Be kind.</s>user: one</s>")
  o.default_system = nil
  os.remove(path)
  for template, words in pairs { ["no/such.jinja"] = "there is no chat template", chatlm = 'did you mean "chatml"',
    [{}] = "is a table, expected a name" } do
    o.template = template
    t.raises(function() qlora.data.from_records({ { messages = turns[2] } }, o) end, words)
  end
  local alpaca = { { instruction = "a", output = "b" } }
  t.equal(qlora.data.from_records(alpaca, { tokenizer = tokenizer, quiet = true }).chat_template, nil)
  native.options.quiet = false
  local said = t.captured(function()
    qlora.data.from_records(alpaca, { tokenizer = tokenizer, template = "chatml" })
  end)
  native.options.quiet = true
  assert(said:find "template is not read: format alpaca has no chats", said)
end)

t.test("what a template may be is the same for all that take one", function()
  local tokenizer = native.byte_tokenizer()
  local messages = { { role = "user", content = "one" }, { role = "assistant", content = "two" } }
  local called = setmetatable({}, { __call = function(_, list)
    return { { text = list[1].content }, { text = list[2].content .. "</s>", train = true } }
  end })
  for what, asked in pairs {
    ["chat.spans"] = function(template) return chat.apply(template, messages) end,
    apply_chat = function(template) return tokenizer:apply_chat(messages, { template = template }) end,
    ["data.load"] = function(template)
      return tokenizer:decode(qlora.data.from_records({ { messages = messages } }, { tokenizer = tokenizer,
        format = "chat", quiet = true, template = template })[1].ids):gsub("^<s>", "")
    end,
  } do
    t.equal((asked(called)), "onetwo</s>", what)
    t.raises(function() asked "chatlm" end, what .. ": option 'template' has no choice", 'did you mean "chatml"')
    t.raises(function() asked {} end, what .. ": option 'template' is a table", "a name, a file, a function")
    t.raises(function() asked(5) end, what .. ": option 'template'", "5")
  end
  t.raises(function() chat.apply(nil, messages) end, "option 'template' is nil, expected a name")
  t.raises(function() chat.apply("no/such.jinja", messages) end, "has no choice", "choices: alpaca, chatml")
end)

t.test("an answer ends with the token or the text of its template", function()
  local tokenizer = native.byte_tokenizer()
  local source = require "qlora.chat_source"
  local function ends(name, one) return chat_model.answer_end(source.of_name(name, one or tokenizer)) end
  t.equal({ ends "zephyr" }, { tokenizer.eos })
  local id, text = ends "chatml"
  t.equal({ id or "none", text }, { "none", "<|im_end|>" })
  local marked = native.byte_tokenizer { markers = { "<|im_start|>", "<|im_end|>" } }
  t.equal({ ends("chatml", marked) }, { marked:encode("<|im_end|>")[1] })
end)

t.test("a template by name is known by its source, so that eval writes its marks as training did", function()
  local source, model = require "qlora.chat_source", require "qlora.chat_model"
  local tokenizer = native.byte_tokenizer {}
  for _, name in ipairs { "alpaca", "chatml", "llama3", "zephyr" } do
    t.equal(source.name_of(source.of_name(name, tokenizer), tokenizer), name)
  end
  t.equal(source.name_of(model.from(tokenizer, "{{ messages[0].content }}"), tokenizer), nil)
end)

t.test("a tokenizer has one template, whichever of its values asks", function()
  local source, model = require "qlora.chat_source", require "qlora.chat_model"
  local one = native.byte_tokenizer { chat_template = t.chatml }
  -- As the engine: each access is a value of its own, which equals the others.
  local value = { __index = one }
  function value.__eq(a, b) return getmetatable(a) == value and getmetatable(b) == value end
  local function access() return setmetatable({}, value) end
  local own, named = model.of(access()), source.of_name("zephyr", access())
  collectgarbage()
  assert(rawequal(model.of(access()), own) and rawequal(model.from(access(), t.chatml), own))
  assert(rawequal(source.of_name("zephyr", access()), named) and named ~= own)
  assert(model.of(native.byte_tokenizer { chat_template = t.chatml }) ~= own)
end)

t.test("what a client of serve sends wrongly is its own fault, and no path of the server is told", function()
  local openai = require "qlora.openai"
  local function refused(fields, body, param, message)
    local required = fields == openai.chat_fields and "messages" or "prompt"
    local ok, raised = pcall(openai.read, body, fields, required)
    t.equal({ ok, raised.status, raised.param }, { false, 400, param }, body)
    assert(raised.message:find(message, 1, true), raised.message)
  end
  local text, talk = openai.completion_fields, openai.chat_fields
  refused(text, '{"prompt":"a\xff"}', nil, "the body is not a JSON object: json: UTF-8 expected at byte 13")
  refused(text, '{"prompt":"\\ud800"}', nil, "surrogate pair")
  refused(text, "[null]", nil, "the body is not a JSON object")
  for _, prompt in ipairs { "[5,null,6]", "[5,null]", "[null]", "[null,5]", '["a",null]', "5", '{"a":5}' } do
    refused(text, ('{"prompt":%s}'):format(prompt), "prompt", "'prompt' must be a text or a list of token ids")
  end
  for _, stop in ipairs { '{"a":1}', "[null]", '["a",null]', '[null,"a"]', "[5]", "5", '[""]' } do
    refused(text, ('{"prompt":"a","stop":%s}'):format(stop), "stop", "'stop' must be a text or up to four texts")
  end
  refused(talk, '{"messages":[]}', "messages", "a list of messages")
  refused(text, '{"prompt":null}', "prompt", "'prompt' is missing")
  local body = openai.read('{"prompt":[5,6],"stop":null,"user":null}', text, "prompt")
  t.equal(body, { prompt = { 5, 6 } })
  t.equal(openai.read('{"prompt":"a","stop":["b","c"]}', text, "prompt").stop, { "b", "c" })
  -- What is null in a list of messages is no shorter list.
  local messages = openai.read('{"messages":[{"role":"user","content":"a"},null]}', talk, "messages").messages
  local template = chat_model.from(native.byte_tokenizer(), t.chatml)
  t.raises(function() chat_model.text(template, messages, { is_request = true }) end, "chat: message 2")
  local status, said = openai.failure("/home/me/stdlib/qlora/x.lua:40: encode: it broke")
  t.equal({ status, qlora.json.decode(said).error.message }, { 500, "encode: it broke" })
  status, said = openai.failure(select(2, pcall(openai.fail, 404, nil, "a:1: b")))
  t.equal({ status, qlora.json.decode(said).error.message }, { 404, "a:1: b" })
end)

local function own(source)
  return chat.for_tokenizer(native.byte_tokenizer { chat_template = source, markers = { "<|end|>", "<|stop|>" } })
end

--- The text of a conversation under a Jinja source, with what is trained in [[…]].
local function marked(source, messages, options)
  local parts, on = {}, false
  for _, span in ipairs(chat.spans(own(source), messages, options)) do
    if span.train ~= on then parts[#parts + 1] = on and "]]" or "[[" end
    on, parts[#parts + 1] = span.train, span.text
  end
  return table.concat(parts) .. (on and "]]" or "")
end

local generation = {}
for _, case in ipairs(dofile(t.directory .. "/golden/generation.lua")) do generation[case.name] = case end

t.test("under generation blocks is trained what transformers marks", function()
  local count = 0
  for name, case in pairs(generation) do
    for i, one in ipairs(case.cases) do
      t.equal(marked(case.source, one.messages, { roles = { "tool" } }), one.marked, name .. " " .. i)
      count = count + 1
    end
  end
  t.equal(count, 22)
end)

t.test("marks of messages and train = last decide for the generation blocks of a message", function()
  local function said(name, changes, options, list)
    local messages = {}
    for i, message in ipairs(list or generation[name].cases[2].messages) do
      messages[i] = { role = message.role, content = message.content, train = changes[i] }
    end
    options = options or {}
    options.roles = { "tool" }
    local parts = {}
    for part in marked(generation[name].source, messages, options):gmatch "%[%[(.-)%]%]" do parts[#parts + 1] = part end
    return parts
  end
  -- messages 3 and 5 are the answers; what stands behind the loop belongs to the last one
  t.equal(said("after", { [3] = false }), { "Grüße 🌍<|end|>\n</s>" })
  t.equal(said("after", { [5] = false }), { "Yo<|end|>\n" })
  t.equal(said("after", {}, { train = "last" }), { "Grüße 🌍<|end|>\n</s>" })
  t.equal(said("several", { [5] = false }), { "Yo", "<|end|>\n" })
  t.equal(said("several", { [3] = true }, { train = "last" }), { "Yo", "<|end|>\n", "Grüße 🌍", "<|end|>\n" })
  t.equal(said("macro", { [3] = false }), { "Grüße 🌍" })
  -- a message without a block of its own is trained beside the blocks
  t.equal(said("after", { [2] = true, [3] = false }), { "Hi<|end|>", "Grüße 🌍<|end|>\n</s>" })
  t.equal(said("call", { [2] = true }), { "Hi<|end|>", "Yo", "Grüße 🌍" })
  -- a block of no answer belongs to the answer before, unless its message is marked
  local with_tool = generation.merged.cases[3].messages
  t.equal(said("merged", { [2] = false }, nil, with_tool), { "<|end|>" })
  t.equal(said("merged", { [4] = false }, nil, with_tool), { "<|end|>", "<more>" })
  t.equal(said("merged", { [3] = false }, nil, with_tool), { "<|end|>", "<|end|>" })
  t.equal(said("merged", { [3] = true }, { train = "last" }, with_tool), { "<more>", "<|end|>" })
  t.raises(function() said("last", { [3] = true }) end, "message 3 is marked as trained", "no generation block for it")
  for _, name in ipairs { "whole", "by_number" } do
    t.raises(function() said(name, { [3] = false }) end, "generation block in line 1 of the template stands in no loop")
    t.equal(said(name, { [2] = false }, nil, generation[name].cases[1].messages), {})
  end
  local block = "{% generation %}{{ messages[N].content }}{% endgeneration %}"
  for _, source in ipairs { "{% for m in messages %}{% endfor %}" .. generation.whole.source,
    "{{ messages[0].content }}" .. block:gsub("N", 1) .. block:gsub("N", 2) } do
    t.raises(function() marked(source, { { role = "user", content = "a" }, { role = "assistant", content = "b" },
      { role = "assistant", content = "c", train = false } }) end, "stands in no loop over the messages")
  end
end)

t.test("a generation block that transformers takes for other words is refused", function()
  local messages = generation.macro.cases[1].messages
  for _, source in ipairs {
    "{% macro say(m) %}<|{{ m.role }}|>\n{% generation %}{{ m.content }}{% endgeneration %}<|end|>{% endmacro %}"
      .. "{% for m in messages %}{{ say(m) }}{% endfor %}",
    "{% for m in messages %}{% set x %}\n{% generation %}{{ m.content }}{% endgeneration %}{% endset %}"
      .. "<|{{ m.role }}|>{{ x }}<|end|>{% endfor %}",
  } do
    t.raises(function() marked(source, messages) end, "chat: the generation block in line",
      "stands in a macro or captured text behind other text")
  end
end)

t.test("a chat template that is none is an error with its file and line, wherever it is read", function()
  local path = os.tmpname()
  local messages = { { role = "user", content = "one" }, { role = "assistant", content = "two" } }
  local records = { { messages = messages }, { messages = messages } }
  for source, words in pairs {
    ["{% if %}"] = "line 1: expected an expression, got '%}'",
    ["\n{% include 'x' %}"] = "line 2: the tag 'include' is not supported",
    ["{% block x %}"] = "line 1: the tag 'block' is not supported",
    ["a\n\n{% for m in messages %}"] = "line 3: this block is never closed",
    ["\n{{ '\\N{DASH}' }}"] = "line 2: characters by name (\\N) are not supported",
    ["{{ 99999999999999999999 }}"] = "line 1: 99999999999999999999 is too large a number",
    ["{{ 1 | nope }}"] = "line 1: No filter named 'nope'.",
  } do
    local file <close> = assert(io.open(path, "wb"))
    file:write(source)
    file:close()
    local plain, broken = native.byte_tokenizer(), native.byte_tokenizer { chat_template = source }
    for name, asked in pairs {
      [path] = function() plain:apply_chat(messages, { template = path }) end,
      ["data.load: chat template " .. path] = not words:find "filter" and function()
        qlora.data.load(records, { tokenizer = plain, format = "chat", template = path, skip_invalid = true })
      end or nil,
      ["the tokenizer's chat template"] = function() broken:apply_chat(messages) end,
      ["the tokenizer's chat template: "] = function() chat.spans(own(source), messages) end,
    } do t.raises(asked, name, words) end
  end
  os.remove(path)
  local tokenizer = native.byte_tokenizer { chat_template = t.chatml }
  for _, content in ipairs { print, io.stdout } do
    t.raises(function() tokenizer:apply_chat { { role = "user", content = content } } end,
      "cannot be given to a template")
  end
end)

--- The text of a conversation under a Jinja source.
local function chat_of(source, messages, options)
  return (marked(source, messages, options):gsub("%[%[", ""):gsub("%]%]", ""))
end

t.test("a part that is no text is an error, unless the template takes its kind apart", function()
  local reads = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for p in m.content %}{% if p.type == 'thinking' %}"
    .. "<think>{{ p.thinking }}</think>{% elif p.type == 'text' %}{{ p.text }}{% else %}{{ p.text }}{% endif %}"
    .. "{% endfor %}<|im_end|>\n{% endfor %}"
  local unchecked = "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}<|im_end|>{% endfor %}"
  local prints = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
  local as_json = prints:gsub("m.content", "m.content | tojson")
  for said, part in pairs { ['is of type "output_text"'] = { type = "output_text", text = "b" },
    ['is of type "input_text"'] = { type = "input_text", text = "b" },
    ['is of type "Text"'] = { type = "Text", text = "b" },
    ['is of type "refusal"'] = { type = "refusal", refusal = "b" }, ["is without a type"] = { text = "b" },
    ['is of type "text" and has as its text 5'] = { type = "text", text = 5 },
    ["is without a text"] = { type = "text" },
    ['is "b"'] = "b", ["is 5"] = 5, ["is list"] = { "b" } } do
    for _, source in ipairs { t.chatml, reads, unchecked, prints, as_json } do
      for _, role in ipairs { "user", "assistant" } do
        t.raises(function() chat_of(source, { { role = role, content = { { type = "text", text = "a" }, part } } }) end,
          "chat: message 1: part 2 of its content " .. said, 'expected {"type": "text", "text": …}')
      end
    end
  end
  local thinking = { { type = "thinking", thinking = "Hm." }, { type = "text", text = "b" } }
  t.equal(chat_of(reads, { { role = "user", content = thinking } }),
    "<|im_start|>user\n<think>Hm.</think>b<|im_end|>\n")
  thinking[1].signature = "x"
  t.raises(function() chat_of(reads, { { role = "user", content = thinking } }) end,
    "part 1 of its content has 'signature', which is not read")
  local names_it = "{% set kinds = ['thinking'] %}" .. unchecked
  for _, source in ipairs { t.chatml, unchecked, names_it, prints, as_json } do
    t.raises(function() chat_of(source, { { role = "user", content = thinking } }) end,
      'part 1 of its content is of type "thinking"')
  end
  -- a template that does not look at the type writes the text of any part
  local named_text = { { role = "user", content = { { type = "thinking", text = "b" } } } }
  t.raises(function() chat_of(names_it, named_text) end, 'part 1 of its content is of type "thinking"')
end)

t.test("a content of another type is an error, but for a tool's that the template writes", function()
  local prints = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
  local drops = prints:gsub("m.content", "m.content if m.content is string else ''")
  local as_json = prints:gsub("m.content", "(m.content if m.content is string else m.content | tojson)")
  for said, content in pairs { ["5"] = 5, ["true"] = true, ["false"] = false, ["a table"] = { a = 1 } } do
    for _, source in ipairs { prints, drops, as_json, t.chatml } do
      for _, role in ipairs { "user", "assistant", "system" } do
        t.raises(function() chat_of(source, { { role = role, content = content } }) end,
          "chat: message 1: its content is " .. said .. ", expected a text or a list of parts")
      end
    end
  end
  local roles = { roles = { "tool" } }
  local function tool(content) return { { role = "tool", content = content } } end
  t.raises(function() chat_of(as_json, tool(5), roles) end, "its content is 5")
  t.equal(chat_of(as_json, tool { a = 1 }, roles), '<|im_start|>{"a": 1}<|im_end|>')
  t.equal(chat_of(as_json, tool { { a = 1 } }, roles), '<|im_start|>[{"a": 1}]<|im_end|>')
  t.raises(function() chat_of(prints, tool { a = 1 }, roles) end, "message 1: its content is a table",
    "writes as Python does")
  t.raises(function() chat_of(drops, tool { a = 1 }, roles) end, "message 1: its content is a table", "does not write")
  t.raises(function() chat_of(prints, tool { { a = 1 } }, roles) end,
    "message 1: part 1 of its content is without a type")
end)
