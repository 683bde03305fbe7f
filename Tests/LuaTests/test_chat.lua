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
