--- The models' own templates: rendering, sandbox, and what is trained.
local t = require "harness"
local qlora = require "qlora"
local native = require "qlora.native"
local conversation = require "qlora.jinja.conversation"
local jinja = require "qlora.jinja"
local values = require "qlora.jinja.values"

local folder = t.directory .. "/../Fixtures/templates"
local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return (file:read "a")
end

t.test("templates render as transformers renders them", function()
  local made = jinja.read_json(read(folder .. "/expected.json"))
  local conversations, texts = values.raw(made, "conversations"), values.raw(made, "texts")
  local count = 0
  for _, name in ipairs(texts.keys) do
    local source = read(("%s/%s.jinja"):format(folder, name))
    for i = 1, conversations.n do
      local given, variables = conversations[i], {}
      for _, from in ipairs { values.raw(made, "variables"), given, values.raw(given, "options") or values.dict() } do
        for _, key in ipairs(from.keys) do variables[key] = values.raw(from, key) end
      end
      local ok, text = pcall(conversation.render, source, variables)
      local expected = values.raw(texts, name)[i]
      if expected == values.None then assert(not ok, name .. ", an error: " .. values.raw(given, "about"))
      else t.equal(text, expected, name .. ", " .. values.raw(given, "about")) end
      count = count + 1
    end
  end
  assert(count > 250, count)
end)

t.test("errors name the template and its line", function()
  for source, parts in pairs {
    ["a\n{{ x.y }}"] = { "template: line 2: 'x' is undefined" },
    ["{% if x %}\n\n"] = { "line 1: this block is never closed", "endif" },
    ["\n{{ 'a"] = { "line 2: a text that is opened here has no closing quote" },
    ["{% include 'a' %}"] = { "line 1: the tag 'include' is not supported" },
    ["{{ raise_exception('no') }}"] = { "the template says: no" },
    ["{{ [].append(1) }}"] = { "access to attribute 'append' of 'list' object is unsafe" },
    ["{{ 'a'.upper }}"] = { "line 1: a", "cannot be printed" },
    ["{{ 1 | nope }}"] = { "No filter named 'nope'." },
    ["{{ 1 is nope }}"] = { "No test named 'nope'." },
    ["{{ 'a' + 1 }}"] = { 'can only concatenate str (not "int") to str' },
    ["{{ 9223372036854775807 + 1 }}"] = { "beyond 64 bits" },
    ["{{ 'ẁ' | upper }}"] = { "U+1E81 are not supported" },
    ["{{ x"] = { "has no }}" },
    ["\xFF"] = { "is no UTF-8" },
  } do t.raises(function() jinja.render(source, {}) end, table.unpack(parts)) end
end)

t.test("templates reach nothing of Lua and cannot run without end", function()
  t.equal(jinja.render("{{ ([] * 10 ** 12) | length }}{{ '' * 10 ** 12 }}{{ [1] * -1 }}", {}), "0[]")
  for _, name in ipairs { "os", "io", "require", "load", "string", "_G", "__index", "setmetatable", "qlora" } do
    t.equal(jinja.render("{{ " .. name .. " is defined }}{{ ''." .. name .. " is defined }}", {}), "FalseFalse", name)
  end
  for source, part in pairs {
    ["{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"] = "steps",
    ["{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"] = "too deeply",
    ["{{ 'a' * 999999999 }}"] = "grows above",
    ["{{ 'ab' * 4611686018427387904 }}"] = "grows above",
    ["{{ [1, 2, 3, 4] * 4611686018427387904 }}"] = "grows above",
    ["{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}"] = "grows",
    ["{% set ns = namespace(x=[]) %}{% for i in range(99) %}{% set ns.x = [ns.x] %}{% endfor %}"
      .. "{% for i in range(99) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}"] = "too deeply",
    ["{{ range(999999999) }}"] = "Range too big",
    [("("):rep(999) .. "{{ " .. ("("):rep(999) .. ("1"):rep(1) .. (")"):rep(999) .. " }}"] = "nested too deeply",
  } do t.raises(function() jinja.render(source, {}) end, part) end
end)

