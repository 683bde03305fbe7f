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
  for _, name in ipairs { "os", "io", "require", "load", "string", "_G", "__index", "setmetatable", "qlora" } do
    t.equal(jinja.render("{{ " .. name .. " is defined }}{{ ''." .. name .. " is defined }}", {}), "FalseFalse", name)
  end
  for source, part in pairs {
    ["{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"] = "steps",
    ["{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"] = "too deeply",
    ["{{ 'a' * 999999999 }}"] = "grows above",
    ["{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}"] = "grows",
    ["{% set ns = namespace(x=[]) %}{% for i in range(99) %}{% set ns.x = [ns.x] %}{% endfor %}"
      .. "{% for i in range(99) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}"] = "too deeply",
    ["{{ range(999999999) }}"] = "Range too big",
    [("("):rep(999) .. "{{ " .. ("("):rep(999) .. ("1"):rep(1) .. (")"):rep(999) .. " }}"] = "nested too deeply",
  } do t.raises(function() jinja.render(source, {}) end, part) end
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