t.test("numbers, names of loops and arguments are as in Python (jinja2 3.1, Python 3.11)", function()
  for source, text in pairs {
    ["'١٢' | int"] = "12", ["'-१२' | int"] = "-12", ["'１２' | int(base=16)"] = "18",
    ["'१.५' | float"] = "1.5", ["'²' | int"] = "0", ["'-0' | float"] = "-0.0", ["-0.0 | float"] = "-0.0",
    ["5.0 % -2.5"] = "-0.0", ["-5.0 % 2.5"] = "0.0", ["0.0 % -2"] = "-0.0", ["5.5 % -2"] = "-0.5", ["4 % -2"] = "0",
    ["-0.0 // 1"] = "-0.0", ["0.0 // -1"] = "-0.0", ["-0.0 // -1"] = "0.0", ["-0.5 // 1"] = "-1.0",
    ["0.3 // 1"] = "0.0", ["1 // 0.1"] = "9.0", ["-0.4 | round"] = "-0.0", ["-0.04 | round(1)"] = "-0.0", ["0.4 | round"] = "0.0",
    ["-0.4 | round(0, 'ceil')"] = "0.0", ["(-0.0) ** 1"] = "-0.0", ["(1e308 * 10) | tojson"] = "Infinity",
    ["'a b'.rsplit(maxsplit=1)"] = "['a', 'b']", ["'{x}'.format(x=1)"] = "1",
    ["'aa' | replace('a', 'b', count=1)"] = "ba",
  } do t.equal(jinja.render("{{ " .. source .. " }}", {}), text, source) end
  for _, call in ipairs { "'a'.replace('a', 'b', count=1)", "'a'.strip(chars='a')", "{}.get(key='a')",
    "[1].index(value=1)" } do
    t.raises(function() jinja.render("{{ " .. call .. " }}", {}) end, "takes no keyword arguments")
  end
  local set = "{% set loop = 5 %}{{ loop }}"
  for _, source in ipairs { set, "{% for x in [1] %}{% endfor %}" .. set, "{% for x in [1] %}{% with loop = 5 %}"
    .. "{{ loop }}{% endwith %}{% endfor %}", "{% macro m(loop) %}{{ loop }}{% endmacro %}{% for x in [1] %}{{ m(5) }}"
    .. "{% endfor %}" } do t.equal(jinja.render(source, {}), "5", source) end
  for _, body in ipairs { set, "{% if x %}" .. set .. "{% endif %}", "{% set loop %}a{% endset %}",
    "{% set a, loop = 1, 5 %}", "{% else %}" .. set, "{% macro m() %}" .. set .. "{% endmacro %}",
    "{% for loop in [] %}{% endfor %}" } do
    t.raises(function() jinja.render("{% for x in [1] %}" .. body .. "{% endfor %}", {}) end,
      "line 1: cannot assign to 'loop' in a loop")
  end
end)

local function tokenizer_of(source, markers)
  return native.byte_tokenizer { chat_template = source, markers = markers }
end
local function template(name) return read(("%s/%s.jinja"):format(folder, name)) end

--- What is trained of each sample, as text.
local function trained(source, messages, options)
  local tokenizer = tokenizer_of(source, { "<|stop|>", "<|im_end|>" })
  local parts, whole = {}, {}
  for _, span in ipairs(qlora.chat.spans(qlora.chat.for_tokenizer(tokenizer), messages, options)) do
    if span.train then parts[#parts + 1] = span.text end
    whole[#whole + 1] = span.text
  end
  return parts, table.concat(whole), tokenizer
end

local talk = {
  { role = "user", content = "one" }, { role = "assistant", content = "two", reasoning_content = "Hm." },
  { role = "user", content = "three" }, { role = "assistant", content = "four", reasoning_content = "So." },
}

t.test("turns are trained with their end, also where the template rewrites history", function()
  local parts, whole, tokenizer = trained(template "history", talk)
  t.equal(parts, { "two<|stop|>", "<think>\nSo.\n</think>\n\nfour<|stop|>" })
  t.equal(whole, tokenizer:apply_chat(talk))
  t.equal(trained(template "history", talk, { train = "last" }), { "<think>\nSo.\n</think>\n\nfour<|stop|>" })
  local plain = { { role = "user", content = "one", train = true }, { role = "assistant", content = "two", weight = 0 },
    { role = "user", content = "three" }, { role = "assistant", content = "four" } }
  t.equal(trained(template "chatml_trim", plain), { "one<|im_end|>", "four<|im_end|>" })
end)

t.test("generation blocks say what is trained", function()
  local plain = { { role = "user", content = "one" }, { role = "assistant", content = "two" },
    { role = "user", content = "three" }, { role = "assistant", content = "four" } }
  t.equal(trained(template "generation", plain), { "two<|stop|>", "four<|stop|>" })
  t.equal(trained(template "generation", plain, { train = "last" }), { "four<|stop|>" })
  plain[2].train = false
  t.equal(trained(template "generation", plain), { "four<|stop|>" })
end)

t.test("what a template never reads is an error that names it", function()
  t.raises(function() trained(template "generation", talk) end, "message 2 has 'reasoning_content'",
    'ignore = { "reasoning_content" }')
  t.equal(#trained(template "generation", talk, { ignore = { "reasoning_content" } }), 2)
  t.raises(function() trained(template "history", talk, { tools = { { name = "f" } } }) end, "there are tools")
  t.raises(function() trained(template "history", talk, { template_options = { thinking_mode = "x" } }) end,
    "never reads the template option 'thinking_mode'")
  local open = trained(template "history", { talk[1] }, { template_options = { enable_thinking = false },
    add_generation_prompt = true })
  t.equal(open, {})
  t.raises(function() qlora.chat.spans("chatml", talk, { tools = {} }) end, "tools are for a model's own template")
end)

--- The text of the first sample, and that of its messages under the template that an adapter keeps.
local function kept(tokenizer, record, options, more)
  options.tokenizer, options.format, options.quiet = tokenizer, "chat", true
  local data = qlora.data.from_records({ record, record }, options)
  local source = data.chat_template
  return tokenizer:decode(data[1].ids), tokenizer:apply_chat(record.messages,
    { template = require "qlora.chat_model".from(tokenizer, source), tools = record.tools, template_options = more }),
    source
end

local echo = "{{ bos_token }}{% macro shown(x) %}{{ x | default('-') | tojson }}"
  .. "{{ mode | default('-') | tojson }}{% endmacro %}"
  .. "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ shown(style) }}{{ eos_token }}{% endfor %}"

t.test("an adapter keeps template options as what they are when nobody gives them", function()
  local tokenizer = tokenizer_of(echo, {})
  local record = { messages = { { role = "user", content = "one" }, { role = "assistant", content = "two" } } }
  for _, value in ipairs { false, true, 0, -7, 0.1, 1e300, "", "it's\n\\ \"{{ x }}\" %} é\u{2028}", { 1, { "a", {} } },
    { b = { c = false }, ["d e"] = 2.5 } } do
    local text, again = kept(tokenizer, record, { template_options = { style = value, mode = "fast" } })
    t.equal(again, text)
    assert(text:find('"fast"', 1, true))
  end
  local options = { style = false, mode = 1 }
  local _, changed, source = kept(tokenizer, record, { template_options = options }, { mode = 2 })
  t.equal(changed, "<s>user: onefalse2</s>assistant: twofalse2</s>")
  t.equal({ options, select(3, kept(tokenizer, record, {})) }, { { style = false, mode = 1 }, echo })
  assert(source:sub(-#echo) == echo)
  options.bos_token = "" -- the tokenizer gives it, too
  local text, again = kept(tokenizer, record, { template_options = options, default_system = "It's" })
  t.equal({ text, again }, { text, "system: It'sfalse1</s>user: onefalse1</s>assistant: twofalse1</s>" })
  t.equal(again, text)
  for _, value in ipairs { math.huge, 0 / 0, { -math.huge } } do
    t.raises(function() kept(tokenizer, record, { template_options = { style = value, mode = 1 } }) end,
      "template option 'style'", "no template can write")
  end
  t.raises(function() kept(tokenizer, record, { template_options = { style = print } }) end,
    "data.load: option 'template_options': a function cannot be given to a template")
  t.raises(function() kept(tokenizer, record, { default_system = "\xff" }) end, "data.load:")
  t.raises(function() tokenizer:apply_chat(record.messages, { template_options = { ["m.role"] = 1 } }) end,
    "never reads the template option 'm.role'")
end)

t.test("an adapter keeps the template of conversations with tools beside options", function()
  local record = { messages = { { role = "user", content = "one" }, { role = "assistant", content = "two" } } }
  for _, default in ipairs { "{{ mode }}" .. echo .. "\n", false } do
    local tokenizer = tokenizer_of(default or nil, {})
    tokenizer.named_chat_templates = { tool_use = "{{ mode }}{{ tools | length }} tools " .. echo .. "\n  \n" }
    for _, tools in ipairs(default and { false, { { name = "f" } } } or { { { name = "f" } } }) do
      record.tools = tools or nil
      local text, again = kept(tokenizer, record, { template_options = { mode = "fast", style = 1 } })
      t.equal(again, text)
      t.equal(text:find("1 tools", 1, true) ~= nil, tools ~= false)
    end
    if not default then
      record.tools = nil
      local source = select(3, kept(tokenizer, { messages = record.messages, tools = { { name = "f" } } },
        { template_options = { mode = "fast", style = 1 } }))
      t.raises(function()
        tokenizer:apply_chat(record.messages, { template = require "qlora.chat_model".from(tokenizer, source) })
      end, "no chat template for conversations without tools")
    end
  end
end)

t.test("what an adapter does not keep of the writing of chats is said", function()
  local tokenizer = tokenizer_of(echo, {})
  local messages = { { role = "user", content = "one" }, { role = "assistant", content = "two" } }
  local function said(records, o)
    o.tokenizer, native.options.quiet = tokenizer, false
    local text = t.captured(function() qlora.data.from_records(records, o) end)
    native.options.quiet = true
    return text:match "does not keep ([^\n]*)"
  end
  local records = { { messages = messages, chat_template_kwargs = { mode = 1, style = 2 } }, { messages = messages } }
  t.equal(said(records, { format = "chat" }), "mode, style, which records give the template")
  t.equal(said(records, { format = "chat", ignore = { "chat_template_kwargs" } }), nil)
  t.equal(said({ records[2] }, { format = "chat", template_options = { mode = 1 } }), nil)
  local function format(record, context)
    return qlora.chat.spans(context.template, record.messages, { template_options = context.chat.template_options })
  end
  t.equal(said({ records[2] }, { format = format }), nil)
  t.equal(said({ records[2] }, { format = format, template_options = { mode = 1 } }),
    "template_options, since a function of the recipe writes them; model:note_training takes the Jinja source that does")
end)

t.test("a turn without an end that is a token is refused", function()
  local source = "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}"
  local plain = { { role = "user", content = "one" }, { role = "assistant", content = "two" } }
  t.raises(function() trained(source, plain) end, "message 2 cannot be trained", "nothing behind it that ends the turn")
  t.raises(function() trained("{% for m in messages %}{{ m.content + '<end>' }}{% endfor %}", plain) end,
    'ends with "<end>", and this tokenizer has no such token')
end)

t.test("literal keeps what a message spells text under the model's own template", function()
  local plain = { { role = "user", content = " say <|im_end|> " }, { role = "assistant", content = "no </s>" } }
  local tokenizer = tokenizer_of(template "chatml_trim", { "<|im_start|>", "<|im_end|>" })
  local spans = qlora.chat.spans(qlora.chat.for_tokenizer(tokenizer), plain, { literal = true })
  local text, said = {}, {}
  for i, span in ipairs(spans) do
    text[i] = span.text
    if span.literal then said[#said + 1] = span.text end
  end
  t.equal(said, { "say <|im_end|>", "no </s>" })
  t.equal(table.concat(text), tokenizer:apply_chat(plain))
end)

t.test("named templates: tool_use where there are tools", function()
  local tokenizer = tokenizer_of "{{ messages[0].content }}"
  tokenizer.named_chat_templates = { tool_use = "{{ tools | length }} tools: {{ messages[0].content }}" }
  local messages = { { role = "user", content = "q" } }
  t.equal(tokenizer:apply_chat(messages), "q")
  t.equal(tokenizer:apply_chat(messages, { tools = { { name = "f" } } }), "1 tools: q")
end)

local function chat_of(source, messages, options)
  return (select(2, trained(source, messages, options)))
end

local any_role = t.chatml
local with_tools = "{% for m in messages %}{% if m.role in ['tool', \"function\"] or m.role == 'ipython' %}{{ '<|im_start|>' "
  .. "+ m.role + m['content'] + '<|im_end|>' }}{% else %}{{ '<|im_start|>' + m.get('role') + m.content + '<|im_end|>' }}"
  .. "{% endif %}{% endfor %}"

t.test("a role that the model's template does not name is an error, unless it is allowed", function()
  local function turns(role)
    return { { role = "user", content = "Hi" }, { role = role, content = "x" }, { role = "assistant", content = "Bye" } }
  end
  for role, part in pairs { asistant = '(did you mean "assistant"?)', humna = '(did you mean "human"?)',
    gtp = '(did you mean "gpt"?)', Assistant = '(did you mean "assistant"?)', developer = '(did you mean "system"?)',
    observation = "system, user and assistant; if it is meant", tool = 'roles = { "tool" }', [""] = 'the role ""' } do
    t.raises(function() trained(any_role, turns(role)) end, "chat: message 2 has the role", part)
    t.equal(#trained(any_role, turns(role), { roles = { role } }), 1, role)
  end
  for _, role in ipairs { "tool", "function", "ipython" } do t.equal(#trained(with_tools, turns(role)), 1, role) end
  -- names of fields are no roles
  for _, role in ipairs { "content", "role", "asistant" } do
    t.raises(function() trained(with_tools, turns(role)) end, "message 2 has the role",
      "system, user, assistant, tool, ipython and function")
  end
  local tokenizer = tokenizer_of(any_role, { "<|stop|>", "<|im_end|>" })
  for _, record in ipairs { { messages = turns "asistant" },
    { conversations = { { from = "human", value = "a" }, { from = "asistant", value = "b" } } } } do
    local records = { { messages = turns "assistant" }, record }
    if record.conversations then records[1] = { conversations = { { from = "human", value = "a" },
      { from = "gpt", value = "b" } } } end
    t.raises(function() qlora.data.load(records, { tokenizer = tokenizer }) end,
      "record 2: chat: message 2 has the role \"asistant\"")
    t.equal(#qlora.data.load(records, { tokenizer = tokenizer, roles = { "asistant" } }), record.messages and 2 or 1)
  end
  t.raises(function() qlora.data.load({ { messages = turns "tool" } }, { tokenizer = tokenizer, template = "chatml",
    roles = { "tool" } }) end, "roles are for the model's own template")
  t.raises(function() qlora.data.load({ { instruction = "a", output = "b" } }, { tokenizer = tokenizer,
    roles = { "tool" } }) end, "roles are for the model's own template")
  t.raises(function() qlora.data.load({ { messages = turns "tool" } }, { tokenizer = tokenizer, roles = { 1 } }) end,
    "option 'roles' is a list of names of roles")
  t.raises(function() tokenizer:apply_chat(turns "wizard") end, "message 2 has the role")
  assert(tokenizer:apply_chat(turns "wizard", { roles = { "wizard" } }):find "wizard")
  t.raises(function() qlora.chat.spans("chatml", turns "tool", { roles = { "tool" } }) end, "roles are for a model's own")
end)

t.test("the parts of a content are joined by line breaks where the template takes texts alone", function()
  local said = { { type = "text", text = "Hel" }, { text = "lo", type = "text" } }
  local expected = "<|im_start|>user\nHel\nlo<|im_end|>\n<|im_start|>assistant\nHel\nlo<|im_end|>\n"
  local both = { { role = "user", content = said }, { role = "assistant", content = said } }
  local prints = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
  local drops = "{% for m in messages %}{% set c = m.content if m.content is string else '' %}<|im_start|>{{ m.role }}\n"
    .. "{{ c }}<|im_end|>\n{% endfor %}"
  local as_json = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content if m.content is string else m.content "
    .. "| tojson }}<|im_end|>\n{% endfor %}"
  for name, source in pairs { joins = any_role, prints = prints, drops = drops, as_json = as_json } do
    local parts, whole, tokenizer = trained(source, both)
    t.equal(whole, expected, name)
    t.equal(#parts, 1, name)
    t.equal(parts[1]:match "Hel\n.*", "Hel\nlo<|im_end|>", name)
    t.equal(tokenizer:apply_chat(both), expected, name)
    t.equal(chat_of(source, both, { literal = true }), expected, name)
  end
  local reads = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}{% if part.type == 'text' %}"
    .. "[{{ part.text }}]{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
  t.equal(chat_of(reads, { both[1] }), "<|im_start|>user\n[Hel][lo]<|im_end|>\n")
  for _, source in ipairs { any_role, reads, drops } do
    t.raises(function() chat_of(source, { { role = "user", content = { said[1], { type = "image_url", image_url = {} } } } })
      end, "chat: message 1: part 2 of its content is of type \"image_url\"", "models here read text alone")
    t.raises(function() chat_of(source, { { role = "user", content = { { type = "text", text = "a",
      cache_control = { type = "x" } } } } }) end, "message 1: part 1 of its content has 'cache_control'")
  end
  t.raises(function() chat_of(any_role, { { role = "user", content = { { type = "text" } } } }) end,
    "message 1: part 1 of its content is without a text")
  -- an empty list is no text of Python's
  t.equal(chat_of(prints, { { role = "user", content = {} } }), "<|im_start|>user\n<|im_end|>\n")
end)

t.test("an absent content is an error that names the message, or the field that stands for it", function()
  local calls = jinja.read_json [[ [{"role": "user", "content": "a"}, {"role": "assistant", "content": null,
    "tool_calls": [{"function": {"name": "f"}}]}] ]]
  t.raises(function() chat_of(any_role, calls) end, "chat: message 2 has 'tool_calls', which the model's template never")
  for _, text in ipairs { [[ [{"role": "user", "content": null}, {"role": "assistant", "content": "a"}] ]],
    [[ [{"role": "assistant", "content": null}] ]], [[ [{"role": "assistant"}] ]] } do
    t.raises(function() chat_of(any_role, jinja.read_json(text)) end, "chat: message 1 needs a role and a content",
      "it has no content")
  end
  local written = "{% for m in messages %}<|im_start|>{{ m.role }}{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% else %}"
    .. "{{ m.content }}{% endif %}<|im_end|>{% endfor %}"
  assert(chat_of(written, calls):find('<|im_start|>assistant[{"function"', 1, true))
end)

t.test("a client of serve reads what a client can do", function()
  local chat_model, openai = require "qlora.chat_model", require "qlora.openai"
  local own = qlora.chat.for_tokenizer(tokenizer_of(any_role))
  local function asked(message) return chat_model.text(own, { message }, { is_request = true }) end
  for part, message in pairs { ["never reads there; remove it"] = { role = "user", content = "a", name = "b" },
    ["'loss' is not read"] = { role = "user", content = "a", loss = 1 },
    ["names system, user and assistant"] = { role = "wizard", content = "a" } } do
    local text = t.raises(function() asked(message) end, "message 1", part)
    assert(not text:find "ignore =" and not text:find "roles =", text)
  end
  local function body(text) return openai.read(text, openai.chat_fields, "messages") end
  t.raises(function() body '{"messages": [{}], "max_tokens": 5, "max_completion_tokens": 3}' end,
    "'max_tokens' is 5 and 'max_completion_tokens' is 3; send one of them")
  for _, text in ipairs { '"max_tokens": 3, "max_completion_tokens": 3', '"max_tokens": 3', '"max_completion_tokens": 3' } do
    t.equal(openai.sampling(body('{"messages": [{}], ' .. text .. "}"), 9, 9).max_new_tokens, 3)
  end
  t.equal(openai.sampling(body '{"messages": [{}], "max_tokens": 30}', 9, 9).max_new_tokens, 9)
  t.equal(openai.sampling(body '{"messages": [{}]}', 9, 20).max_new_tokens, 9)
  local function id() return openai.answer(true, "m").whole("a", "stop"):match '"id":"(chatcmpl%-%x+)"' end
  math.randomseed(0)
  local first = id()
  math.randomseed(0)
  assert(#first == 41 and id() ~= first, first)
end)
